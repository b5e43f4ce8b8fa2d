"""What a run will cost, stage by stage: a few images and steps are timed, and nothing is kept.

Measuring takes about a tenth of what it estimates at most: its sizes follow from the plan's. Where that leaves room for
one small batch only, its time is taken for that of a large one.
"""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from prismkd.adaptation import adapt
from prismkd.adaptation.check import IMAGES_PER_CLASS
from prismkd.classifiers import predict
from prismkd.commands.preview import preview
from prismkd.config import METHODS, Config, Method
from prismkd.distillation import TrainingSet
from prismkd.evaluation.students import logits_of
from prismkd.progress import Progress
from prismkd.prompts.plan import PROBE_SEED
from prismkd.records.directory import HELD_OUT, adapter_folder, held_out_folder
from prismkd.runs.run import Run
from prismkd.runs.training import recipes
from prismkd.runs.workers import device_names
from prismkd.shards import Encoding, is_begun
from prismkd.shards.samples import pack
from prismkd.synthesis.synthesizer import Synthesizer

SHARE = 0.05  # of a stage's work that is done to measure it; with calibrating and loading it stays about a tenth
FIRST_SHARE = 1 / 80  # of it in the first batch, which also warms up
GROWTH = 4  # times the images of the batch before
# Stages whose work grows with the run's sizes
IMAGES, GUIDES, DISTILLATION = "images", "guides between rounds", "distillation"
MAX_STEPS = 9  # of training that are timed, the first of which doesn't count


@dataclass(frozen=True)
class StageCost:
    """One part of a run's work, over all seeds.

    Attributes:
        stage: what is done, in words.
        method: for which method; empty where all share it.
        count, unit: how much of what; an empty unit is a thing that is done once.
        seconds_each: of one device, as measured.
        bytes_each: on the disk.
        num_devices: that share the work.
    """

    stage: str
    method: str
    count: int
    unit: str
    seconds_each: float
    bytes_each: float = 0.0
    num_devices: int = 1

    @property
    def device_minutes(self) -> float:
        """Of all devices together."""
        return self.count * self.seconds_each / 60

    @property
    def minutes(self) -> float:
        """Until it is done."""
        return self.device_minutes / self.num_devices

    @property
    def gigabytes(self) -> float:
        """Of storage."""
        return self.count * self.bytes_each / 1e9

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"minutes": self.minutes, "gigabytes": self.gigabytes}


@dataclass(frozen=True)
class Estimate:
    """What all stages cost together.

    Attributes:
        stages: in the order of work.
        measured: units that were timed, by what they are.
        seconds: that measuring took, loading the models included.
        num_devices: that draw at the same time.
        price: per device and hour, in any currency; 0 where none was given.
    """

    stages: list[StageCost]
    measured: dict[str, int]
    seconds: float
    num_devices: int
    price: float

    @property
    def minutes(self) -> float:
        """Until all is done."""
        return sum(stage.minutes for stage in self.stages)

    @property
    def device_minutes(self) -> float:
        """That have to be paid for: while one process works alone, the other devices are not counted."""
        return sum(stage.device_minutes for stage in self.stages)

    @property
    def gigabytes(self) -> float:
        """Of storage."""
        return sum(stage.gigabytes for stage in self.stages)

    @property
    def cost(self) -> float | None:
        """At the price; None where none was given."""
        return self.device_minutes / 60 * self.price if self.price else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "stages": [stage.to_dict() for stage in self.stages],
            "num_devices": self.num_devices,
            "minutes": self.minutes,
            "device_minutes": self.device_minutes,
            "gigabytes": self.gigabytes,
            "cost": self.cost,
            "measured": self.measured,
            "measured_in_seconds": self.seconds,
        }


def estimate(run: Run, price: float) -> Estimate:
    """Time a few images without and with guidance, a few steps of training and a few test images, and count up."""
    start = time.monotonic()
    generator = run.generator  # loaded here and not in the first measurement
    loading = time.monotonic() - start
    amounts = Amounts.of(run)
    images = ImageTimer(run, generator.batch_size)
    unguided = images.measure(amounts.num_unguided, guided=False)
    guided = images.measure(amounts.num_guided, guided=True) if amounts.num_guided else unguided
    adapter = _measure_adapter(run, images, amounts.num_guided) if amounts.adapter_steps else Measured(0.0, 0)
    steps = measure_steps(run, amounts.num_steps, images.image_shape)
    seen = _measure_seen(run, amounts.num_seen)
    stages = [StageCost("loading the models", "", 1, "", loading)]
    stages += _preparation(amounts, unguided)
    stages.append(StageCost("adapter", "", amounts.adapter_steps, "steps", adapter.seconds))
    stages += _images(run, amounts, unguided, guided)
    stages.append(StageCost(GUIDES, "", amounts.guide_steps, "steps", steps.seconds))
    stages += [StageCost(DISTILLATION, "", amounts.num_steps, "steps", steps.seconds),
               StageCost("evaluation", "", amounts.num_seen, "images", seen.seconds)]  # fmt: skip
    measured = {"unguided images": unguided.measured, "guided images": guided.measured if amounts.num_guided else 0,
                "adapter steps": adapter.measured, "training steps": steps.measured,
                "evaluated images": seen.measured}  # fmt: skip
    found = [stage for stage in stages if stage.count]
    return Estimate(found, measured, time.monotonic() - start, amounts.num_devices, price)


# --- how much there is to do -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Amounts:
    """How many images and steps a run asks for.

    Attributes:
        sense_probes, content_probes, calibration: unguided images that prepare the prompts and the guidance.
        adapter_steps: of the generator's adapter, where a method draws with one.
        adapter_checks: unguided images that the teacher looks at meanwhile.
        held_out: unguided images that measure students where there are no test images.
        images: of each method but ``more``, over all seeds.
        guide_steps: of the students between rounds.
        num_steps: of training, over all students.
        num_seen: images that networks look at in the evaluation.
        num_devices: that draw at the same time.
    """

    sense_probes: int
    content_probes: int
    calibration: int
    adapter_steps: int
    adapter_checks: int
    held_out: int
    images: dict[str, int]
    guide_steps: int
    num_steps: int
    num_seen: int
    num_devices: int

    @classmethod
    def of(cls, run: Run) -> Amounts:
        """Those of a run; what it has decided already costs nothing more."""
        config, cost = run.config, preview(run.config, 0, run.directory).cost
        methods = [METHODS[name] for name in config.methods]
        diversified = any(method.diversified for method in methods)
        calibrates = (
            any(method.guided or method.adapted for method in methods)
            and not (run.directory / "calibration.json").is_file()
        )
        adapts = any(method.adapted for method in methods) and not adapter_folder(run.directory).exists()
        adaptation = config.adaptation
        looks = 1 + -(-adaptation.num_steps // adaptation.check_every)
        drawn = [method.name for method in methods if method.draws_images and not method.budget_of]
        num_datasets = len(methods) * len(config.seeds)
        return cls(
            sense_probes=cost.sense_probes * diversified,
            content_probes=cost.content_probes * diversified,
            calibration=config.guidance.num_calibration_images * calibrates,
            adapter_steps=adaptation.num_steps * adapts,
            adapter_checks=adaptation.num_check_images * looks * adapts,
            held_out=_num_held_out(run),
            images={name: cost.images * len(config.seeds) for name in drawn},
            guide_steps=sum(_guide_steps(config) for method in methods if method.in_rounds) * len(config.seeds),
            num_steps=config.distillation.num_steps * num_datasets * len(recipes(config)),
            num_seen=_num_seen(run, cost.images),
            num_devices=_num_devices(run),
        )

    @property
    def num_unguided(self) -> int:
        """Images that are drawn without guidance, but for those of ``more``, which are known only with their speed."""
        plans = sum(count for name, count in self.images.items() if not METHODS[name].guided)
        probes = self.sense_probes + self.content_probes + self.calibration + self.adapter_checks
        return probes + self.held_out + plans

    @property
    def num_guided(self) -> int:
        """Images that are drawn with guidance."""
        return sum(count for name, count in self.images.items() if METHODS[name].guided)


def _guide_steps(config: Config) -> int:
    """Of all guides of one dataset: each takes the share of a student's steps that the images before it are."""
    parts = config.rounds.num_rounds
    return sum(round(config.distillation.num_steps * part / parts) for part in range(1, parts))


def _num_held_out(run: Run) -> int:
    """Held-out images of both kinds that are still to be drawn; only text makes diverse ones."""
    config = run.config.evaluation
    kinds = list(HELD_OUT)[: 2 if run.generator.takes_text else 1]
    missing = [kind for kind in kinds if not is_begun(held_out_folder(run.directory, kind))]
    return 0 if config.source else config.num_held_out * len(missing)


def _num_seen(run: Run, num_images: int) -> int:
    """Test images, or held-out ones, by the teacher and every student, and each data set's by teacher and judge."""
    config = run.config
    num_test = len(run.test) if config.evaluation.source else 2 * config.evaluation.num_held_out
    num_datasets = len(config.methods) * len(config.seeds)
    judged = 2 * min(num_images, config.evaluation.max_images) * num_datasets if config.evaluation.judge else 0
    return num_test * (1 + num_datasets * len(recipes(config))) + judged


def _num_devices(run: Run) -> int:
    """Devices that draw at the same time; more workers than devices share them."""
    config = run.config.synthesis
    if config.executor == "ray":
        return max(1, config.num_workers)
    devices = len(device_names(run.config.generator.device))
    return min(config.num_workers or devices, devices)


def _preparation(amounts: Amounts, unguided: Measured) -> list[StageCost]:
    """What one process draws before the images."""
    counts = {"sense probes": amounts.sense_probes, "content probes, at most": amounts.content_probes,
              "calibration": amounts.calibration, "adapter's checks": amounts.adapter_checks,
              "held-out images": amounts.held_out}  # fmt: skip
    return [StageCost(stage, "", count, "images", unguided.seconds) for stage, count in counts.items()]


def _images(run: Run, amounts: Amounts, unguided: Measured, guided: Measured) -> list[StageCost]:
    """The images of each method, which the devices share."""
    rows, devices = [], amounts.num_devices
    for method in (METHODS[name] for name in run.config.methods if METHODS[name].draws_images):
        count = amounts.images.get(method.name) or _bought(run, amounts, method, unguided, guided)
        each = guided if method.guided else unguided
        seconds = _seconds_each(run, method, unguided, guided)
        rows.append(StageCost(IMAGES, method.name, count, "images", seconds, each.size, devices))
    return rows


def _seconds_each(run: Run, method: Method, unguided: Measured, guided: Measured) -> float:
    """Of an image of a method, whose prompts may be guided in part."""
    if not method.guided:
        return unguided.seconds
    share = run.prompts.id_share if method.guides_in_part(run.config.guidance.domains) else 1.0
    return unguided.seconds + share * (guided.seconds - unguided.seconds)


def _bought(run: Run, amounts: Amounts, method: Method, unguided: Measured, guided: Measured) -> int:
    """Unguided images for the seconds that guided ones take, their preparation included."""
    seeds = len(run.config.seeds)
    planned = run.config.synthesis.images_per_class * len(run.classes) * seeds
    preparation = (amounts.sense_probes + amounts.content_probes + amounts.calibration) * seeds
    prism = _seconds_each(run, METHODS[method.budget_of[-1]], unguided, guided)
    return max(planned, preparation + round(planned * prism / unguided.seconds))


# --- measuring -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Seconds and bytes of one unit, and how many were timed."""

    seconds: float
    measured: int
    size: float = 0.0


def timed(work: Callable[[int], float], planned: int, largest: int) -> Measured:
    """Seconds of one unit of work, from growing batches that together are ``SHARE`` of what is planned.

    The last batch counts, which is the one nearest to the real size and warmed up by those before.

    Args:
        work: does so many units at once, and returns the bytes that came of them.
        planned: units.
        largest: batch.
    """
    sizes = batch_sizes(planned, largest)
    seconds, size = 0.0, 0.0
    for batch in sizes:
        start = time.monotonic()
        size = work(batch) / batch
        seconds = (time.monotonic() - start) / batch
    return Measured(seconds, sum(sizes), size)


def batch_sizes(planned: int, largest: int) -> list[int]:
    """The batches that ``timed`` takes: after one of full size that wasn't the first, the machine is warm."""
    sizes = [max(1, min(largest, int(planned * FIRST_SHARE)))]
    while len(sizes) == 1 or sizes[-1] < largest:
        batch = min(largest, GROWTH * sizes[-1], int(SHARE * planned) - sum(sizes))
        if batch < sum(sizes) / GROWTH or batch < 1:
            break
        sizes.append(batch)
    return sizes


class ImageTimer:
    """Draws and encodes images of plain prompts, to be thrown away."""

    def __init__(self, run: Run, batch_size: int) -> None:
        self.run, self.batch_size = run, batch_size
        self.plan = run.plan("plain", PROBE_SEED)
        self.image_shape: tuple[int, ...] = ()

    def measure(self, planned: int, *, guided: bool) -> Measured:
        """Seconds and bytes of one image."""
        title = f"measuring {'guided' if guided else 'unguided'} images"
        with self.run.track(title, sum(batch_sizes(planned, self.batch_size))) as progress:
            synthesizer = Synthesizer(self.run.generator, self.run.teacher)
            if guided:
                synthesizer = self.guided(synthesizer, planned)
            return timed(lambda count: self._draw(synthesizer, count, progress), planned, self.batch_size)

    def guided(self, synthesizer: Synthesizer, planned: int) -> Synthesizer:
        """With the run's own targets, or with those of very few images: they only decide how many need no gradient."""
        run, guidance = self.run, self.run.config.guidance
        if (run.directory / "calibration.json").is_file():
            return replace(synthesizer, guidance=guidance, calibration=run.calibration)
        few = max(1, min(self.batch_size, int(planned * FIRST_SHARE / 2)))
        calibration = run.calibrate(replace(guidance, num_calibration_images=few))
        return replace(synthesizer, guidance=guidance, calibration=calibration)

    def _draw(self, synthesizer: Synthesizer, count: int, progress: Progress) -> float:
        config, stored = self.run.config.synthesis, io.BytesIO()
        samples = list(synthesizer.samples([self.plan[index] for index in range(count)], progress))
        pack(samples, stored, Encoding(config.image_format, config.image_quality))
        if samples:
            pixels = samples[0].image
            self.image_shape = (1, *pixels.shape) if pixels.ndim == 2 else (pixels.shape[2], *pixels.shape[:2])
        stored.seek(0)
        with tarfile.open(fileobj=stored) as tar:  # without the tar's end, which a small batch has as well
            return float(sum(512 + -(-member.size // 512) * 512 for member in tar))


def measure_steps(run: Run, planned: int, image_shape: tuple[int, ...]) -> Measured:
    """Seconds of one step of training, on random images of the size that is drawn."""
    count = max(1, min(MAX_STEPS, int(SHARE * planned)))
    recipe = replace(run.config.distillation, num_steps=count, real_share=0.0, auxiliary_batch_norm=False)
    side = run.world.stored_side  # the training reads images that were resized once, which isn't timed here
    image_shape = image_shape if side is None else (image_shape[0], side, side)
    size = min(recipe.batch_size, 256)  # images to draw batches from: more of them take no more time
    images = torch.randint(0, 256, (size, *image_shape), dtype=torch.uint8)
    labels = torch.randint(0, len(run.classes), (size,))
    times: list[float] = []

    @contextmanager
    def clock(description: str, total: int) -> Iterator[Progress]:
        times.append(time.monotonic())
        yield step

    def step(done: int) -> None:
        times.append(time.monotonic())
        progress(done)

    with run.track("measuring training steps", count) as progress:
        replace(run, track=clock).distill(TrainingSet(images, labels), recipe=recipe, teacher=run.teacher)
    if count > 1:  # the first step loads and plans
        times = times[1:]
    return Measured((times[-1] - times[0]) / max(1, len(times) - 1), count)


def _measure_adapter(run: Run, images: ImageTimer, planned: int) -> Measured:
    """Seconds of a training step of the generator's adapter: the second of two, thrown away."""
    times, steps = list[float](), 2
    config = replace(run.config.adaptation, num_steps=steps, check_every=steps, num_check_images=IMAGES_PER_CLASS)
    synthesizer = images.guided(Synthesizer(run.generator, run.teacher), planned)
    with TemporaryDirectory() as folder, run.track("measuring the adapter", steps) as progress:

        def clock(count: int) -> None:
            times.append(time.monotonic())
            progress(count)

        adapt(synthesizer, images.plan, config, Path(folder), progress=clock)
    return Measured(times[-1] - times[-2], steps)


def _measure_seen(run: Run, planned: int) -> Measured:
    """Seconds of the teacher for one test image, read from the disk as the evaluation reads it, or for a drawn one."""
    if not run.config.evaluation.source:
        return _measure_teacher(run, planned)
    test = run.test
    largest = min(len(test), 64)

    def look(count: int) -> float:
        progress(count)
        chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:count].numpy()
        logits_of(run.teacher, test.subset(chosen))
        return 0.0

    with run.track("measuring the evaluation", sum(batch_sizes(planned, largest))) as progress:
        return timed(look, planned, largest)


def _measure_teacher(run: Run, planned: int) -> Measured:
    side = run.teacher.input_size or run.generator.image_size

    def look(count: int) -> float:
        progress(count)
        predict(run.teacher, torch.rand(count, run.teacher.in_channels, side, side))
        return 0.0

    with run.track("measuring the evaluation", sum(batch_sizes(planned, 64))) as progress:
        return timed(look, planned, 64)
