"""Classifier folders: ``config.json`` and a file with weights, as prismkd, timm or transformers writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from prismkd.classifiers.checkpoint import listed, load_weights, read_checkpoint
from prismkd.classifiers.classifier import Classifier
from prismkd.classifiers.loaded import AS_IT_IS, LoadedClassifier, check_single_label
from prismkd.classifiers.networks import new_network, shape_arguments
from prismkd.classifiers.preprocessing import Preprocessing, from_config, from_timm_data, preprocessing_of, to_config
from prismkd.classifiers.timm_models import data_config, stock_transform, traits_in_folder
from prismkd.classifiers.transformers_models import load_transformers
from prismkd.config import PreprocessingConfig
from prismkd.errors import UserError
from prismkd.files import write, write_json
from prismkd.foreign import Budget, opening, read_description
from prismkd.text import shortened

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there
OWN_ARCHITECTURE = "small-resnet-"  # which takes images as they are
OWN_KEYS = ("in_channels", "input_size", "resize", "crop", "interpolation", "mean", "std", "floor_crop")


def save_classifier(folder: Path, network: nn.Module, config: dict[str, Any]) -> None:
    """Write ``config.json`` and ``model.safetensors`` (fp16) so that ``load_classifier`` finds them.

    Args:
        folder: made where it doesn't exist.
        network: its weights are stored.
        config: ``architecture`` and ``num_classes``, and what ``preprocessing.from_config`` reads.

    Raises:
        UserError: the disk is full or refuses a file.
    """
    # Half precision halves the files; logits change by less than 0.01 (tests/classifiers/test_classifier.py).
    state = {name: t.half() if t.is_floating_point() else t for name, t in network.state_dict().items()}
    # Not save_file, which makes a file that its owner alone may read, whatever the user's umask says.
    write(folder / "model.safetensors", save({name: tensor.contiguous() for name, tensor in state.items()}))
    write_json(folder / "config.json", config)


def load_classifier(folder: Path, network: nn.Module | None = None) -> Classifier:
    """Load a classifier folder, in evaluation mode and without gradients for its weights.

    Args:
        folder: with ``config.json`` and ``model.safetensors``, or ``pytorch_model.bin``.
        network: gets the weights in place of a new one of the architecture that the folder names.

    Raises:
        UserError: a file is missing, isn't what its name says, or the weights don't fit the architecture.
    """
    return load_folder(folder, network).classifier


def load_folder(
    folder: Path, network: nn.Module | None = None, wanted: PreprocessingConfig = AS_IT_IS
) -> LoadedClassifier:
    """As ``load_classifier``, with the transform of the library that wrote the folder.

    Args:
        folder: as there.
        network: as there.
        wanted: preprocessing that the user set.

    Raises:
        UserError: as there.
    """
    config = _read_config(folder)
    if "model_type" in config:  # only transformers writes that
        return load_transformers(str(folder), local=True, wanted=wanted)
    if not isinstance(config.get("architecture"), str) or type(config.get("num_classes")) is not int:
        got = {name: config[name] for name in ("architecture", "num_classes") if name in config}
        raise UserError(
            f"expected architecture and num_classes in {folder / 'config.json'}, got "
            f"{shortened(got) if got else listed('', config).strip() or 'nothing'}; correct it"
        )
    check_single_label(config.get("problem_type"), str(folder))
    data, own = _data_of_timm(config, folder), _own(config)
    preprocessing = preprocessing_of(
        lambda: _described(data, own, folder), wanted, data["input_size"][0] if data else 3
    )
    path = _weights_in(folder)
    read = read_checkpoint(path)
    if network is None:
        network = _network_of(config, preprocessing.in_channels, folder, Budget.of_state(read.state))
    load_weights(network, read.state, f"{config['architecture']} in {path}")
    kept = own if wanted == AS_IT_IS else {}
    config = to_config(preprocessing) | {name: config[name] for name in config if name not in OWN_KEYS} | kept
    classifier = Classifier(network, config).eval().requires_grad_(False)
    transform = stock_transform(data) if data and not own and wanted == AS_IT_IS else None
    return LoadedClassifier(classifier, transform, (*read.notes, *_undescribed(data, config, wanted, folder)))


def _undescribed(
    data: dict[str, Any] | None, config: dict[str, Any], wanted: PreprocessingConfig, folder: Path
) -> tuple[str, ...]:
    """The note for a library's network whose folder says nothing of how images are prepared."""
    is_described = data or wanted != AS_IT_IS or config["architecture"].startswith(OWN_ARCHITECTURE)
    if is_described or config["mean"] != [0.0] or config["std"] != [1.0]:
        return ()
    described = folder / "config.json"
    return (
        f"{described} says nothing of mean and std: images aren't normalized; if its training did that, set "
        "teacher_preprocessing",
    )


def _data_of_timm(config: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """timm's description of images, as ``create_transform`` takes it; None in folders that timm didn't write."""
    traits = traits_in_folder(config)
    return None if traits is None else data_config(traits, {}, str(folder / "config.json"))


def _own(config: dict[str, Any]) -> dict[str, Any]:
    """What a folder says of images in our words, which counts more than timm's."""
    is_old_timms = isinstance(config.get("input_size"), list)  # there the same words stand at the top
    return {} if is_old_timms else {name: config[name] for name in OWN_KEYS if name in config}


def _described(data: dict[str, Any] | None, own: dict[str, Any], folder: Path) -> Preprocessing:
    """What the network wants of an image, in timm's words and in ours."""
    with opening(f"{', '.join(OWN_KEYS)} as numbers in {folder / 'config.json'}", "correct them"):
        return from_config((to_config(from_timm_data(data)) if data else {}) | own)


def _network_of(config: dict[str, Any], in_channels: int, folder: Path, budget: Budget) -> nn.Module:
    """A new network of the architecture that a folder names, of the size of its weights."""
    described = folder / "config.json"
    if config["architecture"].startswith("module "):
        raise UserError(
            f"expected a network that prismkd can build, got {folder} of {config['architecture']!r}, which was given "
            "from Python; load its model.safetensors into that there"
        )
    given = {**_table(config, "model_args", folder), **_table(config, "arguments", folder)}
    arguments = shape_arguments(given, str(described))
    # What a network of timm's takes is known to itself alone
    what = f"arguments of {config['architecture'][:60]} in {described} that fit its weights"
    with opening(what, "correct them", budget=budget):
        return new_network(config["architecture"], config["num_classes"], in_channels, **arguments)


def _table(config: dict[str, Any], name: str, folder: Path) -> dict[str, Any]:
    """A table in a folder's configuration; empty where it isn't there."""
    table = config.get(name) or {}
    if not isinstance(table, dict):
        raise UserError(
            f"expected a JSON object as {name} in {folder / 'config.json'}, got {type(table).__name__}; correct it"
        )
    return table


def _weights_in(folder: Path) -> Path:
    """The file with a folder's weights."""
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise UserError(f"expected a classifier folder with {WEIGHTS[0]} or {WEIGHTS[1]}, got {folder}; check the path")
    return found


def _read_config(folder: Path) -> dict[str, Any]:
    """A classifier folder's ``config.json``. Raises UserError where there is none."""
    if not (folder / "config.json").is_file():
        # A training's output may have the folder wanted in it, as transformers' has checkpoint-500
        below = sorted(path.parent for path in folder.glob("*/config.json"))
        remedy = f"perhaps {below[-1]}" if below else "check the path"
        raise UserError(f"expected a classifier folder with config.json, got {folder}; {remedy}")
    return read_description(folder / "config.json")
