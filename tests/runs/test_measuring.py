"""A run's test images may come from folders; what can't be read stops the evaluation before it begins."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from prismkd.assets import asset
from prismkd.classes import load_classes
from prismkd.config import Config, DistillationConfig, EvaluationConfig
from prismkd.errors import UserError
from prismkd.runs.measuring import CEILING, Measurement
from prismkd.runs.run import Run
from prismkd.runs.session import Session

SOME = Config(classes="pictograms-24")
NAMES, EVERY = ([item.name for item in load_classes(name)] for name in (SOME.classes, "pictograms"))
PER_CLASS = 6  # as ``few_icons`` has them


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, few_icons: Path) -> Path:
    """Some of the embedded world's test icons as ``id/CLASS/*.png`` and ``sketch/CLASS/*.png``."""
    folder = tmp_path_factory.mktemp("icons")
    table = pq.read_table(few_icons / "test.parquet", columns=["image", "label", "domain"]).to_pylist()
    for number, row in enumerate(table):
        few = row["domain"] == "sketch" and row["label"] in NAMES[:6]
        if row["domain"] == "id" or few:
            place = folder / row["domain"] / row["label"].replace(" ", "_")
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}.png").write_bytes(row["image"])
    return folder


def measurement(folders: Path, **settings: object) -> Measurement:
    evaluation = EvaluationConfig(source=str(folders / "id"), real="", **settings)  # type: ignore[arg-type]
    return Measurement(Run(replace(SOME, evaluation=evaluation), directory=folders))


def test_folders_and_a_shifted_set_of_few_classes(folders: Path) -> None:
    found = measurement(folders, shifted=(f"sketch={folders / 'sketch'}",)).references()
    rows = {(row["method"], row["domain"], row["metric"]): row for row in found["results"]}
    assert rows["teacher", "id", "top1"]["n"] == len(NAMES) * PER_CLASS
    assert rows["teacher", "id", "top1"]["value"] > 0.7
    assert rows["teacher", "sketch", "present_classes"]["value"] == len(list((folders / "sketch").iterdir()))
    assert rows[CEILING, "images", "precision"]["n"] == len(NAMES) * PER_CLASS / 2
    assert found["domains"]["id"]["images"] != found["domains"]["sketch"]["images"]


def test_domain_folders_with_the_teachers_own_domain(folders: Path) -> None:
    config = EvaluationConfig(source=str(folders), id_domain="id", real="", judge="")
    found = Measurement(Run(replace(SOME, evaluation=config), directory=folders)).references()
    assert set(found["domains"]) == {"id", "sketch"}
    assert CEILING not in {row["method"] for row in found["results"]}  # no judge, no ceiling


def test_no_more_real_images_than_asked_for_are_compared(folders: Path) -> None:
    found = measurement(folders, max_images=50).references()
    assert {row["n"] for row in found["results"] if row["metric"] == "recall"} == {25}


def test_some_of_the_embedded_classes_have_their_own_images_by_name() -> None:
    session = Session(SOME)
    assert session.real is not None
    for name, found in (("test", session.test.labels), ("real", session.real.labels)):
        labels = pq.read_table(asset(f"{name}.parquet"), columns=["label"])["label"].to_pylist()
        expected = Counter(EVERY[label] for label in labels if EVERY[label] in NAMES)
        assert Counter(NAMES[label] for label in found.tolist()) == expected


def test_the_images_of_the_method_real_are_those_that_its_student_learns_from(folders: Path) -> None:
    config = replace(SOME, distillation=DistillationConfig(real=str(folders / "id")))
    run = Run(config, directory=folders)
    assert run.real is not None and len(run.real) > len(NAMES) * PER_CLASS
    assert sum(len(labels) for _, labels, _ in run.dataset(0, "real").batches(10_000)) == len(NAMES) * PER_CLASS


def test_corrupt_images_stop_the_evaluation_before_it_begins(folders: Path) -> None:
    path = next((folders / "id").rglob("*.png"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    try:
        with pytest.raises(UserError, match=rf"got 1 of {len(NAMES) * PER_CLASS} that do not .*{path.name}"):
            measurement(folders).references()
    finally:
        path.write_bytes(whole)
