"""What a run will cost: a few images are drawn and timed, and nothing is kept."""

from __future__ import annotations

import io
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from prismkd.config import METHODS
from prismkd.prompts.plan import PROBE_SEED
from prismkd.runs.run import Run
from prismkd.runs.workers import device_names
from prismkd.shards import Encoding
from prismkd.shards.samples import pack


@dataclass(frozen=True)
class MethodCost:
    """One method, over all seeds: seconds and bytes per image as measured, and what they come to on one device."""

    method: str
    images: int
    seconds_per_image: float
    bytes_per_image: float

    @property
    def hours(self) -> float:
        """Of one device."""
        return self.images * self.seconds_per_image / 3600

    @property
    def gigabytes(self) -> float:
        """Of storage."""
        return self.images * self.bytes_per_image / 1e9


@dataclass(frozen=True)
class Estimate:
    """What all methods cost together.

    Attributes:
        num_devices: that draw at the same time on this machine.
        price: per device and hour, in any currency; 0 where none was given.
    """

    methods: list[MethodCost]
    num_measured: int
    num_devices: int
    price: float

    @property
    def device_hours(self) -> float:
        """Over all methods."""
        return sum(method.hours for method in self.methods)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        rows = [asdict(row) | {"hours": row.hours, "gigabytes": row.gigabytes} for row in self.methods]
        return {
            "methods": rows,
            "num_measured": self.num_measured,
            "num_devices": self.num_devices,
            "device_hours": self.device_hours,
            "hours": self.device_hours / self.num_devices,
            "gigabytes": sum(row.gigabytes for row in self.methods),
            "cost": self.device_hours * self.price if self.price else None,
        }


def estimate(run: Run, price: float) -> Estimate:
    """Draw two batches without and with guidance, time the second of each, and count up."""
    config, rows = run.config, []
    methods = [METHODS[name] for name in config.methods if METHODS[name].draws_images]
    measured = {guided: _measure(run, guided) for guided in {method.guided for method in methods}}
    for method in methods:
        images = config.synthesis.images_per_class * len(run.classes) * len(config.seeds)
        seconds, size = measured[method.guided]
        if method.budget_of:  # unguided images for the seconds of guided ones
            images = round(images * measured[True][0] / seconds)
        rows.append(MethodCost(method.name, images, seconds, size))
    devices = config.synthesis.num_workers or len(device_names(config.generator.device))
    return Estimate(rows, run.config.generator.batch_size, devices, price)


def _measure(run: Run, guided: bool) -> tuple[float, float]:
    """Seconds and bytes per image, of the second of two batches."""
    size, config = run.config.generator.batch_size, run.config
    plan, synthesizer = run.plan("plain", PROBE_SEED), run.synthesizer("plain")
    with run.track(f"measuring {'guided' if guided else 'unguided'} images", 2 * size) as progress:
        if guided:
            few = replace(config.guidance, num_calibration_images=2 * size)
            synthesizer = replace(synthesizer, guidance=config.guidance, calibration=run.calibrate(few))
        encoding = Encoding(config.synthesis.image_format, config.synthesis.image_quality)
        seconds, stored = 0.0, io.BytesIO()
        for batch in (range(size), range(size, 2 * size)):
            start, stored = time.monotonic(), io.BytesIO()
            pack(synthesizer.samples([plan[i] for i in batch], progress), stored, encoding)
            seconds = time.monotonic() - start
    return seconds / size, stored.tell() / size
