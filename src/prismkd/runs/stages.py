"""The stages: each reads a part of the run directory and writes the next, and skips what is there already.

The first two, prompts and synthesize, are in ``prompting.py`` and ``synthesizing.py``.
"""

from __future__ import annotations

import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from prismkd import __version__
from prismkd.config import Config, DistillationConfig
from prismkd.data import LabelledImages
from prismkd.records.directory import LABELS_STUDENT, STUDENT, read_json, read_record, write_json
from prismkd.distillation import TrainingSet, open_images, to_bytes, train
from prismkd.distillation.student import check_student
from prismkd.runs.measurement import Measurement
from prismkd.prompts import plain_plan
from prismkd.runs.run import Run, silent
from prismkd.shards import read_samples, scan, whole
from prismkd.synthesis.survival import VARIANTS, check_guided, gains, survival_test, to_dicts
from prismkd.synthesis.synthesizer import Synthesizer
from prismkd.errors import warn
from prismkd.runs.drawing import calibration
from prismkd.classifiers import save_classifier

# --- survival ----------------------------------------------------------------------------------------------------


def survival(run: Run) -> None:
    """Test whether the guidance's gain survives treatments and convinces the judge; writes ``survival.json``."""
    check_guided(run.config.guidance)  # before the calibration, which takes a while
    count = run.config.guidance.num_calibration_images
    synthesizer = Synthesizer(run.generator, run.teacher, run.config.guidance, calibration(run))
    plan = plain_plan(run.classes, run.config.seeds[0], run.config.prompts.template)
    with run.track("survival test", count * len(VARIANTS)) as progress:
        rows = survival_test(synthesizer, plan, count, run.judge, progress)
    write_json(run.directory / "survival.json", {
        "num_images": count, "rows": to_dicts(rows), "guided": gains(rows), "ascending": gains(rows, "ascending"),
    })  # fmt: skip


# --- distill -----------------------------------------------------------------------------------------------------


def distill_students(run: Run) -> None:
    """Train every method's student; where images were added since, a new one.

    Under `torchrun` or `accelerate launch` all processes train together, and the first one alone writes.
    """
    processes = PartialState(cpu=not torch.accelerator.is_available())  # else, without a GPU, each would be alone
    left = {job: [name for name in recipes(run.config) if not _is_trained(run, *job, name)] for job in run.jobs}
    processes.wait_for_everyone()  # before the first student appears
    for job, names in left.items():
        if not names:
            continue
        data = training_set(run, *job)
        for name in names:
            folder = run.folder(*job) / name
            if processes.is_main_process and (folder / "log.json").is_file():
                _set_aside(folder, read_json(folder / "log.json")["images"])
            processes.wait_for_everyone()
            _distill_student(run, *job, data, folder, processes.is_main_process)
            processes.wait_for_everyone()


def recipes(config: Config) -> dict[str, DistillationConfig]:
    """How each of a method's students is trained, by its folder's name."""
    found = {STUDENT: config.distillation}
    if config.evaluation.cas:
        found[LABELS_STUDENT] = replace(config.distillation, hard_label_weight=1.0, feature_weight=0.0)
    return found


def _distill_student(run: Run, seed: int, method: str, data: TrainingSet, folder: Path, writes: bool) -> None:
    config = recipes(run.config)[folder.name]
    shape = data.images.image_shape
    student = run.new_student(shape[0], seed)
    check_student(student, shape, len(run.classes))
    start, shown = time.monotonic(), f"{folder.name} {method} (seed {seed})"
    with (run.track if writes else silent)(shown, config.num_steps) as progress:
        log = train(student, run.teacher, data, config, seed, folder / "checkpoint.pt", progress)
    if not writes:
        return
    warnings = log.warnings([item.name for item in run.classes])
    for text in warnings:
        warn(f"{shown}: {text}")
    save_classifier(folder, student, {"architecture": config.architecture, "num_classes": len(run.classes),
                                      "in_channels": shape[0]})  # fmt: skip
    write_json(folder / "log.json", {"seconds": time.monotonic() - start, "images": len(data.images),
                                     **log.to_dict(), "warnings": warnings})  # fmt: skip
    (folder / "checkpoint.pt").unlink()


def _is_trained(run: Run, seed: int, method: str, name: str) -> bool:
    """Whether there is a student of all images that there are now."""
    log = run.folder(seed, method) / name / "log.json"
    return log.is_file() and read_json(log)["images"] == _num_images(run, seed, method)


def _num_images(run: Run, seed: int, method: str) -> int:
    """Images that a student of this method would learn from now, but for those of distillation.real_share."""
    if method == "real":
        return len(_real(run).images)
    return scan(run.images(seed, method)).num_images


def _real(run: Run) -> LabelledImages:
    assert run.real_training is not None
    return run.real_training


def _set_aside(folder: Path, num_images: int) -> None:
    """Keep the student of fewer images, and its evaluation, under another name."""
    kept, number = folder.with_name(f"{folder.name}-{num_images}-images"), 1
    while kept.exists():
        number += 1
        kept = folder.with_name(f"{folder.name}-{num_images}-images-{number}")
    warn(f"images were added: the {folder.name} of {num_images} is now in {kept}, and a new one is trained")
    evaluation = folder.parent / "evaluation.json"
    if evaluation.is_file():
        evaluation.replace(folder / "evaluation.json")
    folder.replace(kept)


def training_set(run: Run, seed: int, method: str) -> TrainingSet:
    """What a method's student learns from: verified shards, real images, or both.

    Raises:
        UserError: a shard is damaged or missing.
    """
    config = run.config.distillation
    if method == "real":
        return TrainingSet(to_bytes(_real(run).images), _real(run).labels)
    source = run.images(seed, method)
    whole(source)
    images, labels = open_images(source, config.memory_gigabytes * 1e9, config.num_workers)
    mixed = (to_bytes(_real(run).images), _real(run).labels) if config.real_share > 0 else None
    return TrainingSet(images, labels, mixed, config.real_share)


# --- evaluate ----------------------------------------------------------------------------------------------------


def evaluate(run: Run) -> None:
    """Measure every student and image set, and gather all of it in ``metrics.json``.

    Raises:
        UserError: test images that don't decode, before anything is measured; or a damaged shard.
    """
    measurement = Measurement(run)
    if not (run.directory / "references.json").is_file():
        write_json(run.directory / "references.json", measurement.references())
    for seed, method in run.jobs:
        path = run.folder(seed, method) / "evaluation.json"
        if not path.is_file():
            write_json(path, {**measurement.evaluate(seed, method), "energy": _energies(run, seed, method)})
    write_json(run.directory / "metrics.json", gather_metrics(run))


def _energies(run: Run, seed: int, method: str) -> dict[str, list[float]]:
    """Teacher energies of each image: at the start of the guided band, and of the final image."""
    if method == "real":
        return {}
    metadata = [sample.metadata for sample in read_samples(run.images(seed, method))]
    energies = {"after": [row["energy_after"] for row in metadata]}
    if all(row["energy_before"] is not None for row in metadata):
        energies["before"] = [row["energy_before"] for row in metadata]
    return energies


def gather_metrics(run: Run) -> dict[str, Any]:
    """All results and timings in the published schema."""
    results, timings = read_json(run.directory / "references.json")["results"], []
    for seed, method in run.jobs:
        folder = run.folder(seed, method)
        results += read_json(folder / "evaluation.json")["results"]
        for stage, name in zip(("distill", "cas"), recipes(run.config), strict=False):
            log = read_json(folder / name / "log.json")
            timings.append(_timing(stage, method, seed, log["seconds"], log["images"]))
        if method != "real":
            record = read_json(folder / "synthesis.json")
            timings.append(_timing("synthesize", method, seed, record["seconds"], record["num_images"]))
    for stage in ("senses", "contents", "calibration"):
        path = run.directory / f"{stage}.json"
        if path.is_file():
            data = read_json(path)
            timings.append(_timing(stage, "", None, data["seconds"], data.get("images", data.get("num_images"))))
    record = read_record(run.directory)
    return {
        "schema": 1,
        "results": results,
        "timings": timings,
        "classes": [item.name for item in run.classes],
        "command": record["command"],
        "hardware": hardware(),
        "date": record["started"][:10],
        "version": __version__,
        "seeds": list(run.config.seeds),
    }


def _timing(stage: str, method: str, seed: int | None, seconds: float, images: int) -> dict[str, Any]:
    return {"stage": stage, "method": method, "seed": seed, "seconds": round(seconds, 2), "images": images}


def hardware() -> str:
    """The machine in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


# --- report ------------------------------------------------------------------------------------------------------


def report(run: Run) -> None:
    """Write ``report.html``."""
    from prismkd.report import write_report

    write_report(run.directory)
