"""Classifiers of timm, torchvision and transformers by name, and programs that a user trusts.

Each comes with the library's own transform of a picture, so that ``prismkd doctor`` can compare ours with it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prismkd.classifiers.checkpoint import load_weights, read_state_dict
from prismkd.classifiers.classifier import Classifier
from prismkd.classifiers.preprocessing import Preprocessing, from_timm, from_torchvision, from_transformers, to_config
from prismkd.errors import UserError

Transform = Callable[[Any], Tensor]  # a PIL image to the network's input (channels, height, width)


@dataclass(frozen=True)
class LoadedClassifier:
    """A classifier and, where it comes from a library, the library's own transform."""

    classifier: Classifier
    stock_transform: Transform | None = None


def load_timm(name: str, checkpoint: Path | None) -> LoadedClassifier:
    """A timm model with the weights in ``checkpoint``, else timm's own from the hub.

    Raises:
        UserError: no such model, or the weights aren't there or don't fit.
    """
    import timm

    _check_name("a timm model", name, timm.list_models() + timm.list_pretrained())
    state = read_state_dict(checkpoint) if checkpoint else None
    network: Any = _from_hub(name, lambda: timm.create_model(name, pretrained=state is None))
    if state is not None:
        # Built once to learn the last layer's name, and again with as many outputs as the checkpoint has.
        num_outputs = _num_outputs(state, network.pretrained_cfg.get("classifier"))
        network = timm.create_model(name, num_classes=num_outputs) if num_outputs else network
        load_weights(network, state, f"timm's {name} in {checkpoint}")
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    return LoadedClassifier(_classifier(network, network.num_classes, from_timm(network.pretrained_cfg)), transform)


def load_torchvision(name: str, checkpoint: Path | None) -> LoadedClassifier:
    """A torchvision model with the weights in ``checkpoint``, else its default ones from the web.

    Raises:
        UserError: no such model, or the weights aren't there or don't fit.
    """
    from torchvision import models

    _check_name("a torchvision classifier", name, models.list_models(module=models))
    weights = models.get_model_weights(name).DEFAULT
    state = read_state_dict(checkpoint) if checkpoint else None
    if state is None:
        network = _from_hub(name, lambda: models.get_model(name, weights=weights))
    else:
        linear = [key for key, module in models.get_model(name).named_modules() if isinstance(module, nn.Linear)]
        num_outputs = _num_outputs(state, linear[-1] if linear else None)
        network = models.get_model(name, **({"num_classes": num_outputs} if num_outputs else {}))
        load_weights(network, state, f"torchvision's {name} in {checkpoint}")
    # A model by name has one default preprocessing, whatever weights are put in: torchvision stores none with them.
    transform = weights.transforms()
    widths = [module.out_features for module in network.modules() if isinstance(module, nn.Linear)]
    num_classes = widths[-1] if widths else 1000  # SqueezeNet ends in a convolution
    return LoadedClassifier(_classifier(network, num_classes, from_torchvision(transform)), transform)


def load_transformers(source: str, *, local: bool) -> LoadedClassifier:
    """An image classifier of transformers from a folder, or from the hub (org/name).

    Raises:
        UserError: it isn't there, its weights aren't safetensors, or it is no image classifier.
    """
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    try:
        # Safetensors only, and no trust_remote_code: neither weights nor configuration can run code.
        network = AutoModelForImageClassification.from_pretrained(
            source, local_files_only=local, use_safetensors=True, dtype=torch.float32
        )
        processor = AutoImageProcessor.from_pretrained(source, local_files_only=local)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"expected an image classifier of transformers in {source} (config.json, preprocessor_config.json, "
            f"model.safetensors), got: {str(error).strip().splitlines()[0][:160]}; check the path"
        ) from None

    def transform(picture: Any) -> Tensor:
        return processor(images=picture.convert("RGB"), return_tensors="pt")["pixel_values"][0]

    preprocessing = from_transformers(processor.to_dict())
    return LoadedClassifier(_classifier(network, network.config.num_labels, preprocessing), transform)


def load_program(kind: str, path: Path, *, trust: bool) -> LoadedClassifier:
    """A whole program, ``exported`` (.pt2 of torch.export) or ``torchscript``; a .json beside it describes its input.

    Raises:
        UserError: without ``trust``, since opening such a file runs code; or the program or its description isn't
            there or can't be opened.
    """
    if not trust:
        raise UserError(
            f"expected --trust for {path}, since a program may run any code when it is opened; give it only for files "
            "whose maker you trust, or save the weights as safetensors"
        )
    description = path.with_suffix(".json")
    if not path.is_file() or not description.is_file():
        raise UserError(
            f"expected {path} and {description} (num_classes, in_channels, input_size, mean, std), got "
            f"{'no program' if not path.is_file() else 'no description'}; check the path"
        )
    config = json.loads(description.read_text())
    try:
        program = torch.export.load(path).module() if kind == "exported" else torch.jit.load(path, map_location="cpu")
    except Exception as error:  # these loaders raise many kinds
        reason = str(error).strip().splitlines()[0][:160]
        raise UserError(f"expected a program ({kind}) in {path}, got: {reason}; check the file") from None
    digest = hashlib.sha256(path.read_bytes()).digest()
    return LoadedClassifier(Classifier(_Program(program, digest), config).eval().requires_grad_(False))


class _Program(nn.Module):
    """An exported program as a module. It refuses ``train`` and ``eval``: what it does was decided at its export."""

    def __init__(self, program: Any, digest: bytes) -> None:
        super().__init__()
        self._program = [program]  # in a list, so that torch doesn't look inside
        self.register_buffer("sha256", torch.frombuffer(bytearray(digest), dtype=torch.uint8))  # for ``weights_digest``
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self._program[0](images)


def _classifier(network: nn.Module, num_classes: int, preprocessing: Preprocessing) -> Classifier:
    """A library's network ready for use: float32, evaluation mode, and no gradients for its weights."""
    config = {"num_classes": num_classes, **to_config(preprocessing)}
    return Classifier(network.float(), config).eval().requires_grad_(False)


def _num_outputs(state: dict[str, Tensor], head: Any) -> int | None:
    """How many outputs the weights of a model's last layer have; None where they aren't in ``state``.

    ``head`` is the layer's name, or several of distilled models, as timm's ``pretrained_cfg`` has it. A checkpoint of
    a fine-tuned model has another number of classes than the model's default.
    """
    names = [head] if isinstance(head, str) else list(head or [])
    counts = [state[f"{name}.weight"].shape[0] for name in names if f"{name}.weight" in state]
    return counts[0] if counts else None


def _check_name(what: str, name: str, known: list[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        raise UserError(f"expected {what}, got {name!r}; perhaps {', '.join(near) or 'look at its list of models'}")


def _from_hub(name: str, create: Callable[[], nn.Module]) -> nn.Module:
    """What ``create`` makes, which may fetch weights. Raises UserError where it can't."""
    try:
        return create()
    except Exception as error:  # no network, no such file, a hub's own errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UserError(
            f"expected pretrained weights of {name} from the web, got: {reason}; give a local file as {name}@FILE"
        ) from None
