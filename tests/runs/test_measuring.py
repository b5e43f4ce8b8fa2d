"""A run's test images may come from folders; what can't be read stops the evaluation before it begins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from prismkd.assets import asset
from prismkd.config import Config, DistillationConfig, EvaluationConfig
from prismkd.errors import UserError
from prismkd.runs.measuring import CEILING, Measurement
from prismkd.runs.run import Run

PER_CLASS = 6


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the embedded world's test icons as ``id/CLASS/*.png`` and ``sketch/CLASS/*.png``."""
    folder = tmp_path_factory.mktemp("icons")
    names = [row["name"] for row in json.loads(asset("classes.json").read_text())]
    table = pq.read_table(asset("test.parquet"), columns=["image", "label", "domain"]).to_pylist()
    for number, row in enumerate(table):
        place = folder / row["domain"] / names[row["label"]].replace(" ", "_")
        few = row["domain"] == "sketch" and row["label"] < 6
        if (row["domain"] == "id" or few) and (not place.is_dir() or len(list(place.iterdir())) < PER_CLASS):
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}.png").write_bytes(row["image"])
    return folder


def measurement(folders: Path, **settings: object) -> Measurement:
    evaluation = EvaluationConfig(source=str(folders / "id"), real="", **settings)  # type: ignore[arg-type]
    return Measurement(Run(replace(Config(), evaluation=evaluation), directory=folders))


def test_folders_and_a_shifted_set_of_few_classes(folders: Path) -> None:
    found = measurement(folders, shifted=(f"sketch={folders / 'sketch'}",)).references()
    rows = {(row["method"], row["domain"], row["metric"]): row for row in found["results"]}
    assert rows["teacher", "id", "top1"]["n"] == 24 * PER_CLASS
    assert rows["teacher", "id", "top1"]["value"] > 0.7
    assert rows["teacher", "sketch", "present_classes"]["value"] == len(list((folders / "sketch").iterdir()))
    assert rows[CEILING, "images", "precision"]["n"] == 24 * PER_CLASS / 2
    assert found["domains"]["id"]["images"] != found["domains"]["sketch"]["images"]


def test_domain_folders_with_the_teachers_own_domain(folders: Path) -> None:
    config = EvaluationConfig(source=str(folders), id_domain="id", real="", judge="")
    found = Measurement(Run(replace(Config(), evaluation=config), directory=folders)).references()
    assert set(found["domains"]) == {"id", "sketch"}
    assert CEILING not in {row["method"] for row in found["results"]}  # no judge, no ceiling


def test_no_more_real_images_than_asked_for_are_compared(folders: Path) -> None:
    found = measurement(folders, max_images=50).references()
    assert {row["n"] for row in found["results"] if row["metric"] == "recall"} == {25}


def test_the_images_of_the_method_real_are_those_that_its_student_learns_from(folders: Path) -> None:
    config = replace(Config(), distillation=DistillationConfig(real=str(folders / "id")))
    run = Run(config, directory=folders)
    assert run.real is not None and len(run.real) == 1304
    assert sum(len(labels) for _, labels, _ in run.dataset(0, "real").batches(10_000)) == 24 * PER_CLASS


def test_corrupt_images_stop_the_evaluation_before_it_begins(folders: Path) -> None:
    path = next((folders / "id").rglob("*.png"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    try:
        with pytest.raises(UserError, match=rf"got 1 of {24 * PER_CLASS} that do not .*{path.name}"):
            measurement(folders).references()
    finally:
        path.write_bytes(whole)
