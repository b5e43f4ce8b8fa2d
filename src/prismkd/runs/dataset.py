"""One method of one seed of a run: where its images and students are, and what they are."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from prismkd.config import METHODS
from prismkd.data import LabeledImages
from prismkd.data.decode import Form
from prismkd.data.labels import check_labels
from prismkd.distillation import TrainingSet, open_images, to_bytes
from prismkd.distillation.cache import CachePlace
from prismkd.distillation.image_files import open_files
from prismkd.distillation.tar_images import read_logits
from prismkd.distillation.training_set import Images
from prismkd.errors import UserError, warn
from prismkd.evaluation.images import labeled_batches
from prismkd.evaluation.rows import BATCH, Batches, LabeledBatch
from prismkd.files import write_json
from prismkd.prompts import PromptPlan
from prismkd.prompts.judge import judge_pilot
from prismkd.records.directory import LABELS_STUDENT, STUDENT, dataset_folder, read_json, remedy_of, storage_of
from prismkd.records.lock import locked
from prismkd.records.shapes import AllocationRecord, PromptsRecord
from prismkd.shards import Manifest, Storage, read_encoded, read_manifest, read_samples, scan, stacked, verified
from prismkd.shards.samples import decode, noted

if TYPE_CHECKING:
    # A run makes its datasets, so its module imports this one.
    from prismkd.runs.run import Run

NUM_NAMED = 5  # classes that a warning names


@dataclass(frozen=True)
class Dataset(ABC):
    """What all methods have: a folder, students, and images that these learn from.

    Attributes:
        run: the run that it belongs to.
        seed: the run's seed, one of several.
        method: as in ``config.methods``.
    """

    run: Run
    seed: int
    method: str

    @property
    def title(self) -> str:
        """As progress bars and cards call it."""
        return f"{self.method} (seed {self.seed})"

    @property
    def folder(self) -> Path:
        """Where its plan, students and evaluation are."""
        return dataset_folder(self.run.directory, self.seed, self.method)

    @property
    def student_folder(self) -> Path:
        """Where its student is."""
        return self.folder / STUDENT

    @property
    def labels_student_folder(self) -> Path:
        """Where the student is that learned from images and labels alone, for the classification accuracy score."""
        return self.folder / LABELS_STUDENT

    @property
    @abstractmethod
    def num_images(self) -> int:
        """Images that a student would learn from now, but for those of ``distillation.real_share``."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Of the content of these images."""

    @abstractmethod
    def training_set(self) -> TrainingSet:
        """What a student learns from.

        Raises:
            UserError: a shard is damaged or missing, or a real image doesn't decode.
        """

    @abstractmethod
    def batches(self, at_most: int) -> Batches:
        """The images and labels that a student learned from, or a fixed random choice of ``at_most`` of them.

        Raises:
            UserError: as ``training_set``.
        """

    def energies(self) -> dict[str, list[float]]:
        """Teacher energies of each image: ``before`` at the start of the guided band, and ``after`` of the image."""
        return {}


@dataclass(frozen=True)
class RealImages(Dataset):
    """The method ``real``: nothing is drawn, students learn from the teacher's own training images (a reference)."""

    @property
    def images(self) -> LabeledImages:
        """The real images, which ``open_run`` has made sure of."""
        images = self.run.real_training
        if images is None:
            raise UserError(
                "expected evaluation.real or distillation.real for the method real, got none; name the files"
            )
        return images

    @property
    def num_images(self) -> int:
        return len(self.images)

    @property
    def digest(self) -> str:
        return self.run.inputs.real_training

    def training_set(self) -> TrainingSet:
        images, absent = self.images, self._absent_classes()
        if absent:
            named = ", ".join(absent[:NUM_NAMED]) + (", ..." if len(absent) > NUM_NAMED else "")
            warn(f"{images.source} has no image of {len(absent)} classes ({named}); {self.title} is not trained on any")
        side = self.run.world.stored_side
        if side is not None:
            return TrainingSet(*open_files(images, side, images.form.mode, real_cache_place(self.run)))
        images.check()
        return TrainingSet(to_bytes(images.images), images.labels)

    def _absent_classes(self) -> list[str]:
        """Names of the classes that no real image shows."""
        present = set(self.images.labels.tolist())
        return [item.name for label, item in enumerate(self.run.classes) if label not in present]

    def batches(self, at_most: int) -> Batches:
        yield from real_batches(self.images, at_most)


@dataclass(frozen=True)
class DrawnImages(Dataset):
    """Images that are drawn from a plan and kept in shards."""

    @property
    def storage(self) -> Storage:
        """The shards; with ``synthesis.storage`` they are not in the run's folder."""
        return storage_of(self.run.config, self.run.directory, self.seed, self.method)

    @cached_property
    def plan(self) -> PromptPlan:
        """The prompts, as the prompts stage wrote them.

        Raises:
            UserError: it hasn't run.
        """
        path = self.folder / "prompts.json"
        if not path.is_file():
            raise UserError(f"expected {path}, found none; run `prismkd prompts` first")
        data, names = read_json(path, PromptsRecord)["plan"], [item.name for item in self.run.classes]
        return PromptPlan.from_dict(data, names, str(path), remedy=remedy_of(path))

    @property
    def manifest(self) -> Manifest:
        """What determines the images; synthesis writes it before it draws.

        Raises:
            UserError: it hasn't begun, or the manifest is damaged.
        """
        # Read each time: synthesis writes it, and extends it where a run gets more images.
        manifest = read_manifest(self.storage)
        if manifest is None:
            raise UserError(f"expected a data set in {self.storage.url}, got none; run `prismkd synthesize` first")
        return manifest

    @property
    def num_images(self) -> int:
        return scan(self.storage).num_images

    @property
    def digest(self) -> str:
        return scan(self.storage).digest

    def training_set(self) -> TrainingSet:
        config = self.run.config.distillation
        # Now, rather than after hours of training on what may be damaged.
        verified(self.storage)
        side, memory = self.run.world.stored_side, config.memory_gigabytes * 1e9
        images, labels = open_images(self.storage, memory, config.num_workers, side, cache_place(self.run, self.folder))
        check_labels(labels.unique().tolist(), len(self.run.classes), self.storage.url)
        logits = read_logits(self.storage) if config.stored_logits else None
        return TrainingSet(images, labels, self._real_share(images.image_shape), config.real_share, logits)

    def _real_share(self, shape: tuple[int, ...]) -> tuple[Images | torch.Tensor, torch.Tensor] | None:
        """Real images of the synthetic ones' shape, where ``distillation.real_share`` mixes some into every batch."""
        real = self.run.real_training
        if not self.run.config.distillation.real_share or real is None:
            return None
        mode = "L" if shape[0] == 1 else "RGB"
        if self.run.world.stored_side is not None:
            return open_files(real, shape[1], mode, real_cache_place(self.run))
        real = replace(real, form=Form(mode, shape[1]))
        real.check()
        return to_bytes(real.images), real.labels

    def batches(self, at_most: int) -> Batches:
        _, ledger = verified(self.storage)
        chosen = set(random_places(ledger.num_images, at_most).tolist())
        # All tars are read, but only the chosen images are decoded.
        samples = (sample for place, sample in enumerate(read_encoded(self.storage)) if place in chosen)
        while batch := [decode(sample) for sample in islice(samples, BATCH)]:
            images = torch.from_numpy(stacked(batch))
            labels = torch.tensor([sample.label for sample in batch])
            hits = np.array([noted(sample, "teacher_top1") == sample.label for sample in batch], dtype=np.float64)
            yield LabeledBatch(images, labels, hits)

    def energies(self) -> dict[str, list[float]]:
        pairs = [
            (noted(sample, "energy_after"), sample.metadata.get("energy_before"))
            for sample in read_encoded(self.storage)
        ]
        energies = {"after": [after for after, _ in pairs]}
        # Unguided images have none, as the teacher sees them when they are finished.
        if all(before is not None for _, before in pairs):
            energies["before"] = [before for _, before in pairs]
        return energies

    # --- adaptive allocation -----------------------------------------------------------------------------------------

    def pilot_size(self, num_images: int) -> int:
        """Images before coverage decides about the rest: whole rounds over the classes; 0 where nothing adapts.

        Raises:
            UserError: there are too few images per class for a pilot and a rest.
        """
        share, num_classes = self.run.config.prompts.pilot_share, len(self.run.classes)
        if not share or not METHODS[self.method].diversified:
            return 0
        if num_images < 2 * num_classes:
            raise UserError(
                f"expected at least two images per class for prompts.pilot_share, got {num_images} of {num_classes} "
                "classes; raise synthesis.images_per_class or set pilot_share to 0"
            )
        # At least one round in the pilot and one after it.
        rounds = min(max(1, round(share * num_images / num_classes)), num_images // num_classes - 1)
        return rounds * num_classes

    @property
    def allocation_file(self) -> Path:
        """What the pilot's images decided."""
        return self.folder / "allocation.json"

    @property
    def final_plan(self) -> PromptPlan:
        """The plan, whose classes and styles after the pilot follow from the pilot's images once these are there."""
        if not self.allocation_file.is_file():
            return self.plan
        path, plan = self.allocation_file, self.plan
        decided = read_json(path, AllocationRecord)
        num_classes, num_styles = len(decided["class_shares"]), len(decided["style_factors"])
        if (num_classes, num_styles) != (len(plan.subjects), len(plan.styles)) or decided["pilot"] % num_classes:
            raise UserError(
                f"expected shares of {len(plan.subjects)} classes, factors of {len(plan.styles)} styles and a pilot of "
                f"whole rounds in {path}, got {num_classes}, {num_styles} and {decided['pilot']}; {remedy_of(path)}"
            )
        return plan.allocated(decided["pilot"], decided["class_shares"], decided["style_factors"])

    def allocate(self, pilot: int, shards: Collection[int]) -> None:
        """Let the first ``pilot`` images, which are in ``shards``, decide about the rest; one process does it, once."""
        with locked(self.run.directory, "prepare", wait=True):
            if self.allocation_file.is_file():
                return
            # Its seconds count as the method's: ``more`` may spend them too.
            start = time.monotonic()
            samples = (sample for sample in read_samples(self.storage, shards) if sample.index < pilot)
            teacher, device = self.run.synthesizer("plain").teacher_on_device, self.run.generator.device
            allocation = judge_pilot(teacher, device, self.plan, samples)
            write_json(
                self.allocation_file, {"pilot": pilot, **asdict(allocation), "seconds": time.monotonic() - start}
            )


def cache_place(run: Run, folder: Path) -> CachePlace:
    """Where the decoded images of a dataset lie while its students are trained."""
    lock = partial(locked, run.directory, "cache", wait=True)
    return CachePlace(folder, run.config.distillation.cache_gigabytes * 1e9, run.track, lock, replaces=True)


def real_cache_place(run: Run) -> CachePlace:
    """Where the real images lie that all datasets of a run share."""
    return cache_place(run, run.directory)


def real_batches(real: LabeledImages, at_most: int) -> Batches:
    """Real images with labels, a fixed random choice of ``at_most`` of them, every one of which decodes."""
    chosen = real.subset(random_places(len(real), at_most))
    # Before the batches: one error then names all images that don't decode.
    chosen.check()
    yield from labeled_batches(chosen)


def random_places(count: int, at_most: int) -> np.ndarray:
    """Places of ``at_most`` of ``count`` images, ascending: drawn, since classes may lie in any order."""
    # The seed is fixed, so that all methods and a resumed evaluation are measured by the same images.
    drawn = np.random.default_rng(0).permutation(count)[:at_most]
    return np.sort(drawn)
