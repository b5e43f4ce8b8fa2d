"""`prismkd predict`: files become what training saw, and a bad file spoils only itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2 as transforms
from torchvision.transforms.v2 import InterpolationMode

from prismkd.classifiers import load_classifier
from prismkd.cli import main
from prismkd.data import Geometry
from prismkd.delivery.image_files import UnreadableImageError, find_images, read_image
from prismkd.errors import UserError
from tests.delivery.small_run import SIDE, make_run

NAMES = ["bell", "crane", "mouse"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("small") / "run", NAMES)


@pytest.fixture(scope="module")
def graph(run: Path) -> Path:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    assert main(["export", "--out", str(run), "--to", "onnx", "--dest", str(run.parent / "onnx")]) == 0
    return run.parent / "onnx"


@pytest.fixture(scope="module")
def pictures(run: Path) -> Path:
    """Five images of many kinds, and two files that are none."""
    folder = run.parent / "pictures"
    (folder / "more").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 4), dtype=np.uint8)
    Image.fromarray(pixels[..., 0]).save(folder / "gray.png")
    Image.fromarray(pixels[..., :3]).save(folder / "color.jpg")
    Image.fromarray(pixels).save(folder / "transparent.webp", lossless=True)
    Image.fromarray(pixels[..., :3]).quantize(16).save(folder / "more" / "palette.gif")
    Image.fromarray(pixels[:SIDE, :SIDE, 0]).save(folder / "more" / "small[1].bmp")
    whole = (folder / "gray.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "more" / "text.PNG").write_text("no image")
    (folder / "notes.txt").write_text("not looked at")
    return folder


# --- files as arrays ---------------------------------------------------------------------------------------------


def test_size_is_made_as_by_torchvision(tmp_path: Path) -> None:
    for size in ((64, 64), (80, 50), (7, 9), (33, 47), (32, 32)):
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "image.png")
        stock = transforms.Compose([transforms.Resize(32, InterpolationMode.BICUBIC), transforms.CenterCrop(32)])
        expected = np.asarray(stock(Image.fromarray(pixels)), np.float32).transpose(2, 0, 1) / 255
        np.testing.assert_array_equal(read_image(tmp_path / "image.png", 3, Geometry.square(32)), expected)


def test_a_missing_file_is_said_in_three_words(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="no such file"):
        read_image(tmp_path / "none.png", 3, Geometry.square(4))


def test_what_is_missing_of_student_and_images_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "images/"]) == 2
    assert "expected a student and image files, got only images" in capsys.readouterr().err
    assert main(["predict", "student", "images/", "--top", "0"]) == 2
    assert "expected --top of at least 1, got 0" in capsys.readouterr().err


def test_hidden_files_are_not_read(tmp_path: Path) -> None:
    for name in ("shown.png", ".hidden.png", ".ipynb_checkpoints/shown-checkpoint.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    assert find_images([str(tmp_path)]) == [tmp_path / "shown.png"]
    assert find_images([str(tmp_path / ".hidden.png")]) == [tmp_path / ".hidden.png"], "it was asked for by name"


def test_folders_and_patterns_are_opened_once_and_in_order(pictures: Path) -> None:
    everything = find_images([str(pictures)])
    assert [path.name for path in everything] == [
        "color.jpg", "cut.png", "gray.png", "palette.gif", "small[1].bmp", "text.PNG", "transparent.webp",
    ]  # fmt: skip
    again = find_images([str(pictures / "gray.png"), str(pictures / "**" / "*.png"), str(pictures)])
    assert again[0].name == "gray.png" and sorted(again) == sorted(everything)
    assert find_images([str(pictures / "more" / "small[1].bmp")]) == [pictures / "more" / "small[1].bmp"]
    with pytest.raises(UserError, match="expected files behind"):
        find_images([str(pictures / "*.xyz")])
    with pytest.raises(UserError, match=r"expected images \(\.png .*\) in"):
        find_images([str(pictures.parent / "run" / "seed-0")])


# --- the command -------------------------------------------------------------------------------------------------


def predict(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[dict], str]:
    capsys.readouterr()
    code = main(["predict", *map(str, arguments), "--json"])
    printed = capsys.readouterr()
    return code, json.loads(printed.out), printed.err


def test_a_bad_file_is_named_and_counted_and_the_others_are_predicted(
    run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, rows, error = predict(capsys, run, pictures)
    assert code == 2 and error.count("\n") == 1
    assert "got 2 unreadable" in error and "cut.png" in error and "text.PNG: not an image" in error
    assert [Path(row["file"]).name for row in rows if "problem" in row] == ["cut.png", "text.PNG"]
    student = load_classifier(run / "seed-0" / "prism" / "student")
    for row in rows:
        if "top" in row:
            image = torch.from_numpy(read_image(Path(row["file"]), 1, Geometry.square(SIDE)))[None]
            expected = student(image).softmax(1)[0]
            assert [entry["class"] for entry in row["top"]] == [NAMES[i] for i in expected.argsort(descending=True)]
            assert sum(entry["probability"] for entry in row["top"]) == pytest.approx(1, abs=1e-5)
            assert row["top"][0]["probability"] == pytest.approx(expected.max().item(), abs=1e-5)


def test_graph_and_weights_see_the_same(
    run: Path, graph: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_run, of_graph = predict(capsys, run, pictures)[1], predict(capsys, graph, pictures)[1]
    assert len(of_run) == len(of_graph) == 7
    for one, other in zip(of_run, of_graph, strict=True):
        assert one["file"] == other["file"]
        for first, second in zip(one.get("top", []), other.get("top", []), strict=True):
            assert first["class"] == second["class"]
            assert first["probability"] == pytest.approx(second["probability"], abs=1e-5)


def test_another_student_of_the_run_says_something_else(
    run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = predict(capsys, run, pictures / "gray.png", "--top", 1)
    other = predict(capsys, run, pictures / "gray.png", "--top", 1, "--seed", 1)
    assert first[0] == other[0] == 0 and len(first[1][0]["top"]) == 1
    assert first[1] != other[1]


def test_a_graph_is_run_without_torch(graph: Path, pictures: Path) -> None:
    code = (
        "import sys; from prismkd.cli import main; done = main(sys.argv[1:]); sys.exit(done or 'torch' in sys.modules)"
    )
    arguments = ["predict", str(graph), str(pictures / "gray.png")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "gray.png" in done.stdout.replace("│\n│", "")


def test_bad_input_is_one_line(
    run: Path, graph: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = tmp_path / "torn"
    torn.mkdir()
    config = json.loads((graph / "config.json").read_text())
    (torn / "config.json").write_text(json.dumps(config))
    (torn / "model.onnx").write_bytes((graph / "model.onnx").read_bytes()[:100])
    for name, changes in (
        ("side", {"crop": [8, 8]}),
        ("names", {"id2label": {"0": "bell"}}),
        ("odd", {"id2label": 3}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config | changes))
        (tmp_path / name / "model.onnx").write_bytes((graph / "model.onnx").read_bytes())
    gray = pictures / "gray.png"
    cases = [
        ([tmp_path, gray], "expected a run's folder or a delivered student with config.json"),
        ([torn, gray], "expected an ONNX graph in"),
        ([tmp_path / "side", gray], "other than config.json says"),
        ([tmp_path / "names", gray], "expected 3 class names"),
        ([tmp_path / "odd", gray], "got `int` at id2label"),
        ([run, gray, "--method", "eda"], "use one of --method real"),
        ([run, gray, "--top", "0"], "expected --top of at least 1"),
        ([run, pictures / "none.png"], "none.png: no such file"),
    ]
    for arguments, message in cases:
        assert main(["predict", *map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert message in error and error.startswith("error: expected") and error.count("\n") == 1
