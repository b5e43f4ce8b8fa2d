"""A few images of a run's datasets, wherever these are stored: on the disk, in another folder, or in an object store.

A data set may have millions of images, each behind a network. So no tar is read further than the last image that is
wanted of it, tars without such an image aren't opened, and only wanted images are decoded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from prismkd.config import Config
from prismkd.config.methods import REFERENCES
from prismkd.errors import UserError
from prismkd.records.directory import storage_at
from prismkd.records.results import RunResults, seed_of
from prismkd.shards import Sample, Storage, committed_shards, read_encoded, read_manifest, read_shard, scan
from prismkd.shards.samples import decode


@dataclass(frozen=True)
class StoredDataset:
    """A dataset, one method of one seed, as the page reads it.

    Attributes:
        folder: the method's, where its prompts are.
        storage: where its images are.
        in_turn: whether class c has the indices c, c + num_classes and so on.
    """

    folder: Path
    storage: Storage
    in_turn: bool


@dataclass(frozen=True)
class StoredImages:
    """By method, the dataset of the first seed that has images; or a remark on why there is none."""

    datasets: dict[str, StoredDataset]
    remark: str = ""


def stored_images(run: RunResults) -> StoredImages:
    """Look where the run's record says that its images are; what can't be reached is a remark on the page, no error."""
    url = _recorded_storage(run)
    try:
        datasets = {
            method: dataset
            for method in run.folders
            if method not in REFERENCES and (dataset := _first_dataset(run, url, method))
        }
    except UserError as error:
        if not url:
            raise
        return StoredImages({}, f"The images are in {url}, which can't be read from here ({error}).")
    if url and not datasets:
        return StoredImages({}, f"The images were written to {url}, where none are found now.")
    return StoredImages(datasets)


def _recorded_storage(run: RunResults) -> str:
    """``synthesis.storage`` alone: other settings of an old run may be unknown by now."""
    settings = run.record.get("config", {}).get("synthesis", {})
    return str(settings.get("storage", Config().synthesis.storage))


def _first_dataset(run: RunResults, url: str, method: str) -> StoredDataset | None:
    for folder in run.folders[method]:
        storage = storage_at(url, run.folder, seed_of(folder), method)
        if committed_shards(storage):
            # A pilot's coverage, or a guide, gives classes other numbers of images, and so other places
            manifest = read_manifest(storage)
            rounds = manifest.identity.get("rounds") if manifest else None
            by_guide = isinstance(rounds, dict) and rounds.get("allocate")
            in_turn = not by_guide and not (folder / "allocation.json").is_file()
            return StoredDataset(folder, storage, in_turn=in_turn)
    return None


def first_indices(dataset: StoredDataset, labels: Collection[int], per_class: int) -> dict[int, list[int]]:
    """By label the first ``per_class`` image indices of some classes, as far as there are any."""
    manifest = read_manifest(dataset.storage)
    if manifest is None or not dataset.in_turn:
        return _indices_by_reading(dataset.storage, labels, per_class)
    committed = set(committed_shards(dataset.storage))
    ranges = [indices for shard, indices in enumerate(manifest.ranges) if shard in committed]
    step = len(manifest.classes)
    return {
        label: list(islice((i for part in ranges for i in part if i % step == label), per_class if label < step else 0))
        for label in labels
    }


def _indices_by_reading(storage: Storage, labels: Collection[int], per_class: int) -> dict[int, list[int]]:
    """The same from the stored labels, up to where every class has enough."""
    indices: dict[int, list[int]] = {label: [] for label in labels}
    for sample in read_encoded(storage):
        if sample.label in indices and len(indices[sample.label]) < per_class:
            indices[sample.label].append(sample.index)
            if all(len(chosen) == per_class for chosen in indices.values()):
                break
    return indices


def read_few(storage: Storage, wanted: Collection[int]) -> Iterator[Sample]:
    """The images of the ``wanted`` indices, as far as there are any.

    Raises:
        UserError: a shard that holds one is damaged.
    """
    manifest, ledger, left = read_manifest(storage), scan(storage), set(wanted)
    ranges = dict(enumerate(manifest.ranges)) if manifest is not None else {}
    for shard in sorted(ledger.records.keys() | ledger.damaged.keys()):
        own = ranges.get(shard, left)  # without a manifest any shard may hold any
        held = {index for index in left if index in own}  # not set's own intersection, which walks through all of own
        if held and shard in ledger.damaged:
            raise UserError(f"{ledger.damaged[shard]}: the shard is damaged; `prismkd repair` draws it again")
        if not held:
            continue
        for sample in read_shard(storage, shard, manifest):
            if sample.index in held:
                held.remove(sample.index)
                left.remove(sample.index)
                yield decode(sample)
            if not held:
                break
