"""Image classifiers of transformers, from a folder or from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prismkd.classifiers.checkpoint import check_finite, listed
from prismkd.classifiers.loaded import (
    AS_IT_IS,
    LoadedClassifier,
    Transform,
    check_single_label,
    ready,
    transform_of,
)
from prismkd.classifiers.networks import check_timm
from prismkd.classifiers.preprocessing import (
    SET_BY_HAND,
    Preprocessing,
    from_timm_data,
    from_transformers,
    preprocessing_of,
)
from prismkd.config import PreprocessingConfig
from prismkd.errors import UserError
from prismkd.foreign import Budget, check_folder, opening, quiet, read_description, stays_offline

PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def load_transformers(source: str, *, local: bool, wanted: PreprocessingConfig = AS_IT_IS) -> LoadedClassifier:
    """An image classifier of transformers from a folder, or from the hub (org/name).

    Args:
        source: the folder or the name.
        local: whether it is a folder.
        wanted: preprocessing that the user set.

    Raises:
        UserError: it isn't there, some of its weights are missing, it is no classifier of one label per image, or its
            image processor does what isn't known here.
    """
    if local:
        _check_files(Path(source))
    network = _network(source, local=local)
    check_single_label(network.config.problem_type, source)
    check_finite(network.state_dict(), source)
    channels = getattr(network.config, "num_channels", 3)

    def described() -> Preprocessing:
        return _described(_processor(source, local=local), source, channels)

    preprocessing = preprocessing_of(described, wanted, channels)
    transform = _transform(_processor(source, local=local), channels) if wanted == AS_IT_IS else None
    return LoadedClassifier(ready(network, network.config.num_labels, preprocessing), transform)


def _check_files(folder: Path) -> None:
    """Refuse a folder whose files lead elsewhere, or say of a network what can't be."""
    check_folder(folder)
    config = read_description(folder / "config.json")
    if config.get("model_type") == "timm_wrapper":
        check_timm(config.get("architecture"), config.get("model_args"), str(folder / "config.json"))


def _network(source: str, *, local: bool) -> Any:
    """The network with all of its weights."""
    from transformers import AutoModelForImageClassification
    from transformers.utils import logging

    what = f"an image classifier of transformers in {source} (config.json, {PROCESSORS[0]}, model.safetensors)"
    with opening(what, "check the path"):
        budget = Budget.of_folder(Path(source)) if local else None
    with quiet(logging), opening(what, "check the path", local=local or stays_offline(), budget=budget):
        # Without trust_remote_code, which also asks no question. Weights are safetensors, or in a folder a file that
        # transformers opens with weights_only: neither they nor the configuration can run code.
        network, report = AutoModelForImageClassification.from_pretrained(
            source, local_files_only=local, use_safetensors=None if local else True, dtype=torch.float32,
            output_loading_info=True, trust_remote_code=False, weights_only=True,
        )  # fmt: skip
    missing = [name for name in sorted(report["missing_keys"]) if not name.endswith("num_batches_tracked")]
    if missing:
        raise UserError(
            f"expected all weights of {type(network).__name__} in {source}, got: {listed('missing', missing)}; save "
            "the whole classifier with save_pretrained, its last layer included"
        )
    return network


def _processor(source: str, *, local: bool) -> Any:
    """The image processor beside the network."""
    from transformers import AutoImageProcessor

    # A timm model's is in config.json; of the others transformers itself only says how hubs are asked
    if local and not any(Path(source, name).is_file() for name in PROCESSORS) and not _is_timms(source):
        raise UserError(
            f"expected an image processor of transformers in {source} ({PROCESSORS[0]}), got none; save it there, or "
            f"{SET_BY_HAND}"
        )

    what = f"an image processor of transformers in {source} ({PROCESSORS[0]})"
    with opening(what, f"save it there, or {SET_BY_HAND}", local=local or stays_offline()):
        return AutoImageProcessor.from_pretrained(source, local_files_only=local, trust_remote_code=False)


def _is_timms(folder: str) -> bool:
    """Whether a folder's configuration describes images itself, as that of a timm model does."""
    return "pretrained_cfg" in Path(folder, "config.json").read_text()


def _described(processor: Any, source: str, channels: int) -> Preprocessing:
    """What an image processor does; that of a timm model is timm's."""
    with opening(f"an image processor that resizes, crops and normalizes in {source}", SET_BY_HAND):
        description = processor.to_dict()
        if "data_config" in description:
            return from_timm_data(description["data_config"])
        return from_transformers(description, channels)


def _transform(processor: Any, channels: int) -> Transform:
    """The processor's own transform of a picture."""

    def stock(picture: Any) -> Tensor:
        return processor(images=picture, return_tensors="pt")["pixel_values"][0]

    return transform_of(stock, channels)
