"""What no longer fits a run's settings is set aside, so that its stage makes it anew; a kill at any moment is harmless.

Each student's ``log.json`` and each evaluation says with which settings it was made. So whether something is stale can
be seen from it alone, however far an earlier command came.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from prismkd.config import DistillationConfig
from prismkd.config.stages import SETTINGS_WITHOUT_EFFECT_ON_RESULTS, stage_of
from prismkd.errors import UserError, warn
from prismkd.files import make_folder, remove, rename, write_json
from prismkd.foreign.checkpoint import set_aside as set_checkpoint_aside
from prismkd.records.digests import check_student, differing_inputs
from prismkd.records.directory import read_json_if_any, read_record
from prismkd.records.results import EVALUATION, REFERENCES_FILE
from prismkd.records.shapes import BegunTraining, ShownEvaluation, TrainingLog
from prismkd.runs.dataset import Dataset
from prismkd.runs.run import Run
from prismkd.shards import differing_keys

RESULTS = ("report.html", "metrics.json")  # of the whole run, in the order in which they are set aside
CHECKPOINT, TRAINING = "checkpoint.pt", "training.json"  # of a training that isn't complete, and what it is made with
MAX_NAMED = 2  # settings in the name of a folder
PLACES = {"source", "shifted", "real", "judge"}  # settings of an evaluation that say where something lies


# --- what something was made with ------------------------------------------------------------------------------------


def recipe_record(dataset: Dataset, recipe: DistillationConfig) -> dict[str, Any]:
    """The settings that determine one of a dataset's students, as its ``log.json`` holds them."""
    config = dataset.run.config
    ignored = {name.partition(".")[2] for name in SETTINGS_WITHOUT_EFFECT_ON_RESULTS if stage_of(name) == "distill"}
    record = {name: value for name, value in asdict(recipe).items() if name not in ignored}
    # Real images come from two settings, and only some students see any.
    learns_from_real = dataset.method == "real" or recipe.real_share > 0
    record["real"] = (recipe.real or config.evaluation.real) if learns_from_real else ""
    record["real_image_size"] = config.evaluation.image_size if learns_from_real else 0
    return _as_json(record)


def evaluation_record(run: Run) -> dict[str, Any]:
    """The settings that determine an evaluation, as its file holds them."""
    return _as_json(asdict(run.config.evaluation))


def is_trained(dataset: Dataset, name: str, recipe: DistillationConfig) -> bool:
    """Whether there is a student of this recipe and of all that it would learn from now."""
    log = read_json_if_any(dataset.folder / name / "log.json", TrainingLog)
    if log is None or log["images"] != dataset.num_images or _changed_recipe(dataset, log, recipe):
        return False
    return not differing_inputs(log.get("inputs"), dataset.run.inputs.of_student(dataset, recipe))


def check_trained(dataset: Dataset, name: str, recipe: DistillationConfig) -> None:
    """Refuse to measure what isn't there, or isn't what the settings say.

    Raises:
        UserError: the student isn't trained, or with other settings or images, or its files are others now.
    """
    if not is_trained(dataset, name, recipe):
        raise UserError(
            f"expected the student of {dataset.title}, trained with the run's settings on all its images, in "
            f"{dataset.folder / name}, got none; run `prismkd distill --out {dataset.run.directory}` first"
        )
    check_student(dataset.folder / name)


def _changed_recipe(dataset: Dataset, log: TrainingLog, recipe: DistillationConfig) -> dict[str, Any]:
    """The settings, with the student's own values, in which it differs from what the run asks for now."""
    wanted = recipe_record(dataset, recipe)
    if "recipe" not in log:  # of an earlier version, whose runs kept their settings
        return {"settings": "other"} if _has_changed(dataset.run, "distill") else {}
    made = _as_json(asdict(DistillationConfig())) | log["recipe"]  # a setting that came later had its default
    changed = {name: made[name] for name in wanted if made.get(name) != wanted[name]}
    # Of a path that is another now, what lies there counts, where it is known what lay there.
    if changed and changed.keys() <= {"real", "initial"} and log.get("inputs"):
        return changed if differing_inputs(log["inputs"], dataset.run.inputs.of_student(dataset, recipe)) else {}
    return changed


def _is_stale(run: Run, path: Path) -> bool:
    """Whether an evaluation was made with other settings."""
    found = read_json_if_any(path, ShownEvaluation)
    if found is None:
        return False
    if "settings" not in found:  # of an earlier version
        return _has_changed(run, "evaluate")
    changed = set(differing_keys(found["settings"], evaluation_record(run)))
    if changed <= PLACES and "test" in found.get("inputs", {}) and run.config.evaluation.source:
        # Of a path that is another now, what lies there counts.
        now = run.inputs.of_evaluation | {"student": found["inputs"].get("student")}
        return bool(changed and differing_inputs({"student": None, **found["inputs"]}, now))
    return bool(changed)


def _has_changed(run: Run, stage: str) -> bool:
    """Whether settings of a stage were changed since the run was started."""
    changes = read_record(run.directory).get("changes", [])
    return any(stage_of(name) == stage for change in changes for name in change["settings"])


def _as_json(data: Any) -> Any:
    return json.loads(json.dumps(data))


# --- setting aside ---------------------------------------------------------------------------------------------------


def set_stale_aside(run: Run, recipes: dict[str, DistillationConfig]) -> None:
    """Set aside every student and evaluation that other settings have made; for who holds the run."""
    students, settings = list[Path](), dict[str, None]()
    for dataset in run.datasets:
        for name, recipe in recipes.items():
            log = read_json_if_any(dataset.folder / name / "log.json", TrainingLog)
            changed = _changed_recipe(dataset, log, recipe) if log else {}
            if changed:
                students.append(set_aside(dataset, name, _suffix(changed)))
                settings |= dict.fromkeys(changed)
        _drop_if_stale(run, dataset.folder / EVALUATION)
    _drop_if_stale(run, run.directory / REFERENCES_FILE)
    if students:
        more = f" and {len(students) - 1} more" if len(students) > 1 else ""
        warn(
            f"another {', '.join(settings)}: the student of before is kept in {students[0]}{more}; `prismkd distill` "
            "trains anew"
        )


def set_aside(dataset: Dataset, name: str, suffix: str) -> Path:
    """Move a student and its evaluation to a folder whose name says what it is; the run's results with it are past."""
    # In this order a kill leaves no figures beside a student that they aren't of: all that is done so far stays done,
    # and the student, which is as stale as before, is found again.
    set_results_aside(dataset.run)
    folder = dataset.folder / name
    evaluation = dataset.folder / EVALUATION
    if evaluation.is_file():
        rename(evaluation, folder / EVALUATION)
    kept = _unused(folder.with_name(f"{name}-{suffix}"))
    rename(folder, kept)
    return kept


def set_results_aside(run: Run) -> None:
    """Move the report and the table of results, which are of students that aren't the run's any longer."""
    found = [run.directory / name for name in RESULTS if (run.directory / name).is_file()]
    if found:
        kept = _begun(run.directory / "earlier-results") or _unused(run.directory / "earlier-results")
        make_folder(kept)
        for path in found:
            rename(path, kept / path.name)
        warn(f"results of before are kept in {kept}; `prismkd evaluate` and `report` make new ones")


def _drop_if_stale(run: Run, path: Path) -> None:
    """Delete an evaluation that was made with other settings: it is measured again, and the old figures are kept."""
    if _is_stale(run, path):
        set_results_aside(run)
        remove(path)


def set_other_inputs_aside(dataset: Dataset, name: str, recipe: DistillationConfig) -> None:
    """Set aside a student that learned from other images or weights than there are now, whatever they were called."""
    log = read_json_if_any(dataset.folder / name / "log.json", TrainingLog)
    if log is None:
        return
    others = differing_inputs(log.get("inputs"), dataset.run.inputs.of_student(dataset, recipe))
    if log["images"] != dataset.num_images:
        kept = set_aside(dataset, name, f"{log['images']}-images")
        warn(f"images were added: the {name} of {log['images']} is now in {kept}, and a new one is trained")
    elif others:
        kept = set_aside(dataset, name, f"other-{others[-1]}")
        warn(
            f"another content of {' and '.join(others)} than when the {name} of {dataset.title} was trained: it is now "
            f"in {kept}, and a new one is trained"
        )


def drop_other_evaluation(run: Run, path: Path, inputs: dict[str, Any]) -> None:
    """Delete an evaluation of other test images, another judge, ... than there are now; it is measured again."""
    found: ShownEvaluation = read_json_if_any(path, ShownEvaluation) or {}
    others = differing_inputs(found.get("inputs"), inputs)
    if "inputs" not in found and "test" in inputs:  # earlier versions noted what the test images are, and nothing else
        noted = {name: row.get("images") for name, row in found.get("domains", {}).items()}
        others = ["test"] if noted and all(noted.values()) and noted != inputs["test"] else []
    if others:
        set_results_aside(run)
        remove(path)
        warn(f"another content of {' and '.join(others)} than in {path}, which is measured again")


def _suffix(changed: dict[str, Any]) -> str:
    """What a student had, as a part of its folder's name."""
    if len(changed) > MAX_NAMED:
        return "other-settings"
    parts = [f"{name}-{value}" for name, value in changed.items()]
    return re.sub(r"[^\w.]+|_", "-", "-".join(parts)).strip("-.")[:80]


def _unused(path: Path) -> Path:
    """The path, with a number where something is there."""
    return next(found for found in _numbered(path) if not os.path.lexists(found))


def _begun(path: Path) -> Path | None:
    """The folder of this name, or of the name with a number, that a kill has left without the last of the results."""
    folders = (found for found in takewhile(os.path.lexists, _numbered(path)) if found.is_dir())
    return next((found for found in folders if not (found.is_symlink() or (found / RESULTS[-1]).is_file())), None)


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    yield from (path.with_name(f"{path.name}-{number}") for number in count(2))


# --- a training that isn't complete ----------------------------------------------------------------------------------


def begin_training(dataset: Dataset, name: str, recipe: DistillationConfig) -> None:
    """Note what a student is made with; the checkpoint of a training with other settings or images is deleted."""
    folder = dataset.folder / name
    inputs = dataset.run.inputs.of_student(dataset, recipe)
    wanted = {"recipe": recipe_record(dataset, recipe), "images": dataset.num_images, "inputs": inputs}
    try:
        begun = read_json_if_any(folder / TRAINING, BegunTraining)
        if begun and wanted == {"inputs": inputs, **begun}:  # earlier versions noted none
            return
    except UserError:  # nobody knows any more what the checkpoint is of
        if (folder / CHECKPOINT).is_file():
            set_checkpoint_aside(folder / CHECKPOINT, f"one beside a damaged {TRAINING}")
    if (folder / CHECKPOINT).is_file():
        warn(
            f"the half-trained {name} of {dataset.title} is deleted, since its settings or images are others now; it "
            "is trained from the start"
        )
        remove(folder / CHECKPOINT)
    write_json(folder / TRAINING, wanted)


def end_training(folder: Path) -> None:
    """Delete what only a training that isn't complete needs."""
    remove(folder / CHECKPOINT)
    remove(folder / TRAINING)
