"""The synthesize stage: every dataset is drawn by whoever does the work, shard by shard."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prismkd import __version__
from prismkd.config import METHODS, GuidanceConfig
from prismkd.config.retired import RETIRED_GUIDANCE
from prismkd.errors import UserError, warn
from prismkd.files import write_json
from prismkd.progress import Progress
from prismkd.records.directory import read_json, read_json_if_any
from prismkd.records.lock import is_locked, locked, rank_lock, rank_locks
from prismkd.records.shapes import AllocationRecord, BudgetRecord, Spent, SynthesisRecord
from prismkd.runs.dataset import DrawnImages
from prismkd.runs.held_out import repair_held_out
from prismkd.runs.inputs import generator_identity
from prismkd.runs.rounds import has_guide, identity_of_rounds, rounds_of, seconds_of_guides, train_guide
from prismkd.runs.run import Run
from prismkd.runs.workers import starters, workers_per_device
from prismkd.shards import (
    Encoding,
    Manifest,
    claim,
    clear_failures,
    discard_broken,
    inspect,
    is_begun,
    read_manifest,
    record_failure,
    scan,
)
from prismkd.shards.card import write_card
from prismkd.synthesis.workers import Policy, Pool, check_rank, units_of_rank

POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Share:
    """Which part of the shards is this process's: ``rank`` of ``world``. Raises UserError where they don't fit."""

    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        check_rank(self.rank, self.world)


def synthesize(run: Run, share: Share = Share()) -> None:
    """Draw all images; last, by the first rank, those that are held out from training."""
    for dataset in run.drawn:
        _draw_missing(dataset, claim_dataset(dataset), share)
    if share.rank == 0:
        _ = run.held_out


def claim_datasets(run: Run) -> None:
    """Write every dataset's manifest, so that the ranks of an array job find all decided."""
    for dataset in run.drawn:
        if not METHODS[dataset.method].budget_of:  # its size follows from the seconds that the others take
            claim_dataset(dataset)


def repair(run: Run) -> None:
    """Read every byte of the datasets again, and draw again what is not as it should be."""
    for dataset in run.drawn:
        if not is_begun(dataset.storage):
            continue
        manifest = claim_dataset(dataset)
        with run.track(f"reading {dataset.title}", manifest.num_images) as progress:
            findings = inspect(dataset.storage, progress)[0]
        dropped = discard_broken(dataset.storage, findings)
        if dropped:
            warn(f"{dropped} shards of {dataset.storage.url} are drawn again")
        _draw_missing(dataset, manifest, Share())
    repair_held_out(run)


def _draw_missing(dataset: DrawnImages, manifest: Manifest, share: Share) -> None:
    """Draw this process's share of the shards that aren't there, part by part: each decides about the next."""
    ledger = scan(dataset.storage, manifest.plan_hash)
    for reason in ledger.damaged.values():
        warn(f"{reason}; the shard is drawn again")
    missing, ends = manifest.missing(ledger.records), deciding_ends(dataset, manifest)
    for number, (start, end) in enumerate(itertools.pairwise((0, *ends, manifest.num_images)), start=1):
        part = [shard for shard in missing if start <= manifest.ranges[shard].start < end]
        if part:
            with _counting_images(dataset, manifest, share, range(start, end)) as progress:
                _draw_share(dataset, part, share, ledger.failed, progress)
        if not missing or end not in ends:
            continue
        in_rounds = METHODS[dataset.method].in_rounds
        if in_rounds and has_guide(dataset, number, manifest):
            continue
        shards = _of_all_ranks(dataset, manifest, end, set(ledger.failed), share)
        if in_rounds:
            train_guide(dataset, number, shards)
        else:
            dataset.allocate(end, shards)
    _finish(dataset, manifest)


@contextmanager
def _counting_images(
    dataset: DrawnImages, manifest: Manifest, share: Share, part: range
) -> Iterator[Progress]:  # fmt: skip
    """Show how many of a part's images of this process are there; at the end, however it comes, how many are kept."""
    shards = [shard for shard in units_of_rank(range(len(manifest.ranges)), share.rank, share.world)
              if manifest.ranges[shard].start in part]  # fmt: skip
    rank = f", rank {share.rank} of {share.world}" if share.world > 1 else ""
    shown = 0

    def kept() -> int:
        records = scan(dataset.storage, manifest.plan_hash).records
        return sum(records[shard].count for shard in shards if shard in records)

    before = kept()
    with dataset.run.track(f"images {dataset.title}{rank}", sum(len(manifest.ranges[s]) for s in shards)) as progress:

        def count(number: int) -> None:
            nonlocal shown
            shown += number
            progress(number)

        count(before)
        try:
            yield count
        finally:
            with suppress(UserError, OSError):  # a store that is gone: what stopped the work is what matters
                count(kept() - shown)  # images of a shard that was not finished are not kept


# --- what determines the images --------------------------------------------------------------------------------------


def claim_dataset(dataset: DrawnImages) -> Manifest:
    """The dataset's manifest: written, found again, or extended where the run asks for more images now.

    Raises:
        UserError: the folder holds images of another plan, teacher, generator or guidance.
    """
    run, config = dataset.run, dataset.run.config
    with locked(run.directory, "prepare", wait=True):
        old, num_images = read_manifest(dataset.storage), planned_images(dataset)
        pilot = old.identity.get("pilot", 0) if old else dataset.pilot_size(num_images)
        run.inputs.check_generator()
        identity: dict[str, Any] = {
            "prompts": dataset.plan.hash(),
            "teacher": run.teacher_digest,
            "generator": generator_identity(config, old),
            "pilot": pilot,
        }
        if METHODS[dataset.method].guided:
            identity |= {
                "guidance": _guidance_identity(config.guidance, dataset.method, old),
                "calibration": asdict(run.calibration),
            }
        if METHODS[dataset.method].adapted:
            identity["adapter"] = run.adapter_digest
        if METHODS[dataset.method].in_rounds:
            identity["rounds"] = identity_of_rounds(dataset, num_images, old)
        # No shard has images of two parts, of which the first decides about the second.
        decide = identity["rounds"]["ends"] if METHODS[dataset.method].in_rounds else [pilot]
        ends = (*(end for end in decide if 0 < end < num_images), num_images)
        encoding = Encoding(config.synthesis.image_format, config.synthesis.image_quality)
        names = tuple(item.name for item in run.classes)
        return claim(dataset.storage, Manifest(identity, ends, config.synthesis.shard_size, names, encoding))


def _guidance_identity(config: GuidanceConfig, method: str, old: Manifest | None) -> dict[str, Any]:
    """The settings of guidance that decide about a method's images, with the retired ones that ``old`` names."""
    drawn_with = (old.identity.get("guidance") or {}) if old is not None else {}
    # At their defaults, so that images of an earlier version are added to; where one was on, the manifests differ
    found = asdict(config) | {name: value for name, value in RETIRED_GUIDANCE.items() if name in drawn_with}
    if not METHODS[method].guides_in_part(config.domains):  # nor did it for runs that had no such setting
        del found["domains"]
    return found


def planned_images(dataset: DrawnImages) -> int:
    """Images of a dataset; ``more`` gets as many as PRISM's seconds, its own preparation included, would buy plain."""
    run = dataset.run
    planned = run.config.synthesis.images_per_class * len(run.classes)
    if not METHODS[dataset.method].budget_of:
        return planned
    path = dataset.folder / "budget.json"  # kept: a shard of PRISM's that is repaired takes other seconds
    if not path.is_file() or read_json(path, BudgetRecord)["of"] != planned:
        plain, prism = (_summary(dataset, name, planned) for name in METHODS[dataset.method].budget_of)
        records = [run.directory / name for name in ("senses.json", "contents.json", "calibration.json")]
        preparation = sum(read_json(record, Spent)["seconds"] for record in records if record.is_file())
        # What prepared had the device for itself, while seconds of images are those of each worker, summed.
        preparation *= workers_per_device(run.config)
        # Seconds of PRISM, over the seconds that one plain image took on the same machine.
        bought = round(plain["num_images"] * (prism["seconds"] + preparation) / max(plain["seconds"], 1e-9))
        write_json(path, {"of": planned, "num_images": max(planned, bought)})
    return read_json(path, BudgetRecord)["num_images"]


def _summary(dataset: DrawnImages, method: str, planned: int) -> SynthesisRecord:
    """What another method's images of the same seed have cost. Raises UserError where they aren't drawn yet."""
    path = dataset.run.dataset(dataset.seed, method).folder / "synthesis.json"
    summary = read_json_if_any(path, SynthesisRecord)
    there = summary["planned"] if summary else 0
    if summary is None or there != planned:
        raise UserError(
            f"expected the {planned} images of {method} (seed {dataset.seed}) before {dataset.method}, which spends "
            f"what they cost, got {there}; wait for the ranks that draw them, then give this "
            "command again"
        )
    return summary


def deciding_ends(dataset: DrawnImages, manifest: Manifest) -> list[int]:
    """Numbers of images after which something is decided about the next ones, ascending."""
    if METHODS[dataset.method].in_rounds:
        return rounds_of(dataset, manifest)["ends"]
    return [manifest.identity["pilot"]] if manifest.identity["pilot"] else []


def _of_all_ranks(
    dataset: DrawnImages, manifest: Manifest, end: int, given_up_before: set[int], share: Share
) -> set[int]:  # fmt: skip
    """The shards of the first ``end`` images, once they are there, by whichever ranks.

    ``given_up_before`` are shards that an earlier command gave up, and which other ranks may be trying again. While
    another rank is at work it is waited for, however long its shard, or an earlier dataset, takes.
    """
    timeout = dataset.run.config.synthesis.timeout
    shards = {shard for shard, indices in enumerate(manifest.ranges) if indices.start < end}
    last_change, num_missing = time.monotonic(), -1
    while missing := shards - (ledger := scan(dataset.storage)).records.keys():
        given_up_before &= ledger.failed.keys()
        if _others_work(dataset.run.directory, share):
            last_change = time.monotonic()
        if num_missing != len(missing):
            last_change, num_missing = time.monotonic(), len(missing)
            warn(f"waiting for {len(missing)} of the first {len(shards)} shards, which other ranks draw")
        if time.monotonic() - last_change > timeout or missing & (ledger.failed.keys() - given_up_before):
            raise UserError(
                f"expected the first {len(shards)} shards of all ranks in {dataset.storage.url}, got none for "
                f"{timeout:.0f} s ({len(missing)} missing, {len(ledger.failed)} given up); start those ranks, then "
                "give the same command again"
            )
        time.sleep(POLL_SECONDS)
    return shards


def _others_work(directory: Path, share: Share) -> bool:
    """Whether another rank of the array job holds its lock."""
    own = rank_lock(share.rank, share.world)
    return any(is_locked(directory, name) for name in rank_locks(directory) if name != own)


# --- drawing ---------------------------------------------------------------------------------------------------------


def _draw_share(
    dataset: DrawnImages, shards: Sequence[int], share: Share, failed: dict[int, str], progress: Progress
) -> None:
    """Draw this rank's part of ``shards`` with the run's executor; those that are given up are recorded."""
    shards = units_of_rank(shards, share.rank, share.world)
    if not shards:
        return
    config, storage = dataset.run.config.synthesis, dataset.storage
    # Tried once more: what failed may have been the machine.
    clear_failures(storage, failed.keys() & set(shards))
    workers, pause = starters(dataset, progress)
    # Twice as long at the start, where models are loaded and perhaps compiled.
    policy = Policy(max_tries=config.max_tries, timeout=config.timeout, start_timeout=2 * config.timeout)
    given_up = Pool(workers, policy, warn, pause=pause).run(shards, progress)
    # With their reasons, which `prismkd verify` and the other ranks read.
    for shard, reason in given_up.items():
        record_failure(storage, shard, reason)
    if given_up:
        shard, reason = next(iter(given_up.items()))
        raise UserError(
            f"expected every shard of {storage.url} to be drawn, got {len(given_up)} of {len(shards)} given up (shard "
            f"{shard}: {reason}); give the same command again to try them once more; what is committed stays"
        )


def _finish(dataset: DrawnImages, manifest: Manifest) -> None:
    """Where all shards are there, whoever drew them: the summary, and what other tools want to know of the dataset."""
    ledger = scan(dataset.storage, manifest.plan_hash)
    num_missing = len(manifest.missing(ledger.records))
    if num_missing:
        warn(f"{num_missing} of {len(manifest.ranges)} shards of {dataset.storage.url} are left to other ranks")
        return
    seconds = sum(record.seconds for record in ledger.records.values())
    if dataset.allocation_file.is_file():
        seconds += read_json(dataset.allocation_file, AllocationRecord).get("seconds", 0.0)
    seconds += seconds_of_guides(dataset)
    summary = {"num_images": ledger.num_images, "planned": manifest.num_images, "seconds": seconds,
               "images_per_second": ledger.num_images / max(seconds, 1e-9),
               "bytes": sum(record.bytes for record in ledger.records.values()), "complete": True,
               "version": __version__}  # fmt: skip
    path = dataset.folder / "synthesis.json"
    with locked(dataset.run.directory, "prepare", wait=True):  # ranks may finish together
        if read_json_if_any(path, SynthesisRecord) != summary:
            write_json(path, summary)
        write_card(dataset.storage, manifest, ledger, dataset.title)
