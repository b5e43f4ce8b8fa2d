"""The stages: each reads a part of the run directory and writes the next, and skips what is there already.

The first, prompts, is in ``prompting.py``.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from dataclasses import asdict, fields
from typing import Any

import torch
from torch import Tensor

from prismkd import __version__
from prismkd.config import GUIDED_METHODS
from prismkd.distillation import distill, new_student
from prismkd.evaluation import evaluate_images, evaluate_student
from prismkd.guidance import Calibration
from prismkd.probes import PROBE_SEED, run_calibration
from prismkd.prompting import allocated_plan, load_plan, pilot_size
from prismkd.prompts import plain_plan
from prismkd.run import LAST_METHOD, Run, read_json, write_json
from prismkd.shards import load_arrays, verify
from prismkd.survival import VARIANTS, check_guided, gains, survival_test, to_dicts
from prismkd.synthesis import Synthesizer, run_shard
from prismkd.teachers import load_classifier, save_classifier

# --- synthesize --------------------------------------------------------------------------------------------------


def synthesize(run: Run) -> None:
    """Draw every method's images."""
    for seed, method in run.jobs:
        if method != "real":
            _synthesize_one(run, seed, method)


def _synthesize_one(run: Run, seed: int, method: str) -> None:
    folder, config = run.folder(seed, method), run.config
    plan = load_plan(run, seed, method)
    count = _num_images(run, seed, method)
    record = folder / "synthesis.json"
    if record.is_file() and read_json(record)["complete"]:
        return
    guided = method in GUIDED_METHODS
    calibration = _calibration(run) if guided else None
    synthesizer = Synthesizer(run.generator, run.teacher, config.guidance if guided else None, calibration)
    identity = [plan.hash(), asdict(config.generator), config.teacher, config.synthesis.shard_size]
    identity += [asdict(config.guidance), asdict(calibration)] if calibration else []
    pilot = pilot_size(run, method, count)
    identity += [pilot] if pilot else []  # what follows the pilot is determined by it
    plan_hash = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    seconds = read_json(record)["seconds"] if record.is_file() else 0.0
    with run.track(f"images {method} (seed {seed})", count) as progress:
        for shard, indices in enumerate(_shard_ranges(pilot, count, config.synthesis.shard_size)):
            if pilot and indices.start == pilot:
                start = time.monotonic()
                plan = allocated_plan(run, folder, plan, pilot)
                seconds += time.monotonic() - start
            spent = run_shard(folder / "images", shard, plan, indices, synthesizer, plan_hash, progress)
            seconds += spent or 0.0
            write_json(record, {"num_images": count, "seconds": seconds, "complete": False})
    write_json(record, {"num_images": count, "seconds": seconds, "images_per_second": count / max(seconds, 1e-9),
                        "complete": True})  # fmt: skip


def _shard_ranges(pilot: int, count: int, size: int) -> list[range]:
    """The indices of each shard; the pilot ends with one."""
    parts = (range(pilot), range(pilot, count))
    return [part[start : start + size] for part in parts for start in range(0, len(part), size)]


def _num_images(run: Run, seed: int, method: str) -> int:
    """Images of a method; ``more`` gets as many as PRISM's seconds, its own preparation included, would buy plain."""
    count = run.config.synthesis.images_per_class * len(run.classes)
    if method != LAST_METHOD:
        return count
    plain, prism = (read_json(run.folder(seed, name) / "synthesis.json") for name in ("plain", "prism"))
    records = [run.directory / name for name in ("senses.json", "contents.json", "calibration.json")]
    preparation = sum(read_json(path)["seconds"] for path in records if path.is_file())
    return max(count, round(count * (prism["seconds"] + preparation) / plain["seconds"]))


def _calibration(run: Run) -> Calibration:
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


# --- survival ----------------------------------------------------------------------------------------------------


def survival(run: Run) -> None:
    """Test whether the guidance's gain survives treatments and convinces the judge; writes ``survival.json``."""
    check_guided(run.config.guidance)  # before the calibration, which takes a while
    count = run.config.guidance.num_calibration_images
    synthesizer = Synthesizer(run.generator, run.teacher, run.config.guidance, _calibration(run))
    plan = plain_plan(run.classes, run.config.seeds[0], run.config.prompts.template)
    with run.track("survival test", count * len(VARIANTS)) as progress:
        rows = survival_test(synthesizer, plan, count, run.judge, progress)
    write_json(run.directory / "survival.json", {
        "num_images": count, "rows": to_dicts(rows), "guided": gains(rows), "ascending": gains(rows, "ascending"),
    })  # fmt: skip


# --- distill -----------------------------------------------------------------------------------------------------


def distill_students(run: Run) -> None:
    """Train every method's student."""
    for seed, method in run.jobs:
        folder = run.folder(seed, method) / "student"
        if (folder / "log.json").is_file():
            continue
        images = training_images(run, seed, method)[0]
        config = run.config.distillation
        student = new_student(config, len(run.classes), images.shape[1], seed)
        start = time.monotonic()
        with run.track(f"student {method} (seed {seed})", config.num_steps) as progress:
            log = distill(student, run.teacher, images, config, seed, folder / "checkpoint.pt", progress)
        save_classifier(folder, student, {"architecture": config.architecture, "num_classes": len(run.classes),
                                          "in_channels": images.shape[1]})  # fmt: skip
        write_json(folder / "log.json", {"seconds": time.monotonic() - start, "images": len(images), "log": log})
        (folder / "checkpoint.pt").unlink()


def training_images(run: Run, seed: int, method: str) -> tuple[Tensor, Tensor]:
    """The images (n, channels, height, width) and intended labels (n,) that a method's student learns from."""
    if method == "real":
        assert run.real is not None
        return run.real.images, run.real.labels
    folder = run.folder(seed, method) / "images"
    verify(folder)
    images, labels, _ = load_arrays(folder)
    return torch.from_numpy(images), torch.from_numpy(labels)


# --- evaluate ----------------------------------------------------------------------------------------------------


def evaluate(run: Run) -> None:
    """Measure every student and image set, and gather all of it in ``metrics.json``."""
    held_out = run.test.domain("id")
    for seed, method in run.jobs:
        path = run.folder(seed, method) / "evaluation.json"
        if path.is_file():
            continue
        student = load_classifier(run.folder(seed, method) / "student")
        rows, confusion = evaluate_student(student, run.teacher, run.test, method, seed)
        images, labels = training_images(run, seed, method)
        if run.judge is not None:
            k = run.config.evaluation.nearest_k
            rows += evaluate_images(images, labels, run.teacher, run.judge, held_out, k, method, seed)
        write_json(path, {"results": [row.to_dict() for row in rows], "confusion": confusion,
                          "energy": _energies(run, seed, method)})  # fmt: skip
    write_json(run.directory / "metrics.json", gather_metrics(run))


def _energies(run: Run, seed: int, method: str) -> dict[str, list[float]]:
    """Teacher energies of each image: at the start of the guided band, and of the final image."""
    if method == "real":
        return {}
    metadata = load_arrays(run.folder(seed, method) / "images")[2]
    energies = {"after": [row["energy_after"] for row in metadata]}
    if all(row["energy_before"] is not None for row in metadata):
        energies["before"] = [row["energy_before"] for row in metadata]
    return energies


def gather_metrics(run: Run) -> dict[str, Any]:
    """All results and timings in the published schema."""
    teacher_rows = [row.to_dict() for row in evaluate_student(run.teacher, run.teacher, run.test, "teacher", 0)[0]]
    results, timings = teacher_rows, []
    for seed, method in run.jobs:
        folder = run.folder(seed, method)
        results += read_json(folder / "evaluation.json")["results"]
        log = read_json(folder / "student" / "log.json")
        timings.append(_timing("distill", method, seed, log["seconds"], log["images"]))
        if method != "real":
            record = read_json(folder / "synthesis.json")
            timings.append(_timing("synthesize", method, seed, record["seconds"], record["num_images"]))
    for stage in ("senses", "contents", "calibration"):
        path = run.directory / f"{stage}.json"
        if path.is_file():
            data = read_json(path)
            timings.append(_timing(stage, "", None, data["seconds"], data.get("images", data.get("num_images"))))
    record = read_json(run.directory / "run.json")
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
