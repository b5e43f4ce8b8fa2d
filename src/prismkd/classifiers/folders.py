"""Classifier folders: ``config.json`` and ``model.safetensors``, as prismkd, timm or transformers writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from prismkd.classifiers.checkpoint import load_weights, read_state_dict
from prismkd.classifiers.classifier import Classifier
from prismkd.classifiers.libraries import load_transformers
from prismkd.classifiers.networks import new_network
from prismkd.classifiers.preprocessing import from_timm, to_config
from prismkd.errors import UserError


def save_classifier(folder: Path, network: nn.Module, config: dict[str, Any]) -> None:
    """Write ``config.json`` and ``model.safetensors`` (fp16) so that ``load_classifier`` finds them.

    Args:
        folder: made where it doesn't exist.
        network: its weights are stored.
        config: ``architecture`` and ``num_classes``, and what ``preprocessing.from_config`` reads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Half precision halves the files; logits change by less than 0.01 (tests/classifiers/test_classifier.py).
    state = {name: t.half() if t.is_floating_point() else t for name, t in network.state_dict().items()}
    # Not save_file, which makes a file that its owner alone may read, whatever the user's umask says.
    weights = save({name: tensor.contiguous() for name, tensor in state.items()})
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def load_classifier(folder: Path, network: nn.Module | None = None) -> Classifier:
    """Load a classifier folder, in evaluation mode and without gradients for its weights.

    Args:
        folder: with ``config.json`` and ``model.safetensors``.
        network: gets the weights in place of a new one of the architecture that the folder names.

    Raises:
        UserError: a file is missing, isn't what its name says, or the weights don't fit the architecture.
    """
    config = _read_config(folder)
    if "model_type" in config:  # only transformers writes that
        return load_transformers(str(folder), local=True).classifier
    if not {"architecture", "num_classes"} <= config.keys():
        raise UserError(
            f"expected {folder / 'config.json'} with architecture and num_classes, got {', '.join(config) or 'nothing'}"
            "; add them"
        )
    config = {**_preprocessing_of_timm(config), **config}  # what a folder says in our words counts more
    if network is None:
        network = _network_of(config, folder)
    path = folder / "model.safetensors"
    load_weights(network, read_state_dict(path), f"{config['architecture']} in {path}")
    return Classifier(network, config).eval().requires_grad_(False)


def _network_of(config: dict[str, Any], folder: Path) -> nn.Module:
    """A new network of the architecture that a folder names."""
    if config["architecture"].startswith("module "):
        raise UserError(
            f"expected a network that prismkd can build, got {folder} of {config['architecture']!r}, which was given "
            "from Python; load its model.safetensors into that there"
        )
    arguments = {"in_channels": config.get("in_channels", 3), **config.get("arguments", {})}
    return new_network(config["architecture"], config["num_classes"], **arguments)


def _read_config(folder: Path) -> dict[str, Any]:
    """A classifier folder's ``config.json``. Raises UserError where there is none, or no weights beside it."""
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise UserError(f"expected a classifier folder with {name}, got {folder}; check the path")
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise UserError(f"expected JSON in {folder / 'config.json'}, got: {error}; correct it") from None
    if not isinstance(config, dict):
        raise UserError(f"expected a JSON object in {folder / 'config.json'}, got {type(config).__name__}; correct it")
    return config


def _preprocessing_of_timm(config: dict[str, Any]) -> dict[str, Any]:
    """In a folder that timm's ``save_for_hf`` wrote: preprocessing and constructor's arguments, in our words."""
    given = config.get("pretrained_cfg")
    if not isinstance(given, dict):
        return {}
    return to_config(from_timm(given)) | ({"arguments": config["model_args"]} if config.get("model_args") else {})
