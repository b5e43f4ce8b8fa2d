"""What a run uses that lies outside of its folder: digests of its content, and whether it is what the run began with.

Teacher and generator are the same for all of a run (``records/digests.py``); another one is refused. What only students
or evaluations hang on is in their records, and those are made anew with another one, as with other settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prismkd.classifiers import part_digests
from prismkd.config import Config, DistillationConfig
from prismkd.config.sources import library_of
from prismkd.data import LabeledImages
from prismkd.generators.load import identity
from prismkd.generators.load import part_digests as parts_of_generator
from prismkd.records.digests import check_digests, file_digest, joined, note_digests, recorded_digests, student_digest
from prismkd.records.directory import HELD_OUT, held_out_folder
from prismkd.runs.dataset import random_places
from prismkd.shards import Manifest, read_manifest, scan

if TYPE_CHECKING:
    # A run has its inputs, so its module imports this one.
    from prismkd.runs.dataset import Dataset
    from prismkd.runs.run import Run

MAX_READ = 50_000  # real training images whose content counts; of more it is a fixed random choice of so many
PATHS_OF_GENERATOR = ("source", "tiny_decoder")  # settings that say where it is
LORA = "generator lora"  # how the digests of its adapters are called


@dataclass(frozen=True)
class Inputs:
    """Digests of what a run uses, each taken when it is first needed."""

    run: Run

    # --- what all of a run is built on -------------------------------------------------------------------------------

    @cached_property
    def teacher(self) -> dict[str, str]:
        """The teacher's parts, or those of several."""
        return {f"teacher {name}": digest for name, digest in part_digests(self.run.teacher).items()}

    @cached_property
    def generator(self) -> dict[str, str]:
        """The generator's parts; none of a hub model, which its commit names."""
        return {f"generator {name}": digest for name, digest in parts_of_generator(self.run.config.generator).items()}

    def check_teacher(self) -> None:
        """Refuse another teacher than the run's.

        Raises:
            UserError: it is another one.
        """
        check_digests(self.run.directory, self.teacher, self.run.config.teacher)

    def check_generator(self) -> None:
        """Refuse another generator than the run's; the first time it is noted.

        Raises:
            UserError: it is another one.
        """
        check_digests(self.run.directory, self.generator, self.run.config.generator.source)
        note_digests(self.run.directory, self.generator, self.run.command)

    # --- what a student is made with ---------------------------------------------------------------------------------

    def of_student(self, dataset: Dataset, recipe: DistillationConfig) -> dict[str, Any]:
        """What one of a dataset's students learns from, beside the settings."""
        found: dict[str, Any] = {"teacher": joined(self.teacher.values()), "images": dataset.digest}
        if recipe.real_share:
            found["real"] = self.real_training
        if recipe.initial:
            found["initial"] = self.initial
        return found

    @cached_property
    def real_training(self) -> str:
        """Real images that students learn from."""
        return digest_of(self.run.real_training, MAX_READ)

    @cached_property
    def initial(self) -> str:
        """The weights that students start from."""
        path = Path(self.run.config.distillation.initial)
        return student_digest(path) if path.is_dir() else file_digest(path)

    # --- what an evaluation is made with -----------------------------------------------------------------------------

    @cached_property
    def of_evaluation(self) -> dict[str, Any]:
        """What all of a run's figures rest on: teacher, test images, judge, and the real images that it sees."""
        run = self.run
        found: dict[str, Any] = {"teacher": joined(self.teacher.values())}
        if run.config.evaluation.source:
            found["test"] = self.test
        elif run.config.evaluation.num_held_out:
            found["held-out images"] = self.held_out
        if run.judge is not None:
            found["judge"] = joined(part_digests(run.judge).values())
            found["real"] = digest_of(run.real, run.config.evaluation.max_images)
        return found

    @cached_property
    def test(self) -> dict[str, str]:
        """The test images of each domain."""
        test = self.run.test
        return {domain: test.domain(domain).fingerprint() for domain in sorted(set(test.domains.tolist()))}

    @cached_property
    def held_out(self) -> str:
        """The held-out synthetic images, which are drawn where they are missing."""
        _ = self.run.held_out
        return joined(scan(held_out_folder(self.run.directory, kind)).digest for kind in HELD_OUT)


def digest_of(images: LabeledImages | None, at_most: int) -> str:
    """Of real images: their number, and content and label of a fixed random choice of ``at_most``; empty for none."""
    if images is None:
        return ""
    chosen = images if len(images) <= at_most else images.subset(random_places(len(images), at_most))
    return joined([str(len(images)), chosen.fingerprint()])


# --- what was moved --------------------------------------------------------------------------------------------------


def is_moved(run: Run, setting: str, old: Any) -> bool:
    """Whether a setting of a path names the same content as ``old`` did, which lay elsewhere."""
    if setting == "teacher":
        return _network_of(old) == _network_of(run.config.teacher) and _is_same(run, "teacher", run.inputs.teacher)
    if setting == "generator.lora":
        return bool(old) and _is_same(run, LORA, _parts(run.inputs.generator, LORA))
    if setting in [f"generator.{name}" for name in PATHS_OF_GENERATOR]:
        used = _parts(run.inputs.generator, "generator")
        return bool(used) and _is_same(run, "generator", used)
    return False


def _parts(digests: Mapping[str, str], kind: str) -> dict[str, str]:
    """Those of the teacher, of the generator itself, or of its adapters."""
    return {name: digest for name, digest in digests.items()
            if name.startswith(kind) and name.startswith(LORA) == (kind == LORA)}  # fmt: skip


def _network_of(source: str) -> tuple[str, str]:
    """What a classifier's source says beside the place of its file: LIBRARY:NAME@FILE names a network."""
    library, rest = library_of(source)
    return library, rest.partition("@")[0] if "@" in rest else ""


def _is_same(run: Run, kind: str, used: Mapping[str, str]) -> bool:
    """Whether these are the parts that the run has noted, or where it noted none, those that its images are of."""
    entries = _parts({name: row["digest"] for name, row in recorded_digests(run.directory).items()}, kind)
    if entries or kind == LORA:
        return bool(entries) and entries == dict(used)
    drawn = [manifest.identity for dataset in run.drawn if (manifest := read_manifest(dataset.storage)) is not None]
    now = run.teacher_digest if kind == "teacher" else identity(run.config.generator)["weights"]
    found = {row.get("teacher") if kind == "teacher" else (row.get("generator") or {}).get("weights") for row in drawn}
    return found == {now}


def generator_identity(config: Config, old: Manifest | None) -> dict[str, Any]:
    """What of the generator determines images; of one that was moved since they were begun, with its place of then."""
    now = identity(config.generator)
    drawn_with = (old.identity.get("generator") or {}) if old is not None else {}
    if now["weights"] and drawn_with.get("weights") == now["weights"]:
        now |= {name: drawn_with[name] for name in PATHS_OF_GENERATOR if name in drawn_with}
    return now
