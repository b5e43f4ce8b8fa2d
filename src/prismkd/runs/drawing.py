"""The synthesize stage: every method's data set, drawn by whoever does the work, shard by shard."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from prismkd import __version__
from prismkd.shards.card import write_card
from prismkd.config import METHODS
from prismkd.records.directory import read_json, recorded_config, write_json
from prismkd.errors import UserError
from prismkd.synthesis.workers import Policy, Pool, Unit, check_rank, units_of_rank
from prismkd.synthesis.workers.inline import InlineWorker
from prismkd.synthesis.workers.process import ProcessWorker
from prismkd.generators.load import fingerprint
from prismkd.generators import generator_folder
from prismkd.guidance import Calibration
from prismkd.records.lock import locked
from prismkd.prompts.plan import PROBE_SEED
from prismkd.synthesis.calibrate import run_calibration
from prismkd.runs.prompts import allocated_plan, load_plan, pilot_size
from prismkd.prompts import plain_plan
from prismkd.runs.run import Run, silent
from prismkd.shards import (
    Encoding,
    Manifest,
    Storage,
    claim,
    clear,
    give_up,
    inspect,
    is_begun,
    read_manifest,
    scan,
    try_again,
)
from prismkd.synthesis.synthesizer import Synthesizer, run_shard
from prismkd.errors import warn

POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Share:
    """Which part of the shards is this process's: ``rank`` of ``world``. Raises UserError where they don't fit."""

    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        check_rank(self.rank, self.world)


def synthesize(run: Run, share: Share = Share()) -> None:
    """Draw every method's images."""
    for seed, method in run.jobs:
        if method != "real":
            images = run.images(seed, method)
            _synthesize_one(run, seed, method, images, _claimed(run, seed, method, images), share)


def prepare(run: Run) -> None:
    """Write every data set's manifest, so that the ranks of an array job find all decided."""
    for seed, method in run.jobs:
        if METHODS[method].draws_images and not METHODS[method].budget_of:
            _claimed(run, seed, method, run.images(seed, method))


def repair(run: Run) -> None:
    """Read every byte of the data sets again, and draw again what is not as it should be."""
    for seed, method in run.jobs:
        images = run.images(seed, method)
        if method != "real" and is_begun(images):
            manifest = _claimed(run, seed, method, images)
            with run.track(f"reading {method} (seed {seed})", manifest.num_images) as progress:
                findings = inspect(images, progress)[0]
            dropped = clear(images, findings)
            if dropped:
                warn(f"{dropped} shards of {images.url} are drawn again")
            _synthesize_one(run, seed, method, images, manifest, Share())


def _synthesize_one(run: Run, seed: int, method: str, images: Storage, manifest: Manifest, share: Share) -> None:
    found = scan(images, manifest.plan_hash)
    for reason in found.damaged.values():
        warn(f"{reason}; the shard is drawn again")
    ranges, pilot = manifest.ranges, manifest.identity["pilot"]
    todo = [shard for shard in range(len(ranges)) if shard not in found.records]
    if not todo:
        _finish(run, seed, method, images, manifest)
        return
    with run.track(f"images {method} (seed {seed})", manifest.num_images) as progress:
        progress(found.num_images)
        first = [shard for shard in todo if ranges[shard].start < pilot]
        rest = [shard for shard in todo if ranges[shard].start >= pilot]
        for part in (first, rest):
            if part is rest and pilot:
                _allocate(run, seed, method, images, manifest, set(found.failed))
            mine = units_of_rank(part, share.rank, share.world)
            if mine:
                try_again(images, found.failed.keys() & set(mine))
                _draw(run, seed, method, images, mine, progress)
    _finish(run, seed, method, images, manifest)


# --- what determines the images ----------------------------------------------------------------------------------


def _claimed(run: Run, seed: int, method: str, images: Storage) -> Manifest:
    """The data set's manifest: written, found again, or extended where the run asks for more images now."""
    with locked(run.directory, "prepare", wait=True):
        old = read_manifest(images)
        count = _num_images(run, seed, method)
        pilot = old.identity.get("pilot", 0) if old else pilot_size(run, method, count)
        config = run.config
        identity: dict[str, Any] = {
            "prompts": load_plan(run, seed, method).hash(),
            "teacher": run.teacher_digest,
            "generator": asdict(config.generator) | {"weights": fingerprint(generator_folder(config.generator))},
            "pilot": pilot,
        }
        for irrelevant in ("device", "offload", "compile"):
            del identity["generator"][irrelevant]
        if METHODS[method].guided:
            identity |= {"guidance": asdict(config.guidance), "calibration": asdict(calibration(run))}
        ends = (pilot, count) if 0 < pilot < count else (count,)
        encoding = Encoding(config.synthesis.image_format, config.synthesis.image_quality)
        names = tuple(item.name for item in run.classes)
        return claim(images, Manifest(identity, ends, config.synthesis.shard_size, names, encoding))


def _num_images(run: Run, seed: int, method: str) -> int:
    """Images of a method; ``more`` gets as many as PRISM's seconds, its own preparation included, would buy plain."""
    count = run.config.synthesis.images_per_class * len(run.classes)
    if not METHODS[method].budget_of:
        return count
    path = run.folder(seed, method) / "budget.json"  # kept: a shard of PRISM's that is repaired takes other seconds
    if not path.is_file() or read_json(path)["of"] != count:
        plain, prism = (_summary(run, seed, name, count) for name in METHODS[method].budget_of)
        records = [run.directory / name for name in ("senses.json", "contents.json", "calibration.json")]
        preparation = sum(read_json(path)["seconds"] for path in records if path.is_file())
        bought = round(plain["num_images"] * (prism["seconds"] + preparation) / plain["seconds"])
        write_json(path, {"of": count, "num_images": max(count, bought)})
    return int(read_json(path)["num_images"])


def _summary(run: Run, seed: int, method: str, num_images: int) -> dict[str, Any]:
    """What a data set of so many planned images has cost. Raises UserError where it isn't drawn yet."""
    path = run.folder(seed, method) / "synthesis.json"
    summary = read_json(path) if path.is_file() else {}
    if summary.get("planned") != num_images:
        raise UserError(
            f"expected the {num_images} images of {method} (seed {seed}) before more, which spends what they "
            f"cost, got {summary.get('planned', 0)}; wait for the ranks that draw them, then give this command again"
        )
    return summary


def calibration(run: Run) -> Calibration:
    """The run's targets of guidance, measured once."""
    path = run.directory / "calibration.json"
    if not path.is_file():
        start = time.monotonic()
        plan = plain_plan(run.classes, PROBE_SEED, run.config.prompts.template)
        synthesizer = Synthesizer(run.generator, run.teacher)
        with run.track("calibration (unguided images)", run.config.guidance.num_calibration_images) as progress:
            found, energies = run_calibration(plan, synthesizer, run.config.guidance, progress)
        write_json(path, {**asdict(found), "num_images": len(energies), "energies": energies,
                          "seconds": time.monotonic() - start})  # fmt: skip
    data = read_json(path)
    return Calibration(*(data[field.name] for field in fields(Calibration)))


def _allocate(run: Run, seed: int, method: str, images: Storage, manifest: Manifest, old: set[int]) -> None:
    """Once the pilot is there, by whichever rank, let its coverage decide on the rest.

    ``old`` are shards that an earlier command gave up, and which other ranks may be trying again.
    """
    pilot = manifest.identity["pilot"]
    wanted = {shard for shard, indices in enumerate(manifest.ranges) if indices.start < pilot}
    heard, known = time.monotonic(), -1
    while missing := wanted - (found := scan(images)).records.keys():
        old &= found.failed.keys()
        if known != len(missing):
            heard, known = time.monotonic(), len(missing)
            warn(f"waiting for {len(missing)} shards of the pilot that other ranks draw")
        if time.monotonic() - heard > run.config.synthesis.timeout or missing & (found.failed.keys() - old):
            raise UserError(
                f"expected the pilot's shards of the other ranks in {images.url}, got none for "
                f"{run.config.synthesis.timeout:.0f} s ({len(missing)} missing, {len(found.failed)} given up); start "
                "those ranks, then give the same command again"
            )
        time.sleep(POLL_SECONDS)
    with locked(run.directory, "prepare", wait=True):
        allocated_plan(run, seed, method, load_plan(run, seed, method), pilot)


# --- drawing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenShards:
    """Opens a run's models in a worker process, and gives what draws a shard there; plain data, to be sent."""

    directory: Path
    seed: int
    method: str
    num_threads: int
    trust: bool

    def __call__(self, device: str) -> Unit:
        """Load the models onto ``device``."""
        if self.num_threads:
            torch.set_num_threads(self.num_threads)
        config = recorded_config(self.directory)
        config = replace(config, trust=self.trust, generator=replace(config.generator, device=device))
        return draws_shards(Run(config, self.directory, silent), self.seed, self.method)


def draws_shards(run: Run, seed: int, method: str) -> Unit:
    """What draws a shard of a data set by its number."""
    images = run.images(seed, method)
    manifest, plan = read_manifest(images), load_plan(run, seed, method)
    assert manifest is not None
    if (run.folder(seed, method) / "allocation.json").is_file():
        plan = allocated_plan(run, seed, method, plan, manifest.identity["pilot"])
    guided = METHODS[method].guided
    guidance, targets = (run.config.guidance, calibration(run)) if guided else (None, None)
    synthesizer = Synthesizer(run.generator, run.teacher, guidance, targets)
    ranges, plan_hash = manifest.ranges, manifest.plan_hash

    def draw(shard: int, progress: Any) -> None:
        run_shard(images, shard, plan, ranges[shard], synthesizer, plan_hash, progress, manifest.encoding)

    return draw


def _draw(run: Run, seed: int, method: str, images: Storage, shards: Sequence[int], progress: Any) -> None:
    """Draw shards with the run's executor; those that are given up are recorded."""
    config = run.config.synthesis
    policy = Policy(max_tries=config.max_tries, timeout=config.timeout, start_timeout=2 * config.timeout)
    workers = _workers(run, seed, method, progress)
    inline = config.executor == "local" and len(workers) == 1 and not config.num_workers
    failed = Pool(workers, policy, warn, pause=0.0 if inline else 0.02).run(shards, progress)
    for shard, reason in failed.items():
        give_up(images, shard, reason)
    if failed:
        shard, reason = next(iter(failed.items()))
        raise UserError(
            f"expected every shard of {images.url} to be drawn, got {len(failed)} of {len(shards)} given up (shard "
            f"{shard}: {reason}); give the same command again to try them once more; what is committed stays"
        )


def _workers(run: Run, seed: int, method: str, progress: Any) -> list[Any]:
    """Starters of the workers that the configuration asks for."""
    config = run.config
    devices, number = device_names(config.generator.device), config.synthesis.num_workers
    if config.synthesis.executor == "local" and not number and len(devices) == 1:
        return [lambda: InlineWorker(draws_shards(run, seed, method), progress)]
    if run.images(seed, method).is_passing:
        raise UserError(
            f"expected synthesis.storage that worker processes share, got {config.synthesis.storage}, this process's "
            "memory; name a folder or s3://bucket/folder, or draw with num_workers 0, executor local and one device"
        )
    if config.synthesis.executor == "ray":
        from prismkd.synthesis.workers.ray import ray_starters

        opened = OpenShards(run.directory.absolute(), seed, method, config.num_threads, run.config.trust)
        return ray_starters(opened, number, config.synthesis.ray_address)
    number = number or len(devices)
    threads = config.num_threads or max(1, (os.cpu_count() or 1) // number)
    opened = OpenShards(run.directory.absolute(), seed, method, threads, run.config.trust)
    return [partial(ProcessWorker, opened, devices[place % len(devices)]) for place in range(number)]


def device_names(name: str) -> list[str]:
    """Every accelerator of this machine where the device is ``auto`` and there are several, else the one."""
    if name == "auto" and torch.cuda.device_count() > 1:
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [name]


def _finish(run: Run, seed: int, method: str, images: Storage, manifest: Manifest) -> None:
    """Where all shards are there, whoever drew them: the summary, and what other tools want to know of the data set."""
    found = scan(images, manifest.plan_hash)
    left = len(manifest.missing(found.records))
    if left:
        warn(f"{left} of {len(manifest.ranges)} shards of {images.url} are left to other ranks")
        return
    folder = run.folder(seed, method)
    seconds = sum(record.seconds for record in found.records.values())
    if (folder / "allocation.json").is_file():
        seconds += read_json(folder / "allocation.json").get("seconds", 0.0)
    count = found.num_images
    summary = {"num_images": count, "planned": manifest.num_images, "seconds": seconds,
               "images_per_second": count / max(seconds, 1e-9),
               "bytes": sum(record.bytes for record in found.records.values()), "complete": True,
               "version": __version__}  # fmt: skip
    path = folder / "synthesis.json"
    with locked(run.directory, "prepare", wait=True):  # ranks may finish together
        if not path.is_file() or read_json(path) != summary:
            write_json(path, summary)
        write_card(images, manifest, found, f"{method} (seed {seed})")
