"""Whatever stands in a field of a run's records, who reads the run goes on or says in one line what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from prismkd.commands.preview import preview
from prismkd.commands.survival import print_survival
from prismkd.config import Config
from prismkd.data.geometry import Geometry
from prismkd.delivery.model_card import model_card
from prismkd.delivery.student_folder import delivered_config, read_delivered
from prismkd.errors import UserError
from prismkd.prompts import PromptPlan
from prismkd.records.comparison import compare
from prismkd.records.directory import read_json
from prismkd.records.results import load_run
from prismkd.records.shapes import PromptsRecord
from prismkd.records.status import status_of
from prismkd.report.build import context
from prismkd.shards import Manifest, read_manifest, scan, write_shard
from prismkd.shards.claim import claim
from tests.report.made import make_run, write_json

NAMES = ("bell", "mouse")
DEEP: list[Any] = []
for _ in range(80):
    DEEP = [DEEP]
WRONG = (None, -1, 1.5, "x", "\x1b[31m", [], {}, 10**30, float("nan"), True, DEEP)  # and missing
MISSING = object()


def finished(folder: Path) -> Path:
    """A run with every record that its readers know."""
    run = make_run(folder, ("plain", "prism", "teacher"), classes=NAMES)
    path = run / "run.json"
    record = json.loads(path.read_text())
    settings = {"seeds": [0], "methods": ["plain", "prism"], "synthesis": {"images_per_class": 10}}
    change = {"date": "2026-01-03", "command": "prismkd distill", "settings": {"distillation.num_steps": [1, 2]}}
    write_json(path, record | {"config": settings, "changes": [change]})
    folder = run / "seed-0" / "prism"
    prompts = json.loads((folder / "prompts.json").read_text())
    prompts["plan"] |= {"seed": 0, "pilot": 2, "shares": [0.5, 0.5], "later": prompts["plan"]["subjects"]}
    prompts["plan"]["styles"] = [{"name": n, "phrase": "{}", "domain": n, "weight": 0.5} for n in ("flat", "round")]
    write_json(folder / "prompts.json", prompts)
    write_json(folder / "synthesis.json", {"num_images": 20, "planned": 20, "seconds": 2.0, "complete": True})
    claim(folder / "images", Manifest({"prompts": "p"}, (20,), 10, NAMES))
    write_shard(folder / "images", 1, [], "0")
    row = {"treatment": "none", "viewer": "teacher", "gain": 1.0, "label_gain": 0.5, "top1": 0.9,
           "top1_unguided": 0.8, "survives": 1.0}  # fmt: skip
    write_json(run / "survival.json", {"num_images": 4, "guided": [row], "ascending": [row]})
    student = {"architecture": "small-resnet-4", "in_channels": 1, "mean": [0.5], "std": [0.5]}
    delivered = delivered_config(student, list(NAMES), Geometry.square(16), None)
    write_json(run / "delivered" / "config.json", delivered)
    (run / "delivered" / "model.onnx").touch()
    return run


def places(document: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values of a document are; of a list the first one's alone."""
    if place:
        yield place
    for key, value in document.items() if isinstance(document, dict) else enumerate(document[:1]):
        if isinstance(value, dict | list):
            yield from places(value, (*place, key))
        else:
            yield (*place, key)


def mutated(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    changed = deepcopy(document)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    if value is MISSING:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return changed


def plan_of(run: Path) -> PromptPlan:
    path = run / "seed-0" / "prism" / "prompts.json"
    plan = PromptPlan.from_dict(read_json(path, PromptsRecord)["plan"], NAMES, str(path))
    _ = [plan[index] for index in range(10)]
    return plan


def page_of(run: Path) -> None:
    context(load_run(run))


READERS: dict[str, tuple[Callable[[Path], object], ...]] = {
    "run.json": (
        status_of, page_of, lambda run: compare([run], ["plain", "prism"]),
        lambda run: model_card(run, "prism", 0, json.loads((run / "delivered/config.json").read_text()), [], None),
    ),
    "metrics.json": (page_of,),
    "calibration.json": (page_of,),
    "senses.json": (page_of, lambda run: preview(Config(), 30, run)),
    "contents.json": (page_of, lambda run: preview(Config(), 30, run)),
    "survival.json": (print_survival,),
    "seed-0/prism/evaluation.json": (page_of, lambda run: compare([run], ["plain", "prism"])),
    "seed-0/prism/student/log.json": (page_of,),
    "seed-0/prism/prompts.json": (page_of, plan_of),
    "seed-0/prism/synthesis.json": (lambda run: preview(Config(), 30, run),),
    "seed-0/prism/images/dataset.json": (status_of, lambda run: read_manifest(run / "seed-0/prism/images")),
    "seed-0/prism/images/ledger/shard-000000.json": (status_of, lambda run: scan(run / "seed-0/prism/images")),
    "delivered/config.json": (lambda run: read_delivered(run / "delivered"),),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_a_wrong_value_in_any_field_is_one_line_or_harmless(name: str, tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    path = run / name
    document = json.loads(path.read_text())
    problems = []
    for number, place in enumerate(places(document)):
        for value in (*WRONG, MISSING)[number % 3 :: 3]:  # of twelve values four, in turn
            write_json(path, mutated(document, place, value))
            for read in READERS[name]:
                try:
                    read(run)
                except UserError as error:
                    problems.append(str(error))
                except Exception as error:
                    pytest.fail(f"{type(error).__name__}: {error} for {value!r} at {place}", pytrace=True)
    assert all(len(problem) < 2000 and "\n" not in problem for problem in problems)
    assert problems or name.endswith("shard-000000.json")  # a damaged commit record is a shard that doesn't count
