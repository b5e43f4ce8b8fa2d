"""The card says what was measured, works as it stands, and lets no text from outside speak Markdown or HTML."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image

from prismkd.cli import main
from prismkd.delivery.export_student import export_student
from tests.delivery.small_run import NUM_IMAGES, make_run

HOSTILE = ["../../etc/passwd", "<script>alert(1)</script>", "x|y`z*_[](http://a)", "two\nlines", "---", "naïve 🦆", ""]


@contextmanager
def quiet(description: str, total: int):  # type: ignore[no-untyped-def]
    yield lambda count: None


def card_of(run: Path, folder: Path, method: str = "prism", layout: str = "safetensors") -> str:
    export_student(run, method, None, layout, folder, quiet)
    return (folder / "README.md").read_text()


def table_rows(card: str, title: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    section = card.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_figures_stand_beside_the_teachers_with_count_interval_and_seeds(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ["bell", "mouse"])
    card = card_of(run, tmp_path / "out")
    assert table_rows(card, "Figures")[0] == [
        "id", str(NUM_IMAGES), "0.700", "0.650 to 0.750", "0.710 ± 0.014", "0.900", "0.700", "0.700",
    ]  # fmt: skip
    assert "mean ± s.d., seeds 0, 1" in card and "an abacus" in card
    results = ModelCard(card).data.eval_results
    assert [(row.dataset_config, row.metric_value) for row in results] == [("id", 0.7), ("sketch", 0.7)]
    made = dict(table_rows(card, "How it was made"))
    assert made["images"] == "96 synthetic" and made["prompt 2"] == "a drawing of mouse"
    assert "synthetic images alone" in card and "energy guidance" in made
    assert "the real training images" in card_of(run, tmp_path / "real", "real")


def test_a_student_that_is_not_evaluated_has_no_figures(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ["bell", "mouse"])
    (run / "seed-0" / "prism" / "evaluation.json").unlink()  # as when images were added and it was trained again
    card = card_of(run, tmp_path / "out")
    assert "Not measured" in card and not ModelCard(card).data.eval_results and "0.700" not in card


def test_the_name_of_the_user_stays_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", ["bell", "mouse"])
    record = json.loads((run / "run.json").read_text())
    record["command"] = "prismkd run --config /home/jane/a.toml --out s3://bucket/b"
    (run / "run.json").write_text(json.dumps(record))
    for home, shown in (("/home/jane", "--config ~/a.toml"), ("/", "--config /home/jane/a.toml")):
        monkeypatch.setenv("HOME", home)
        card = card_of(run, tmp_path / f"out{len(home)}")
        assert f"{shown} --out s3://bucket/b" in dict(table_rows(card, "How it was made"))["run"]


def test_hostile_names_stay_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", HOSTILE, seeds=(0,))
    card = card_of(run, tmp_path / "out")
    assert "<script>" not in card
    assert [row[0] for row in table_rows(card, "Classes")] == [str(label) for label in range(len(HOSTILE))]
    assert table_rows(card, "Classes")[3][1] == "two lines"
    assert all(len(row) == 2 for title in ("Classes", "How it was made") for row in table_rows(card, title))
    assert ModelCard(card).data.library_name == "prismkd"
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert list(config["id2label"].values()) == HOSTILE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]
    Image.new("L", (16, 16)).save(tmp_path / "a.png")
    assert main(["predict", str(tmp_path / "out"), str(tmp_path / "a.png"), "--top", "7"]) == 0
    assert r"two\nlines" in re.sub(r"\s*│\n│\s*│\s*│\s*", "", capsys.readouterr().out)


GEOMETRIES: dict[str, dict[str, Any]] = {
    "none": {},
    "center": {"resize": 19, "crop": [16, 16], "interpolation": "bilinear"},
    "squash": {"resize": [18, 18], "crop": [16, 16], "interpolation": "bicubic"},
    "floor": {"resize": 19, "crop": [16, 16], "floor_crop": True},  # timm has no words for it
    "cut": {"crop": [16, 16]},
}


@pytest.mark.parametrize(("architecture", "channels", "geometry", "num_programs"), [
    ("small-resnet-4", 3, "none", 1), ("test_resnet", 1, "none", 2), ("test_resnet", 3, "center", 2),
    ("test_resnet", 3, "squash", 2), ("test_resnet", 3, "floor", 1), ("small-resnet-4", 1, "cut", 1),
])  # fmt: skip
def test_the_programs_in_the_card_run_and_agree_with_predict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    architecture: str, channels: int, geometry: str, num_programs: int,
) -> None:  # fmt: skip
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    run = make_run(tmp_path / "run", ["bell", "crane", "mouse"], architecture, channels, seeds=(0,))
    config = run / "seed-0" / "prism" / "student" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | GEOMETRIES[geometry]))
    card = card_of(run, tmp_path / "out", layout="student")
    monkeypatch.chdir(tmp_path / "out")
    pixels = np.random.default_rng(1).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert("L" if channels == 1 else "RGB").save("image.png")
    programs = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(programs) == num_programs
    capsys.readouterr()
    logits = []
    for program in programs:
        names: dict[str, Any] = {}
        exec(compile(program, "README.md", "exec"), names)
        logits.append(np.asarray(names["logits"])[0])
    said = capsys.readouterr().out.split()
    (command,) = re.findall(r"```bash\nprismkd (.*?)\n```", card)
    assert main([*command.split(), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert said == [found["top"][0]["class"]] * len(programs)
    for row in found["top"]:
        for values in logits:
            share = np.exp(values - values.max())[row["label"]] / np.exp(values - values.max()).sum()
            assert row["probability"] == pytest.approx(share, abs=2e-6)
