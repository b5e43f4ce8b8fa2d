"""What ``auto`` stands for: the embedded images and judge for the embedded classes, and none for any other."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from prismkd.config import Config, EvaluationConfig
from prismkd.config.embedded import resolved
from prismkd.config.load import check_config
from prismkd.errors import UserError
from prismkd.records.directory import recorded_config
from prismkd.runs.session import Session


def named(config: Config) -> tuple[str, str, str]:
    return config.evaluation.source, config.evaluation.real, config.evaluation.judge


@pytest.mark.parametrize(
    ("classes", "teacher", "expected"),
    [
        ("pictograms", "pictograms", "pictograms"),
        ("pictograms", "mine", "pictograms"),
        ("pictograms-24", "pictograms", "pictograms"),
        ("teacher", "pictograms", "pictograms"),
        ("teacher", "mine", ""),
        ("imagenette", "pictograms", ""),
        ("names.txt", "mine", ""),
    ],
)
def test_auto_follows_the_classes(classes: str, teacher: str, expected: str) -> None:
    found = resolved(Config(classes=classes, teacher=teacher))
    assert named(found) == (expected,) * 3
    assert resolved(found) == found


def test_what_is_named_stays() -> None:
    given = EvaluationConfig(source="", real="photos", judge="pictograms")
    for classes in ("pictograms", "names.txt"):
        assert named(resolved(Config(classes=classes, evaluation=given))) == ("", "photos", "pictograms")


def test_a_session_resolves_its_settings_also_where_they_are_changed() -> None:
    session = Session(Config())
    assert named(session.config) == ("pictograms",) * 3
    assert named(replace(session, config=Config(classes="imagenette")).config) == ("",) * 3
    with pytest.raises(UserError, match=r"expected test images in evaluation\.source, got none"):
        _ = Session(Config(classes="imagenette")).test


@pytest.mark.parametrize("evaluation", [{}, {"source": "pictograms", "real": "pictograms", "judge": "pictograms"}])
def test_a_record_of_an_older_version_means_what_it_meant(evaluation: dict[str, str], tmp_path: Path) -> None:
    record = {"config": {"evaluation": evaluation}, "classes": [], "command": "", "started": ""}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert named(recorded_config(tmp_path)) == ("pictograms",) * 3


@pytest.mark.parametrize("setting", [{"shifted": ("a=b",)}, {"id_domain": "photo"}, {"cas": True}])
def test_what_is_asked_of_test_images_needs_some(setting: dict[str, object]) -> None:
    evaluation = EvaluationConfig(**setting)  # type: ignore[arg-type]
    check_config(Config(evaluation=evaluation))
    check_config(Config(classes="names.txt", evaluation=replace(evaluation, source="test")))
    for config in (Config(classes="names.txt"), Config(evaluation=EvaluationConfig(source=""))):
        without = replace(config, evaluation=replace(evaluation, source=config.evaluation.source))
        with pytest.raises(UserError, match=rf"for evaluation\.{next(iter(setting))}, got none; name them"):
            check_config(without)


def test_settings_are_recorded_as_they_are_resolved() -> None:
    assert "auto" not in asdict(resolved(Config()).evaluation).values()
