"""Rounds: after each but the last, a student of the images so far is trained, the guide of those to come.

A guide is a file with its digest in ``rounds/NUMBER`` of the dataset's folder, so all workers and every later command
draw with the same one. Its recipe is the run's when the dataset was begun, and stands in the manifest: another recipe
of the final student changes no image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from prismkd.classifiers import save_classifier
from prismkd.config import METHODS, Config, DistillationConfig
from prismkd.config.load import config_from_dict
from prismkd.config.stages import SETTINGS_WITHOUT_EFFECT_ON_RESULTS
from prismkd.distillation import TrainingSet, open_images
from prismkd.distillation.cache import remove_caches
from prismkd.errors import UserError
from prismkd.files import remove, write_json
from prismkd.files.documents import as_shape
from prismkd.guidance import Guide
from prismkd.prompts import PromptPlan
from prismkd.prompts.judge import judge_round
from prismkd.records.digests import student_digest
from prismkd.records.directory import ROUND, guide_folder, read_json, remedy_of
from prismkd.records.lock import locked
from prismkd.records.shapes import RoundRecord, RoundsIdentity
from prismkd.runs.aside import CHECKPOINT
from prismkd.runs.dataset import DrawnImages, cache_place
from prismkd.shards import Manifest, read_manifest, read_samples
from prismkd.synthesis.synthesizer import Synthesizer

OF_REAL_IMAGES = {"real", "real_share", "auxiliary_batch_norm"}  # settings of students that a guide has no use for


def identity_of_rounds(dataset: DrawnImages, num_images: int) -> dict[str, Any]:
    """What a manifest says of the rounds: where each but the last ends, and how guides are trained and used.

    Where there is a manifest already, ends and recipe are its own: they stay when images are added, or when students
    get another recipe.

    Args:
        dataset: in rounds.
        num_images: planned.

    Raises:
        UserError: the manifest that there is says nothing usable of rounds.
    """
    config, num_classes = dataset.run.config, len(dataset.run.classes)
    old = read_manifest(dataset.storage)
    if old is not None and "rounds" in old.identity:
        kept = rounds_of(dataset, old)
        ends, num_planned, recipe = kept["ends"], kept["num_planned"], kept["recipe"]
    else:
        turns, parts = num_images // num_classes, config.rounds.num_rounds
        ends = [part * turns // parts * num_classes for part in range(1, parts)]
        num_planned, recipe = num_images, _recipe_of_guides(config.distillation)
    return {**asdict(config.rounds), "ends": ends, "num_planned": num_planned, "recipe": recipe}


def rounds_of(dataset: DrawnImages, manifest: Manifest) -> RoundsIdentity:
    """What the manifest says of the rounds, checked.

    Raises:
        UserError: it can't be that.
    """
    path = f"{dataset.storage.url}/dataset.json"
    found = as_shape(manifest.identity.get("rounds"), RoundsIdentity, path)
    ends, num_classes = found["ends"], len(dataset.run.classes)
    if sorted(set(ends)) != ends or any(end % num_classes for end in ends):
        raise UserError(
            f"expected ascending ends of rounds, each after as many images of each of {num_classes} classes, in "
            f"{path}, got {ends}; choose another --out"
        )
    return found


def train_guide(dataset: DrawnImages, number: int, shards: Collection[int]) -> None:
    """Train the guide of the images after round ``number``, from 1, whose images and all before are in ``shards``.

    One process does it, once; the others wait.
    """
    folder = guide_folder(dataset.folder, number)
    # A lock of its own: a training is long, and other ranks may have other datasets to begin.
    with locked(dataset.run.directory, f"guide-{dataset.seed}-{dataset.method}", wait=True):
        if not (folder / ROUND).is_file():
            _train(dataset, number, shards, folder)
        # Of this training, or of one that was killed at its end
        remove(folder / CHECKPOINT)
        remove_caches(folder)


def _train(dataset: DrawnImages, number: int, shards: Collection[int], folder: Path) -> None:
    """Train a guide into its folder; its record comes last."""
    start, run, rounds = time.monotonic(), dataset.run, rounds_of(dataset, dataset.manifest)
    recipe, place = _recipe_from(rounds["recipe"], run.config), replace(cache_place(run, folder), lock=nullcontext)
    memory, side = recipe.memory_gigabytes * 1e9, run.world.stored_side
    data = TrainingSet(*open_images(dataset.storage, memory, recipe.num_workers, side, place, shards))
    guide = run.train_guide(data, rounds["num_planned"], number, dataset.seed, recipe, folder / CHECKPOINT)
    save_classifier(folder, guide.network, guide.config)
    record: dict[str, Any] = {"num_images": len(data), "digest": student_digest(folder)}
    if rounds["allocate"]:
        teacher, device = run.synthesizer("plain").teacher_on_device, run.generator.device
        samples = read_samples(dataset.storage, shards)
        record |= judge_round(run.load_student(folder), teacher, device, dataset.plan, samples,
                              recipe.hard_label_weight)  # fmt: skip
    # Its seconds count as the method's.
    write_json(folder / ROUND, {**record, "seconds": time.monotonic() - start})


def synthesizers(dataset: DrawnImages, manifest: Manifest) -> Callable[[int], Synthesizer]:
    """What draws image ``index``: in rounds with the guide of its own, which is loaded when it is first needed."""
    first = dataset.run.synthesizer(dataset.method)
    if not METHODS[dataset.method].in_rounds:
        return lambda index: first
    rounds = rounds_of(dataset, manifest)

    @cache
    def after(number: int) -> Synthesizer:
        return replace(first, guide=_load_guide(dataset, rounds, number))

    def of(index: int) -> Synthesizer:
        number = sum(end <= index for end in rounds["ends"])
        return after(number) if number and rounds["guide_weight"] else first

    return of


def _load_guide(dataset: DrawnImages, rounds: RoundsIdentity, number: int) -> Guide:
    """The guide that was trained after a round.

    Raises:
        UserError: its files are missing, or others than were trained.
    """
    folder = guide_folder(dataset.folder, number)
    recorded = read_json(folder / ROUND, RoundRecord)
    if student_digest(folder) != recorded["digest"]:
        raise UserError(
            f"expected the guide in {folder} as it was trained, got other files; bring them back, or choose another "
            "--out"
        )
    return Guide(dataset.run.load_student(folder), rounds["guide_term"], rounds["guide_weight"])


def decided_plan(dataset: DrawnImages, manifest: Manifest) -> PromptPlan:
    """The dataset's plan, with what a pilot or the guides that there are have decided about classes and styles."""
    if not METHODS[dataset.method].in_rounds:
        return dataset.final_plan
    plan, rounds = dataset.plan, rounds_of(dataset, manifest)
    if not rounds["allocate"]:
        return plan
    for number, end in enumerate(rounds["ends"], start=1):
        path = guide_folder(dataset.folder, number) / ROUND
        if not path.is_file():
            break
        decided = read_json(path, RoundRecord)
        shares, factors = decided.get("class_shares", []), decided.get("style_factors", [])
        if (len(shares), len(factors)) != (len(plan.subjects), len(plan.styles)):
            raise UserError(
                f"expected shares of {len(plan.subjects)} classes and factors of {len(plan.styles)} styles in {path}, "
                f"got {len(shares)} and {len(factors)}; {remedy_of(path)}"
            )
        plan = plan.allocated(end, shares, factors)
    return plan


def seconds_of_guides(dataset: DrawnImages) -> float:
    """That training the dataset's guides took, so far."""
    records = sorted((dataset.folder / "rounds").glob(f"*/{ROUND}"))
    return sum(read_json(path, RoundRecord)["seconds"] for path in records)


def _recipe_of_guides(config: DistillationConfig) -> dict[str, Any]:
    """The settings of students by which guides are trained."""
    dropped = {name.partition(".")[2] for name in SETTINGS_WITHOUT_EFFECT_ON_RESULTS} | OF_REAL_IMAGES
    return {name: value for name, value in asdict(config).items() if name not in dropped}


def _recipe_from(recorded: dict[str, Any], config: Config) -> DistillationConfig:
    """A guide's recipe from what the manifest says; where it says nothing, the run's own of today.

    Raises:
        UserError: a setting out of range.
    """
    own = {name: value for name, value in asdict(config.distillation).items() if name not in OF_REAL_IMAGES}
    return config_from_dict({"distillation": own | recorded}).distillation
