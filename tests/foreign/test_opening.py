"""Folders of other libraries with wrong values: one line that names the folder, and never much memory or time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import nn
from transformers import ViTConfig, ViTForImageClassification
from transformers import ViTImageProcessorPil as ViTImageProcessor

from prismkd.classifiers import load_teacher
from prismkd.classifiers.folders import save_classifier
from prismkd.classifiers.networks import new_network
from prismkd.config import GeneratorConfig
from prismkd.errors import UserError
from prismkd.foreign import Budget, no_larger_than, opening
from prismkd.foreign.budget import TooLargeError
from prismkd.generators import load_generator

from ..generators.tiny_pipelines import build

NAMES = ["bell", "cat", "ship"]
WRONG: tuple[Any, ...] = (None, -1, 0, 1.5, "x", [], {}, True, 10**30, 10**9, [1], ["a", None])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each kind."""
    folder = tmp_path_factory.mktemp("folders")
    config = {"architecture": "small-resnet-4", "num_classes": 3, "in_channels": 3, "input_size": 32, "mean": [0.5],
              "std": [0.5]}  # fmt: skip
    save_classifier(folder / "own", new_network("small-resnet-4", 3, 3), config)
    save_for_hf(timm.create_model("test_resnet", num_classes=3), str(folder / "timm"), safe_serialization=True,
                model_args={"act_layer": "relu"})  # fmt: skip
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vit = ViTForImageClassification(ViTConfig(**shape, image_size=32, patch_size=8, num_labels=3))
    vit.save_pretrained(folder / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder / "vit")
    build("pixart-alpha-DPMSolverMultistep")[0].save_pretrained(folder / "generator")
    return folder


def open_folder(folder: Path) -> None:
    if (folder / "model_index.json").exists() or "generator" in folder.name:
        load_generator(GeneratorConfig(source=str(folder), num_inference_steps=2, device="cpu"))
    else:
        load_teacher(str(folder), NAMES)


def mutations(text: str) -> Iterator[str]:
    """The document with each of its outer fields wrong, and a few that are wrong as a whole."""
    document = json.loads(text)
    for name in document:
        yield from (json.dumps({**document, name: value}) for value in WRONG)
        yield json.dumps({key: value for key, value in document.items() if key != name})
    deep = json.dumps({**document, next(iter(document)): "deep"})
    yield from (deep.replace('"deep"', "[" * 100_000 + "]" * 100_000), deep.replace('"deep"', "NaN"))
    yield from ("", "{", "{}", "[]", "null", "[" * 100_000)


@pytest.mark.parametrize(("kind", "name", "every"), [
    ("own", "config.json", 1), ("timm", "config.json", 3), ("vit", "config.json", 5),
    ("vit", "preprocessor_config.json", 5), ("generator", "model_index.json", 5),
    ("generator", "transformer/config.json", 11), ("generator", "scheduler/scheduler_config.json", 23),
])  # fmt: skip
def test_a_wrong_value_is_one_line_that_names_the_folder(
    folders: Path, tmp_path: Path, kind: str, name: str, every: int
) -> None:
    folder = tmp_path / kind
    shutil.copytree(folders / kind, folder)
    refused = list[str]()
    for text in list(mutations((folder / name).read_text()))[::every]:
        (folder / name).write_text(text)
        try:
            open_folder(folder)
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 5
    assert [line for line in refused if str(folder) not in line or len(line) > 1500] == []


@pytest.mark.parametrize(("kind", "changes"), [
    ("vit", {"hidden_size": 10**6}), ("vit", {"num_hidden_layers": 4000}),
    ("vit", {"image_size": 4096, "patch_size": 1}),
    ("vit", {"num_labels": 10**6}), ("timm", {"model_args": {"layers": [9000, 1, 1, 1]}}),
    ("own", {"architecture": "small-resnet-9000"}), ("own", {"architecture": "small-resnet-4x90000"}),
    ("own", {"input_size": 10**9}),
])  # fmt: skip
def test_a_network_larger_than_its_weights_is_refused(
    folders: Path, tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    shutil.copytree(folders / kind, tmp_path / kind)
    path = tmp_path / kind / "config.json"
    config = {
        name: value for name, value in json.loads(path.read_text()).items() if name not in ("id2label", "label2id")
    }
    path.write_text(json.dumps(config | changes))
    with pytest.raises(UserError, match=r"larger than its weights| up to | of 0 to | of 1 to "):
        open_folder(tmp_path / kind)


def test_a_tensor_too_large_is_refused_before_it_is_filled() -> None:
    with pytest.raises(TooLargeError, match=r"of 100 bytes \(at weight"), no_larger_than(Budget(100, 2)):
        nn.Linear(30_000, 30_000)  # 3.6 GB
    nn.Linear(5000, 5000)  # afterwards any size goes


@pytest.mark.parametrize("kind", ["own", "timm", "vit"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folders: Path, tmp_path: Path, kind: str, value: float) -> None:
    shutil.copytree(folders / kind, tmp_path / kind)
    path = tmp_path / kind / "model.safetensors"
    state = load_file(path)
    state[min(name for name in state if name.endswith("weight"))].view(-1)[0] = value
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match="expected finite weights"):
        open_folder(tmp_path / kind)


@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64])
def test_weights_of_another_kind_of_number_are_refused(folders: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    shutil.copytree(folders / "own", tmp_path / "own")
    path = tmp_path / "own" / "model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path)
    with pytest.raises(UserError, match=r"for torch\.float32"):
        open_folder(tmp_path / "own")


@pytest.mark.parametrize("kind", ["own", "timm", "vit", "generator"])
@pytest.mark.parametrize("damage", ["cut", "length", "empty", "dtype", "folder"])
def test_damaged_weights_are_one_line(folders: Path, tmp_path: Path, kind: str, damage: str) -> None:
    shutil.copytree(folders / kind, tmp_path / kind)
    path = next((tmp_path / kind).rglob("*.safetensors"))
    data = path.read_bytes()
    header = b'{"a": {"dtype": "F7", "shape": [1], "data_offsets": [0, 4]}}'
    changed = {"cut": data[: len(data) // 2], "length": (2**60).to_bytes(8, "little") + data[8:], "empty": b"",
               "dtype": len(header).to_bytes(8, "little") + header + b"0000"}  # fmt: skip
    path.unlink()
    path.mkdir() if damage == "folder" else path.write_bytes(changed[damage])
    with pytest.raises(UserError, match=str(tmp_path)):
        open_folder(tmp_path / kind)


def test_a_tensor_that_stands_for_terabytes_is_refused(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(1, dtype=torch.float16).expand(10**6, 10**6)}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="most of which are the same"):
        load_teacher(f"timm:test_resnet@{tmp_path / 'weights.pth'}", NAMES)


@pytest.mark.parametrize("cause", [KeyboardInterrupt, SystemExit, MemoryError])
def test_an_interruption_stays_one_even_in_a_librarys_own_error(cause: type[BaseException]) -> None:
    for error in (cause(), _around(cause())):
        with pytest.raises(cause), opening("a model", "check it"):
            raise error


def _around(cause: BaseException) -> OSError:
    """The error of a library that was interrupted."""
    error = OSError("Unable to load weights")
    error.__cause__ = cause
    return error
