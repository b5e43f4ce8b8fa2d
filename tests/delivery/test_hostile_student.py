"""A student's folder that somebody else made: one line for anything that no export writes, and no file of others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prismkd.classifiers import save_classifier
from prismkd.classifiers.networks import new_network
from prismkd.data import Geometry
from prismkd.delivery.predict import Student, load_student, predict_files
from prismkd.delivery.student_folder import Delivered
from prismkd.errors import UserError

SIDE = 8
CONFIG: dict[str, Any] = {
    "architecture": "small-resnet-4", "num_classes": 2, "in_channels": 1, "input_size": SIDE, "resize": SIDE,
    "crop": [SIDE, SIDE], "interpolation": "bicubic", "mean": [0.0], "std": [1.0], "id2label": {"0": "a", "1": "b"},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    network = new_network("small-resnet-4", 2, in_channels=1)
    save_classifier(tmp_path / "student", network, {key: CONFIG[key] for key in CONFIG if key != "id2label"})
    (tmp_path / "student" / "config.json").write_text(json.dumps(CONFIG))
    Image.new("L", (SIDE, SIDE)).save(tmp_path / "a.png")
    return tmp_path / "student"


def predicted(folder: Path) -> list[Any]:
    return list(predict_files(load_student(folder, "prism", None), [folder.parent / "a.png"], 1))


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        predicted(folder)
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    return text


def test_the_folder_itself_is_right(folder: Path) -> None:
    assert predicted(folder)[0].top


@pytest.mark.parametrize("changes", [
    {"id2label": ["a", "b"]}, {"id2label": {}}, {"id2label": {"0": 1, "1": 2}}, {"id2label": {"a": "0", "b": "1"}},
    {"id2label": {"0": "a"}}, {"id2label": {"0": "a", "1": "b", "2": "c"}}, {"in_channels": 2}, {"in_channels": "1"},
    {"in_channels": 10**9}, {"in_channels": None}, {"resize": "8"}, {"resize": [8]}, {"resize": 10**9}, {"resize": -8},
    {"resize": 0}, {"resize": True}, {"crop": [8, 10**9]}, {"crop": 8}, {"crop": [[8], [8]]}, {"interpolation": 3},
    {"interpolation": "sharp"}, {"floor_crop": "no"}, {"resize": None, "crop": None, "input_size": None},
    {"mean": 3}, {"mean": ["x"]}, {"mean": [[0.0]]}, {"std": [0.0]}, {"std": []},
    {"num_classes": "2"}, {"num_classes": -1}, {"architecture": 3}, {"architecture": "../../etc"},
], ids=json.dumps)  # fmt: skip
def test_a_configuration_of_any_kind_is_one_line(changes: dict[str, Any], folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    assert "; " in refused(folder)


def test_few_large_images_are_in_memory_at_once(folder: Path) -> None:
    side = 4096
    sizes = list[int]()

    def logits(images: np.ndarray) -> np.ndarray:
        sizes.append(images.size)
        return np.zeros((len(images), 2), np.float32)

    student = Student(logits, Delivered(["a", "b"], 1, Geometry.square(side)))
    files = [folder.parent / "a.png"] * 5
    assert all(row.top for row in predict_files(student, files, 1))
    assert sizes == [4 * side * side, side * side]
    small = Student(logits, Delivered(["a", "b"], 1, Geometry.square(224)))
    sizes.clear()
    assert len(list(predict_files(small, files * 13, 1))) == 65 and sizes == [64 * 224**2, 224**2]


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "3", '{"id2label": NaN}', "\udcff"])
def test_a_configuration_that_is_no_json_is_one_line(text: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert "config.json" in refused(folder)


@pytest.mark.parametrize("damage", [
    lambda data: b"", lambda data: data[: len(data) // 2], lambda data: (2**60).to_bytes(8, "little") + data[8:],
    lambda data: data[:8] + b"[" * (len(data) - 8), lambda data: b"no weights",
])  # fmt: skip
def test_damaged_weights_are_one_line(damage: Callable[[bytes], bytes], folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert "model.safetensors" in refused(folder)


# --- ONNX --------------------------------------------------------------------------------------------------------


def graph(folder: Path, kind: str) -> None:
    """A graph that is a student but for one thing."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    taken = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])
    given = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [SIDE * SIDE, 2], np.ones(2 * SIDE * SIDE).tolist())
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    opsets = [helper.make_opsetid("", 18)]
    inputs = [taken]
    if kind.startswith("external"):
        weights.ClearField("float_data")
        weights.data_location = TensorProto.EXTERNAL
        for key, value in (("location", kind.partition(" ")[2]), ("length", str(8 * SIDE * SIDE))):
            entry = weights.external_data.add()
            entry.key, entry.value = key, value
    elif kind == "custom":
        nodes[1] = helper.make_node("Mine", ["flat", "weights"], ["logits"], domain="mine")
        opsets.append(helper.make_opsetid("mine", 1))
    elif kind == "another size":
        inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 9, 9])]
    elif kind == "any size":
        inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", "c", "h", "w"])]
    elif kind == "bytes":
        inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 1, SIDE, SIDE])]
        nodes.insert(0, helper.make_node("Cast", ["images"], ["cast"], to=TensorProto.FLOAT))
        nodes[1] = helper.make_node("Flatten", ["cast"], ["flat"])
    elif kind == "two inputs":
        inputs.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    elif kind == "three classes":
        weights = helper.make_tensor("weights", TensorProto.FLOAT, [SIDE * SIDE, 3], np.ones(3 * SIDE * SIDE).tolist())
        given = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    elif kind == "not finite":
        weights = helper.make_tensor("weights", TensorProto.FLOAT, [SIDE * SIDE, 2], [np.nan] * (2 * SIDE * SIDE))
    elif kind == "fails":
        weights = helper.make_tensor("weights", TensorProto.FLOAT, [3, 2], [1.0] * 6)
        inputs = [taken]
    model = helper.make_model(helper.make_graph(nodes, "student", inputs, [given], [weights]), opset_imports=opsets)
    model.ir_version = 9
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    assert onnx


def test_a_runtime_that_reads_any_file_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = pytest.importorskip("onnxruntime")
    (folder / "model.safetensors").unlink()
    graph(folder, "right")
    monkeypatch.setattr(runtime, "__version__", "1.23.2")
    assert "expected onnxruntime 1.24 or newer" in refused(folder)


@pytest.mark.parametrize("kind", [
    "another size", "any size", "bytes", "two inputs", "three classes", "not finite", "fails", "custom",
    "external ../secret.bin", "external none.bin", "external {absolute}",
])  # fmt: skip
def test_a_graph_of_any_kind_is_one_line(kind: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    (folder / "model.safetensors").unlink()
    graph(folder, "right")
    assert predicted(folder)[0].top
    secret = folder.parent / "secret.bin"
    secret.write_bytes(bytes(8 * SIDE * SIDE))
    graph(folder, kind.format(absolute=secret))
    assert refused(folder)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("contents", [b"", b"no graph", bytes(1000), b"\x08\x09\xff\xff\xff\xff\xff\x7f"])
def test_a_file_that_is_no_graph_is_one_line(contents: bytes, folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    (folder / "model.safetensors").unlink()
    (folder / "model.onnx").write_bytes(contents)
    assert "model.onnx" in refused(folder)
