"""Every loader of what somebody else made, with the network cut and code planted beside the weights, in one process."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from timm.models import save_for_hf
from torchvision import models
from transformers import TimmWrapperConfig, TimmWrapperForImageClassification, ViTConfig, ViTForImageClassification
from transformers import ViTImageProcessorPil as ViTImageProcessor

from prismkd.classifiers.folders import save_classifier
from prismkd.classifiers.networks import new_network

from ..generators.tiny_pipelines import build

NAMES = ["bell", "cat", "ship"]
CHILD = Path(__file__).with_name("child.py")


class Marker:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def plant(folder: Path, marker: Path) -> None:
    """Python files and pickles under the names that libraries look for, and configurations that name them."""
    code = f"import os\nos.makedirs({str(marker)!r}, exist_ok=True)\n"
    for path in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        for name in ("evil", "transformers", "diffusers", "pipeline", "timm", "modeling", "__init__"):
            if (
                not (path == folder or name in ("transformers", "diffusers")) or path == folder
            ):  # those two are refused by name
                (path / f"{name}.py").write_text(code)
        for name in ("pytorch_model.bin", "diffusion_pytorch_model.bin", "scheduler.pkl", "tokenizer.pkl"):
            if name.endswith(".pkl") or any(path.glob("*.safetensors")):
                (path / name).write_bytes(pickle.dumps(Marker(marker), protocol=2))
        for name in ("config.json", "preprocessor_config.json", "tokenizer_config.json", "model_index.json"):
            if (path / name).is_file():
                described = json.loads((path / name).read_text())
                kinds = ("AutoModelForImageClassification", "AutoConfig", "AutoImageProcessor", "AutoTokenizer")
                auto_map = {kind: f"evil.{kind}" for kind in kinds}
                described |= {"auto_map": auto_map, "_name_or_path": "nobody/nothing"}
                (path / name).write_text(json.dumps(described))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A source of each kind."""
    folder = tmp_path_factory.mktemp("sources")
    config = {"architecture": "small-resnet-4", "num_classes": 3, "in_channels": 3, "input_size": 32}
    save_classifier(folder / "own", new_network("small-resnet-4", 3, 3), config)
    network = timm.create_model("test_resnet", num_classes=3)
    save_for_hf(network, str(folder / "timm"), model_config={"label_names": NAMES}, model_args={"act_layer": "relu"})
    wrapper = TimmWrapperConfig(architecture="test_resnet", num_labels=3, pretrained_cfg=network.pretrained_cfg)
    TimmWrapperForImageClassification(wrapper).save_pretrained(folder / "wrapper")
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vit = ViTForImageClassification(ViTConfig(**shape, image_size=32, patch_size=8, num_labels=3))
    vit.save_pretrained(folder / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder / "vit")
    for name in ("sd-DDIM", "pixart-alpha-DPMSolverMultistep", "sdxl-EulerDiscrete", "dit-DDIM",
                 "sd3-FlowMatchEulerDiscrete-3.0", "flux-FlowMatchEulerDiscrete-True",
                 "sana-FlowMatchEulerDiscrete-3.0"):  # fmt: skip
        build(name)[0].save_pretrained(folder / f"generator-{name}")
    channels = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    blocks = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    AutoencoderTiny(**channels, **blocks).save_pretrained(folder / "generator-sd-DDIM" / "tiny_vae")
    for path in folder.iterdir():
        plant(path, folder / "marker")
    found = {path.name: str(path) for path in folder.iterdir()}
    save_file(network.state_dict(), folder / "resnet.safetensors")
    torch.save(models.get_model("squeezenet1_1", num_classes=3).state_dict(), folder / "squeezenet.pth")
    (folder / "evil.pth").write_bytes(pickle.dumps(Marker(folder / "marker"), protocol=2))
    return found | {
        "timm-file": f"timm:test_resnet@{folder / 'resnet.safetensors'}",
        "torchvision-file": f"torchvision:squeezenet1_1@{folder / 'squeezenet.pth'}",
        "pickle": f"timm:test_resnet@{folder / 'evil.pth'}", "program": f"torchscript:{folder / 'evil.pth'}",
        "exported": f"exported:{folder / 'evil.pth'}", "marker": str(folder / "marker"),
    }  # fmt: skip


def changed(folder: str, destination: Path, name: str, **values: Any) -> str:
    """A copy of a folder of which one JSON file says something else."""
    import shutil

    shutil.copytree(folder, destination)
    path = destination / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return str(destination)


def test_no_loader_connects_asks_or_runs_what_lies_beside_the_weights(sources: dict[str, str], tmp_path: Path) -> None:
    evil = sources["pickle"].partition("@")[2]
    refused = {
        "adapter": changed(sources["vit"], tmp_path / "adapter", "config.json"),
        "kernel": changed(sources["vit"], tmp_path / "kernel", "config.json", attn_implementation="kernels/evil"),
        "unknown": changed(sources["vit"], tmp_path / "unknown", "config.json", model_type="evil"),
        "wrapped-file": changed(
            sources["wrapper"], tmp_path / "wrapped", "config.json", model_args={"checkpoint_path": evil}
        ),
        "wrapped-hub": changed(
            sources["wrapper"], tmp_path / "hub", "config.json", architecture="hf_hub:nobody/nothing"
        ),
        "generator-module": changed(
            sources["generator-sd-DDIM"], tmp_path / "module", "model_index.json", unet=["evil", "Network"]
        ),
        "generator-installed": changed(
            sources["generator-sd-DDIM"], tmp_path / "installed", "model_index.json", unet=["subprocess", "Popen"]
        ),
        "generator-custom": changed(
            sources["generator-sd-DDIM"], tmp_path / "custom", "model_index.json", _class_name=["pipeline", "Evil"]
        ),
        "generator-auto": changed(
            sources["generator-sd-DDIM"], tmp_path / "auto", "model_index.json",
            tokenizer=["transformers", "AutoTokenizer"],
        ),
        "generator-beside": changed(sources["generator-sd-DDIM"], tmp_path / "beside", "model_index.json"),
        "pickle": sources["pickle"], "program": sources["program"], "exported": sources["exported"],
    }  # fmt: skip
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "nobody/nothing"}')
    code = f"import os\nos.makedirs({sources['marker']!r})\n"
    (tmp_path / "beside" / "unet" / "diffusers.py").write_text(code)
    loaded = {name: source for name, source in sources.items() if name not in refused and name != "marker"}
    result = subprocess.run(
        [sys.executable, str(CHILD)], input=json.dumps([loaded, refused]) + "\n" + "y\n" * 50, text=True,
        capture_output=True, timeout=300, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    outcome = json.loads(result.stdout.splitlines()[-1])
    assert outcome["problems"] == {}
    assert outcome["connections"] == [] and outcome["unread"] == 50
    assert not Path(sources["marker"]).exists()
    assert set(outcome["lines"]) == refused.keys()
    assert all("\n" not in line and line.count(";") for line in outcome["lines"].values())
