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

from prismkd.classifiers import Classifier, load_classifier
from prismkd.classifiers.networks import SmallResNet
from prismkd.cli import main
from prismkd.delivery.image_files import UnreadableImageError, find_images, fit, read_image
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
    Image.fromarray(pixels[..., 0]).save(folder / "grey.png")
    Image.fromarray(pixels[..., :3]).save(folder / "color.jpg")
    Image.fromarray(pixels).save(folder / "transparent.webp", lossless=True)
    Image.fromarray(pixels[..., :3]).quantize(16).save(folder / "more" / "palette.gif")
    Image.fromarray(pixels[:SIDE, :SIDE, 0]).save(folder / "more" / "small[1].bmp")
    whole = (folder / "grey.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "more" / "text.PNG").write_text("no image")
    (folder / "notes.txt").write_text("not looked at")
    return folder


# --- files as arrays ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 64, 64), (3, 50, 80), (1, 7, 9), (1, 32, 32)])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_and_size_are_made_as_in_training(shape: tuple[int, ...], channels: int) -> None:
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).mul(255).round().div(255)
    config = {"num_classes": 2, "in_channels": channels, "input_size": 32}
    expected = Classifier(SmallResNet(2, 4, channels), config).preprocess(images).numpy()
    found = np.stack([fit(image, channels, 32) for image in images.numpy()])
    np.testing.assert_allclose(found, expected, atol=1.01 / 255)  # a level, where a weight falls on a half


def test_what_a_file_means(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.putpixel((1, 2), (255, 0, 0, 255))
    clear.save(tmp_path / "clear.png")
    found = read_image(tmp_path / "clear.png")
    assert found.shape == (3, 4, 4) and found.dtype == np.float32
    assert found[:, 0, 0].tolist() == [1, 1, 1] and found[:, 2, 1].tolist() == [1, 0, 0]

    Image.fromarray(np.full((4, 4), 32768, np.uint16)).save(tmp_path / "deep.png")
    np.testing.assert_allclose(read_image(tmp_path / "deep.png"), np.full((1, 4, 4), 32768 / 65535), rtol=1e-6)

    turned, exif = Image.new("L", (4, 2)), Image.Exif()
    turned.putpixel((0, 0), 255)
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned.save(tmp_path / "turned.png", exif=exif)
    upright = read_image(tmp_path / "turned.png")
    assert upright.shape == (1, 4, 2) and upright[0, 0, 1] == 1

    with pytest.raises(UnreadableImageError, match="no such file"):
        read_image(tmp_path / "none.png")


def test_folders_and_patterns_are_opened_once_and_in_order(pictures: Path) -> None:
    everything = find_images([str(pictures)])
    assert [path.name for path in everything] == [
        "color.jpg", "cut.png", "grey.png", "palette.gif", "small[1].bmp", "text.PNG", "transparent.webp",
    ]  # fmt: skip
    again = find_images([str(pictures / "grey.png"), str(pictures / "**" / "*.png"), str(pictures)])
    assert again[0].name == "grey.png" and sorted(again) == sorted(everything)
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
            image = torch.from_numpy(fit(read_image(Path(row["file"])), 1, SIDE))[None]
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
    first = predict(capsys, run, pictures / "grey.png", "--top", 1)
    other = predict(capsys, run, pictures / "grey.png", "--top", 1, "--seed", 1)
    assert first[0] == other[0] == 0 and len(first[1][0]["top"]) == 1
    assert first[1] != other[1]


def test_a_graph_is_run_without_torch(graph: Path, pictures: Path) -> None:
    code = (
        "import sys; from prismkd.cli import main; done = main(sys.argv[1:]); sys.exit(done or 'torch' in sys.modules)"
    )
    arguments = ["predict", str(graph), str(pictures / "grey.png")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "grey.png" in done.stdout.replace("│\n│", "")


def test_bad_input_is_one_line(
    run: Path, graph: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = tmp_path / "torn"
    torn.mkdir()
    config = json.loads((graph / "config.json").read_text())
    (torn / "config.json").write_text(json.dumps(config))
    (torn / "model.onnx").write_bytes((graph / "model.onnx").read_bytes()[:100])
    for name, changes in (
        ("side", {"input_size": 8}),
        ("names", {"id2label": {"0": "bell"}}),
        ("odd", {"id2label": 3}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config | changes))
        (tmp_path / name / "model.onnx").write_bytes((graph / "model.onnx").read_bytes())
    grey = pictures / "grey.png"
    cases = [
        ([tmp_path, grey], "expected a run's folder or a delivered student with config.json"),
        ([torn, grey], "expected an ONNX graph in"),
        ([tmp_path / "side", grey], "other than config.json says"),
        ([tmp_path / "names", grey], "expected 3 class names"),
        ([tmp_path / "odd", grey], "expected id2label, in_channels and input_size"),
        ([run, grey, "--method", "eda"], "use one of --method real"),
        ([run, grey, "--top", "0"], "expected image files, and --top of at least 1"),
        ([run, pictures / "none.png"], "none.png: no such file"),
    ]
    for arguments, message in cases:
        assert main(["predict", *map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert message in error and error.startswith("error: expected") and error.count("\n") == 1
