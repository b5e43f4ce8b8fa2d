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
from typing import Any

from prismkd.classifiers import load_classifier, save_classifier
from prismkd.config import METHODS, DistillationConfig
from prismkd.config.load import config_from_dict
from prismkd.config.ranges import check_fields
from prismkd.config.stages import SETTINGS_WITHOUT_EFFECT_ON_RESULTS
from prismkd.distillation import TrainingSet, open_images
from prismkd.distillation.cache import remove_caches
from prismkd.distillation.world import World
from prismkd.errors import UserError, warn
from prismkd.files import remove, write_json
from prismkd.files.documents import as_shape
from prismkd.guidance import Guide
from prismkd.prompts import PromptPlan
from prismkd.prompts.judge import judge_round
from prismkd.records.digests import student_digest
from prismkd.records.directory import ROUND, guide_folder, read_json, remedy_of
from prismkd.records.lock import holder, is_locked, locked
from prismkd.records.shapes import RoundRecord, RoundsIdentity
from prismkd.runs.dataset import DrawnImages, cache_place
from prismkd.shards import Manifest, read_samples, scan
from prismkd.synthesis.synthesizer import Synthesizer

OF_REAL_IMAGES = {"real", "real_share", "auxiliary_batch_norm"}  # settings of students that a guide has no use for


def identity_of_rounds(dataset: DrawnImages, num_images: int, old: Manifest | None) -> dict[str, Any]:
    """What a manifest says of the rounds: where each but the last ends, and how guides are trained and used.

    Where there is a manifest already, ends and recipe are its own: they stay when images are added, or when students
    get another recipe.

    Args:
        dataset: in rounds.
        num_images: planned.
        old: the manifest that there is.

    Raises:
        UserError: the manifest that there is says nothing usable of rounds.
    """
    config, num_classes = dataset.run.config, len(dataset.run.classes)
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


def has_guide(dataset: DrawnImages, number: int, manifest: Manifest) -> bool:
    """Whether the guide after round ``number``, from 1, is trained for these images.

    Raises:
        UserError: its record is damaged.
    """
    path = guide_folder(dataset.folder, number) / ROUND
    return path.is_file() and read_json(path, RoundRecord)["plan_hash"] == manifest.plan_hash


def train_guide(dataset: DrawnImages, number: int, shards: Collection[int]) -> None:
    """Train the guide of the images after round ``number``, whose images and all before are in ``shards``.

    One process does it, once; the others wait.

    Raises:
        UserError: there is a guide of other images, or none any more, and images that were drawn with it.
    """
    folder, manifest = guide_folder(dataset.folder, number), dataset.manifest
    lock = f"guide-{dataset.seed}-{dataset.method}"
    if is_locked(dataset.run.directory, lock):
        warn(f"waiting for {holder(dataset.run.directory, lock)}, which trains the guide after round {number}")
    # A lock of its own: a training is long, and other ranks may have other datasets to begin.
    with locked(dataset.run.directory, lock, wait=True):
        if not has_guide(dataset, number, manifest):
            if later := scan(dataset.storage, manifest.plan_hash).records.keys() - set(shards):
                raise UserError(
                    f"expected the guide in {folder} that {len(later)} later shards were drawn with, got none or "
                    "another; bring it back from a copy, or delete the folder of the images to draw them again"
                )
            _train(dataset, number, shards, manifest)
        # Of this training, or of one that was killed at its end
        for path in folder.glob("checkpoint-*.pt"):
            remove(path)
        remove_caches(folder)


def _train(dataset: DrawnImages, number: int, shards: Collection[int], manifest: Manifest) -> None:
    """Train a guide into its folder; its record comes last."""
    start, run, rounds = time.monotonic(), dataset.run, rounds_of(dataset, manifest)
    folder = guide_folder(dataset.folder, number)
    recipe, place = _recipe_from(rounds["recipe"], dataset), replace(cache_place(run, folder), lock=nullcontext)
    memory, side = recipe.memory_gigabytes * 1e9, World.of(recipe, run.teacher).stored_side
    data = TrainingSet(*open_images(dataset.storage, memory, recipe.num_workers, side, place, shards))
    # Of these images alone: a checkpoint of others would be taken for one of these
    checkpoint = folder / f"checkpoint-{manifest.plan_hash}.pt"
    guide = run.train_guide(data, rounds["num_planned"], number, dataset.seed, recipe, checkpoint)
    save_classifier(folder, guide.network, guide.config)
    record: dict[str, Any] = {"num_images": len(data), "digest": student_digest(folder),
                              "plan_hash": manifest.plan_hash}  # fmt: skip
    if rounds["allocate"]:
        teacher, device = run.synthesizer("plain").teacher_on_device, run.generator.device
        samples = read_samples(dataset.storage, shards)
        plan = decided_plan(dataset, manifest, number)
        record |= judge_round(load_classifier(folder), teacher, device, plan, samples, recipe)
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
    student, num_classes = load_classifier(folder).to(dataset.run.generator.device), len(dataset.run.classes)
    if student.num_classes != num_classes:
        raise UserError(
            f"expected a guide of {num_classes} classes in {folder}, got one of {student.num_classes}; choose another "
            "--out"
        )
    return Guide(student, rounds["guide_term"], rounds["guide_weight"])


def decided_plan(dataset: DrawnImages, manifest: Manifest, before: int | None = None) -> PromptPlan:
    """The dataset's plan, with what a pilot or the guides that there are, or those before one, have decided."""
    if not METHODS[dataset.method].in_rounds:
        return dataset.final_plan
    plan, rounds = dataset.plan, rounds_of(dataset, manifest)
    if not rounds["allocate"]:
        return plan
    for number, end in enumerate(rounds["ends"][: before and before - 1], start=1):
        path = guide_folder(dataset.folder, number) / ROUND
        if not path.is_file():
            break
        decided = read_json(path, RoundRecord)
        shares, factors = decided.get("class_shares", []), decided.get("style_factors", [])
        fits = (len(shares), len(factors)) == (len(plan.subjects), len(plan.styles))
        if not fits or abs(sum(shares) - 1) > 1e-6:
            raise UserError(
                f"expected shares of {len(plan.subjects)} classes that add up to 1, and factors of {len(plan.styles)} "
                f"styles, in {path}, got {len(shares)} and {len(factors)}; {remedy_of(path)}"
            )
        plan = plan.allocated(end, shares, factors, decided.get("content_factors", {}))
    return plan


def seconds_of_guides(dataset: DrawnImages) -> float:
    """That training the dataset's guides took, so far."""
    records = sorted((dataset.folder / "rounds").glob(f"*/{ROUND}"))
    return sum(read_json(path, RoundRecord)["seconds"] for path in records)


def _recipe_of_guides(config: DistillationConfig) -> dict[str, Any]:
    """The settings of students by which guides are trained."""
    dropped = {name.partition(".")[2] for name in SETTINGS_WITHOUT_EFFECT_ON_RESULTS} | OF_REAL_IMAGES
    return {name: value for name, value in asdict(config).items() if name not in dropped}


def _recipe_from(recorded: dict[str, Any], dataset: DrawnImages) -> DistillationConfig:
    """A guide's recipe from what the manifest says; where it says nothing, the run's own of today.

    Raises:
        UserError: a setting that isn't one, or out of range.
    """
    config, path = dataset.run.config, f"{dataset.storage.url}/dataset.json"
    own = {name: value for name, value in asdict(config.distillation).items() if name not in OF_REAL_IMAGES}
    try:
        recipe = config_from_dict({"distillation": own | recorded}).distillation
        check_fields(recipe, prefix="distillation.")
    except UserError as error:
        raise UserError(
            f"{str(error).partition(';')[0]}, in the guides' recipe of {path}; choose another --out"
        ) from None
    return recipe
