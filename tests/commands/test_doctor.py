"""``prismkd doctor``: what it says of a teacher, and of its accuracy where there are test images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch

from prismkd.assets import asset
from prismkd.classes import load_classes
from prismkd.classes.matching import ClassLabels
from prismkd.classifiers import Classifier, predict, save_classifier
from prismkd.classifiers.networks import SmallResNet
from prismkd.cli import main
from prismkd.commands import teacher_checks
from prismkd.data import load_domains


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_checks, "SPEED_SECONDS", 0.0)


def doctor(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, tuple[str, str]]:
    """Status and text of each check."""
    code = main(["doctor", "--json", *words])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return {check["name"]: (check["status"], check["text"]) for check in json.loads(shown.out)}


def test_it_shows_top1_and_top5_of_every_domain(
    few_icons: Path, teacher: Classifier, capsys: pytest.CaptureFixture[str]
) -> None:
    source = few_icons / "test.parquet"
    checks = doctor(capsys, "--classes", "pictograms-24", "--evaluation.source", str(source))
    labels = ClassLabels([[item.name] for item in load_classes("pictograms-24")])
    images = load_domains(str(source), (), labels, "id", 0, 64)
    ranks = predict(teacher, images.images).argsort(1, descending=True)
    for domain in ("id", "sketch"):
        mask = torch.from_numpy(images.domains == domain)
        hits = ranks[mask] == images.labels[mask][:, None]
        status, text = checks[f"accuracy on {domain}"]
        assert status == "ok" and text.startswith(f"top-1 {100 * hits[:, 0].double().mean():.1f} %")
        assert f"top-5 {100 * hits[:, :5].any(1).double().mean():.1f} %" in text and f"({len(hits)} images)" in text


def test_test_images_without_a_class_list_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_classifier(tmp_path / "mine", SmallResNet(3, 4), {"architecture": "small-resnet-4", "num_classes": 3,
                                                           "in_channels": 1})  # fmt: skip
    checks = doctor(capsys, "--teacher", str(tmp_path / "mine"))
    assert not any(name.startswith("accuracy") for name in checks)
    checks = doctor(capsys, "--teacher", str(tmp_path / "mine"), "--evaluation.source", str(asset("test.parquet")))
    assert checks["accuracy"][0] == "warning" and "--classes" in checks["accuracy"][1]


def test_a_teacher_of_more_classes_than_the_runs_is_said_to_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_classifier(tmp_path / "mine", SmallResNet(3, 4), {"architecture": "small-resnet-4", "num_classes": 3,
                                                           "in_channels": 1, "label_names": list("abc")})  # fmt: skip
    (tmp_path / "some.txt").write_text("c\na\n")
    checks = doctor(capsys, "--teacher", str(tmp_path / "mine"), "--classes", str(tmp_path / "some.txt"))
    assert checks["outputs"] == ("ok", "3 for 2 classes (c, a), which are some of its own")


def test_several_teachers_name_their_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, classes in (("a", ["ant", "bee"]), ("b", ["bee", "cat", "dog"])):
        config = {"architecture": "small-resnet-4", "num_classes": len(classes), "in_channels": 1,
                  "id2label": dict(enumerate(classes))}  # fmt: skip
        save_classifier(tmp_path / name, SmallResNet(len(classes), 4), config)
    (tmp_path / "several.toml").write_text('[[teacher]]\nsource = "a"\n[[teacher]]\nsource = "b"\n')
    checks = doctor(capsys, "--classes", "teacher", "--teacher", str(tmp_path / "several.toml"))
    assert checks["teachers"] == ("ok", "2 for 4 classes")


def test_it_says_whose_preprocessing_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, names = tmp_path / "weights.pth", tmp_path / "names.txt"
    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), path)
    names.write_text("ant\nbee\ncat\n")
    words = ["--teacher", f"timm:test_resnet@{path}", "--classes", str(names)]
    checks = doctor(capsys, *words)
    assert checks["note"][0] == "warning" and "set teacher_preprocessing" in checks["note"][1]
    assert checks["preprocessing parity"][0] == "ok" and "top-1 equal on 16 of 16" in checks["preprocessing parity"][1]
    checks = doctor(capsys, *words, "--teacher-preprocessing.resize", "64", "48")
    assert "note" not in checks and ", to 64 x 48 (bilinear), mean" in checks["preprocessing"][1]
