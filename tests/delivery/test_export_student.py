"""A delivered student is the student: the same logits in torch, timm and onnxruntime, in a folder that explains it."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from prismkd.assets import asset
from prismkd.classes import load_classes
from prismkd.classifiers import Classifier, load_classifier, save_classifier
from prismkd.classifiers.networks import new_network
from prismkd.cli import main
from prismkd.data import Geometry
from prismkd.delivery import export_student as module
from prismkd.delivery.export_student import export_student
from prismkd.delivery.graph import parity_of, write_graph
from prismkd.delivery.image_files import read_image
from prismkd.delivery.student_folder import in_timms_words, read_delivered
from prismkd.errors import UserError
from prismkd.records.directory import recorded_config
from tests.delivery.small_run import NUM_IMAGES, SIDE, make_run, write
from tests.files.killing import kill_everywhere, small_files

NAMES = ["bell", "crane", "mouse"]
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@contextmanager
def quiet(description: str, total: int) -> Iterator[Any]:
    yield lambda count: None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("small") / "run", NAMES)


@pytest.fixture(scope="module")
def delivered(run: Path) -> Path:
    assert main(["export", "--out", str(run), "--to", "student", "--dest", str(run.parent / "student")]) == 0
    return run.parent / "student"


def graph_logits(folder: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def test_the_graph_has_the_top1_of_torch_on_the_whole_id_test(tmp_path: Path, teacher: Classifier) -> None:
    """The embedded teacher goes out as a student would, and meets every ID test image of its classes."""
    names = [item.name for item in load_classes("pictograms-24")]
    student = tmp_path / "run" / "seed-0" / "prism" / "student"
    save_classifier(student, teacher.network, teacher.config)
    write(student / "log.json", {"images": 1, "seconds": 1.0, "log": []})
    record = {"command": "prismkd run", "started": "2026-01-02", "version": "0.1.0"}
    config = {"classes": "pictograms-24"}
    write(tmp_path / "run" / "run.json", {**record, "config": config, "classes": [{"name": name} for name in names]})
    assert recorded_config(tmp_path / "run").evaluation.source == "pictograms"
    parity = export_student(tmp_path / "run", "prism", None, "onnx", tmp_path / "out", quiet)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "config.json", "model.onnx"]

    every, table = [item.name for item in load_classes("pictograms")], pq.read_table(asset("test.parquet")).to_pylist()
    files = [row["image"] for row in table if row["domain"] == "id" and every[row["label"]] in names]
    decoded = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), np.float32) / 255 for file in files]
    images = np.stack(decoded).transpose(0, 3, 1, 2)
    with torch.no_grad():
        expected = teacher(torch.from_numpy(images)).argmax(1).numpy()
    np.testing.assert_array_equal(graph_logits(tmp_path / "out", images).argmax(1), expected)
    assert len(set(expected.tolist())) == len(names), "the comparison is of all classes"
    assert parity is not None
    assert (parity.num_images, parity.num_same_top1) == (len(files), len(files)) and len(files) > 400
    assert str(parity) in (tmp_path / "out" / "README.md").read_text()


def test_the_folder_is_complete_and_loads_as_a_teacher_with_its_names(run: Path, delivered: Path) -> None:
    assert sorted(p.name for p in delivered.iterdir()) == [
        "README.md",
        "config.json",
        "model.onnx",
        "model.safetensors",
    ]
    weights = run / "seed-0" / "prism" / "student" / "model.safetensors"
    assert (delivered / "model.safetensors").read_bytes() == weights.read_bytes()
    about = read_delivered(delivered)
    assert (about.names, about.channels, about.geometry) == (NAMES, 1, Geometry.square(SIDE))
    images = torch.rand(5, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = load_classifier(weights.parent)(images), load_classifier(delivered)(images)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_graph_takes_any_number_of_images(delivered: Path, count: int) -> None:
    images = torch.rand(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(count))
    with torch.no_grad():
        expected = load_classifier(delivered)(images).numpy()
    np.testing.assert_allclose(graph_logits(delivered, images.numpy()), expected, atol=1e-5)


def test_normalization_is_inside_the_graph(tmp_path: Path) -> None:
    config = {"architecture": "small-resnet-4", "num_classes": 3, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    torch.manual_seed(0)
    classifier = Classifier(new_network("small-resnet-4", 3, 3), config).eval()
    write_graph(tmp_path / "model.onnx", classifier, 16)
    images = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        expected, bare = classifier(images).numpy(), classifier.network(images).numpy()
    np.testing.assert_allclose(graph_logits(tmp_path, images.numpy()), expected, atol=1e-5)
    assert np.abs(bare - expected).max() > 1e-2


@pytest.mark.parametrize(("architecture", "channels", "arguments"), [
    ("test_resnet", 1, {}), ("timm:test_resnet", 3, {}), ("test_vit", 3, {"img_size": SIDE}),
])  # fmt: skip
def test_timm_opens_what_it_made(tmp_path: Path, architecture: str, channels: int, arguments: dict[str, int]) -> None:
    import timm

    run = make_run(tmp_path / "run", NAMES, architecture, channels, arguments, seeds=(0,))
    export_student(run, "prism", None, "student", tmp_path / "out", quiet)
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    images = torch.rand(4, channels, SIDE, SIDE)
    with torch.no_grad():
        expected = load_classifier(run / "seed-0" / "prism" / "student")(images)
        assert torch.equal(model(images), expected)
        assert torch.equal(load_classifier(tmp_path / "out")(images), expected)
    np.testing.assert_allclose(graph_logits(tmp_path / "out", images.numpy()), expected.numpy(), atol=1e-5)
    data = timm.data.resolve_model_data_config(model)
    assert tuple(data["input_size"]) == (channels, SIDE, SIDE)
    transform = timm.data.create_transform(**data)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 25, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert("L" if channels == 1 else "RGB")
    picture.save(tmp_path / "picture.png")
    about = read_delivered(tmp_path / "out")
    np.testing.assert_array_equal(
        transform(picture).numpy(), read_image(tmp_path / "picture.png", channels, about.geometry)
    )
    assert list(model.pretrained_cfg["label_names"]) == NAMES
    tuned = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=7)
    assert tuned(images).shape == (4, 7), "timm replaces the last layer for other classes"


def give_geometry(run: Path, **geometry: Any) -> None:
    """As a student's configuration carries it after training."""
    for path in run.glob("seed-*/*/student/config.json"):
        write(path, json.loads(path.read_text()) | geometry)


GEOMETRIES: list[dict[str, Any]] = [
    {"resize": 24, "crop": [SIDE, SIDE], "interpolation": "bicubic"},
    {"resize": [SIDE, SIDE], "interpolation": "bilinear"},
    {"resize": [19, 19], "crop": [SIDE, SIDE], "interpolation": "nearest"},
    {"resize": 12, "crop": [SIDE, SIDE], "interpolation": "bicubic"},
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=["center", "squash", "squash-and-cut", "padded"])
def test_a_student_leaves_with_its_geometry_in_timms_words_too(tmp_path: Path, geometry: dict[str, Any]) -> None:
    import timm

    run = make_run(tmp_path / "run", NAMES, "test_resnet", 3, seeds=(0,))
    give_geometry(run, **geometry)
    has_graph = geometry is GEOMETRIES[0]
    export_student(run, "prism", None, "student" if has_graph else "safetensors", tmp_path / "out", quiet)
    about = read_delivered(tmp_path / "out")
    assert about.geometry == Geometry.from_config(geometry) and about.geometry.size == (SIDE, SIDE)
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    classifier = load_classifier(tmp_path / "out")
    for size in ((40, 25), (16, 16), (21, 64)):
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "picture.png")
        read = read_image(tmp_path / "picture.png", 3, about.geometry)
        np.testing.assert_array_equal(transform(Image.fromarray(pixels)).numpy(), read)
        images = torch.from_numpy(read)[None]
        with torch.no_grad():
            expected = model(images).numpy()
            np.testing.assert_array_equal(classifier(images, cropped=True).numpy(), expected)
        if has_graph:
            np.testing.assert_allclose(graph_logits(tmp_path / "out", read[None]), expected, atol=1e-5)


def test_every_size_before_the_crop_has_a_share_in_timms_words() -> None:
    for side in (32, 96, 224, 288, 384):
        for resize in range(side, 2 * side):
            share = in_timms_words(Geometry(resize, (side, side)))["crop_pct"]
            assert math.floor(side / share) == resize


def test_a_student_without_a_geometry_leaves_with_its_teachers(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", NAMES, channels=3, seeds=(0,))
    own = {"resize": 20, "crop": [SIDE, SIDE], "interpolation": "bilinear", "floor_crop": True}
    num_classes = len(load_classes("pictograms"))  # of the run's configuration
    config = {"architecture": "small-resnet-4", "num_classes": num_classes, **own}
    save_classifier(tmp_path / "teacher", new_network("small-resnet-4", num_classes, 3), config)
    record = json.loads((run / "run.json").read_text())
    record["config"]["teacher"] = str(tmp_path / "teacher")
    write(run / "run.json", record)
    export_student(run, "prism", None, "safetensors", tmp_path / "out", quiet)
    assert read_delivered(tmp_path / "out").geometry == Geometry(20, (SIDE, SIDE), "bilinear", floor_crop=True)


def test_a_student_of_oblong_images_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", NAMES, seeds=(0,))
    give_geometry(run, resize=[16, 24])
    with pytest.raises(UserError, match=r"expected a student of square images, got 24 x 16"):
        export_student(run, "prism", None, "student", tmp_path / "out", quiet)


def test_a_layout_holds_what_it_says(run: Path, tmp_path: Path) -> None:
    export_student(run, "plain", 1, "safetensors", tmp_path / "out", quiet)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]


def test_an_export_ends_when_all_of_it_is_counted(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for layout, steps in (("safetensors", 1), ("onnx", 2)):
        dest = str(tmp_path / layout)
        assert main(["export", "--out", str(run), "--to", layout, "--dest", dest]) == 0
        assert f"export to {layout}: done, all {steps}" in capsys.readouterr().err


def test_a_run_without_test_images_is_compared_on_noise(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    record["config"]["evaluation"]["source"] = ""
    write(tmp_path / "run" / "run.json", record)
    config = tmp_path / "run" / "seed-0" / "prism" / "student" / "config.json"
    write(config, json.loads(config.read_text()) | {"input_size": SIDE})
    parity = export_student(tmp_path / "run", "prism", 0, "onnx", tmp_path / "out", quiet)
    assert parity is not None and parity.images == "random images"


# --- what goes wrong ---------------------------------------------------------------------------------------------


def test_a_graph_that_computes_something_else_is_not_kept(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_another(path: Path, classifier: Classifier, side: int) -> None:
        for parameter in classifier.parameters():
            parameter.mul_(1.01)
        write_graph(path, classifier, side)
        for parameter in classifier.parameters():
            parameter.div_(1.01)

    monkeypatch.setattr(module, "write_graph", write_another)
    with pytest.raises(UserError, match=rf"expected the graph's logits within .* of {NUM_IMAGES} ID test images"):
        export_student(run, "prism", None, "student", tmp_path / "out", quiet)
    assert list(tmp_path.iterdir()) == []


def test_the_tolerance_is_relative_and_nan_is_never_within_it() -> None:
    logits = np.array([[100.0, 0.0], [0.0, 50.0]])
    parity = parity_of(logits, logits + 0.009, "images", "1")
    assert parity.num_same_top1 == 2 and parity.tolerance == pytest.approx(0.01)
    with pytest.raises(UserError, match=r"got a difference of 1\.1e-02"):
        parity_of(logits, logits + 0.011, "images", "1")
    with pytest.raises(UserError, match="got a difference of nan"):
        parity_of(logits, logits * np.nan, "images", "1")


def test_an_architecture_that_has_no_graph_is_one_line(tmp_path: Path) -> None:
    class Coin(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)) if x.sum().item() > 0 else x.amax((2, 3))

    classifier = Classifier(Coin(), {"architecture": "coin", "num_classes": 1, "in_channels": 1})
    with pytest.raises(UserError, match=r"^expected an architecture that torch.onnx exports, got coin: [^\n]*$"):
        write_graph(tmp_path / "model.onnx", classifier, 8)


def test_a_missing_package_names_the_extra(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else known(name))
    with pytest.raises(UserError, match=r"got no onnxscript; pip install 'prismkd\[onnx\]'"):
        export_student(run, "prism", None, "onnx", tmp_path / "out", quiet)
    export_student(run, "prism", None, "safetensors", tmp_path / "out", quiet)


def test_bad_input_is_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(run, unfinished)
    (unfinished / "seed-1" / "prism" / "student" / "log.json").unlink()
    cases = [
        (
            [run, "--method", "eda"],
            "use one of --method real --seed 0, --method plain --seed 0, --method prism --seed 0",
        ),
        ([run, "--seed", "7"], "got method prism and seed 7"),
        ([unfinished, "--seed", "1"], "got none yet; run `prismkd distill` first"),
        ([tmp_path], "expected a run directory with run.json"),
        ([run, "--dest", str(tmp_path / "full")], "expected a new or empty folder to export to"),
        ([run, "--dest", "s3://bucket/student"], "expected a folder for a student"),
    ]
    for arguments, message in cases:
        dest = [] if "--dest" in arguments else ["--dest", str(tmp_path / "out")]
        assert main(["export", "--to", "safetensors", "--out", *map(str, arguments), *dest]) == 2
        error = capsys.readouterr().err
        assert message in error and error.startswith("error: expected") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_an_export_that_was_killed_at_any_moment_goes_on(run: Path, tmp_path: Path) -> None:
    def work(out: Path) -> None:
        export_student(run, "prism", 0, "safetensors", out, quiet)

    assert kill_everywhere(work, tmp_path, every=4) > 10


def test_only_what_a_killed_export_has_left_is_deleted(run: Path, tmp_path: Path) -> None:
    kept = [tmp_path / name for name in (".tmp-out", ".prismkd-out.tmp", ".prismkd-other.0123456789abcdef.tmp")]
    for path in (*kept, tmp_path / ".prismkd-out.0123456789abcdef.tmp"):
        path.mkdir()
        (path / "a.txt").write_text("")
    export_student(run, "prism", 0, "safetensors", tmp_path / "out", quiet)
    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "out"])


def test_a_full_disk_leaves_no_half_student(run: Path, tmp_path: Path) -> None:
    with small_files(1000), pytest.raises(UserError, match=r"expected room for .*, got: File too large"):
        export_student(run, "prism", 0, "safetensors", tmp_path / "out", quiet)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_not_the_architecture_s_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = load_classifier(asset("teacher"))
    program = SimpleNamespace(model_proto=SimpleNamespace(SerializeToString=lambda: bytes(5000)))
    monkeypatch.setattr("torch.onnx.export", lambda *arguments, **keywords: program)
    with small_files(1000), pytest.raises(UserError, match=r"expected room for .*graph\.onnx, got: File too large"):
        write_graph(tmp_path / "graph.onnx", classifier, SIDE)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_a_link_leads_to_are_not_delivered(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    weights = tmp_path / "run" / "seed-0" / "prism" / "student" / "model.safetensors"
    weights.rename(tmp_path / "private.safetensors")
    weights.symlink_to(tmp_path / "private.safetensors")
    with pytest.raises(UserError, match=r"expected no link at .*model\.safetensors"):
        export_student(tmp_path / "run", "prism", 0, "safetensors", tmp_path / "out", quiet)
    assert not (tmp_path / "out").exists()
