"""Classifiers of timm: by name with a weight file, and what the folders say that its ``save_for_hf`` writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from prismkd.classifiers.checkpoint import load_weights, part_for, read_checkpoint
from prismkd.classifiers.loaded import (
    AS_IT_IS,
    LoadedClassifier,
    Transform,
    check_name,
    from_hub,
    num_outputs,
    preprocessing_is_the_librarys,
    ready,
    transform_of,
    weight_of,
)
from prismkd.classifiers.preprocessing import Preprocessing, from_timm_data, preprocessing_of
from prismkd.config import PreprocessingConfig
from prismkd.foreign import Budget, opening

# What the arguments of a training say of its images
DATA_ARGUMENTS = ("input_size", "img_size", "crop_pct", "crop_mode", "interpolation", "mean", "std")


def load_timm(name: str, checkpoint: Path | None, wanted: PreprocessingConfig = AS_IT_IS) -> LoadedClassifier:
    """A timm model with the weights in ``checkpoint``, else timm's own from the hub.

    Args:
        name: of timm's list.
        checkpoint: a file with weights; where it holds the arguments of its training, its images are prepared as
            timm's training script did it for its validation.
        wanted: preprocessing that the user set.

    Raises:
        UserError: no such model, or the weights aren't there or don't fit.
    """
    import timm

    check_name("a timm model", name, timm.list_models() + timm.list_pretrained())
    if checkpoint is None:
        network: Any = from_hub(name, lambda: timm.create_model(name, pretrained=True))
        data = data_config(network.pretrained_cfg, {}, f"timm's {name}")
        return _loaded(network, preprocessing_of(lambda: from_timm_data(data), wanted), data, wanted)
    read = read_checkpoint(checkpoint)
    traits = _traits(name)
    arguments = {key: read.arguments[key] for key in DATA_ARGUMENTS if read.arguments.get(key)}
    channels = _stem_channels(traits, read.state)
    data = data_config(traits, arguments, str(checkpoint), channels)
    preprocessing = preprocessing_of(lambda: from_timm_data(data), wanted, channels)
    network = _network_for(name, traits, read.state, preprocessing)
    remedy = (
        "check both, or set teacher_preprocessing to the size of its training" if _is_fixed(traits) else "check both"
    )
    state, notes = part_for(network, read.state, checkpoint)
    load_weights(network, state, f"timm's {name} in {checkpoint}", remedy)
    notes = (*read.notes, *notes)
    if wanted == AS_IT_IS and not arguments:
        notes += (preprocessing_is_the_librarys(checkpoint, f"timm's own for {name}", preprocessing),)
    return _loaded(network, preprocessing, data, wanted, notes)


def data_config(
    traits: Mapping[str, Any], arguments: Mapping[str, Any], source: str, in_channels: int | None = None
) -> dict[str, Any]:
    """timm's description of how images are prepared, for ``timm.data.create_transform``.

    Args:
        traits: a model's ``pretrained_cfg``.
        arguments: of a training, which count more.
        source: of both, for errors.
        in_channels: that the network takes; None: as many as the traits say.

    Raises:
        UserError: it isn't of the types that timm has there.
    """
    from timm.data import resolve_data_config

    with opening(f"a description of images as timm has it in {source}", "correct it"):  # timm asserts
        data = resolve_data_config(dict(arguments), pretrained_cfg={"input_size": (3, 224, 224), **traits})
        channels, height, width = (int(number) for number in data["input_size"])
        channels = in_channels or channels
        normalization = {name: tuple(float(value) for value in data[name]) for name in ("mean", "std")}
        crop_pct, texts = float(data["crop_pct"]), {name: str(data[name]) for name in ("interpolation", "crop_mode")}
    # As timm's loaders do it for networks of other channels than the description's
    of_channels = {name: values if len(values) in (1, channels) else (sum(values) / len(values),)
                   for name, values in normalization.items()}  # fmt: skip
    return {"input_size": (channels, height, width), "crop_pct": crop_pct, **texts, **of_channels}


def stock_transform(data: Mapping[str, Any]) -> Transform:
    """timm's own evaluation transform of a picture."""
    from timm.data import create_transform

    return transform_of(create_transform(**data), data["input_size"][0])


def traits_in_folder(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The ``pretrained_cfg`` in the ``config.json`` of a folder; None where timm didn't write it.

    In timm's older folders its entries stand at the top, where ``input_size`` has three numbers.
    """
    nested = config.get("pretrained_cfg")
    if isinstance(nested, dict):
        return dict(nested)
    return dict(config) if isinstance(config.get("input_size"), list) else None


def _loaded(
    network: Any,
    preprocessing: Preprocessing,
    data: Mapping[str, Any],
    wanted: PreprocessingConfig,
    notes: tuple[str, ...] = (),
) -> LoadedClassifier:
    transform = stock_transform(data) if wanted == AS_IT_IS else None
    return LoadedClassifier(ready(network, network.num_classes, preprocessing), transform, notes)


def _traits(name: str) -> dict[str, Any]:
    """A model's ``pretrained_cfg``, without building the model."""
    import timm

    found = timm.models.get_pretrained_cfg(name)
    return found.to_dict() if found else {}


def _is_fixed(traits: Mapping[str, Any]) -> bool:
    """Whether the network is built for images of one size, as vision transformers are."""
    return bool(traits.get("fixed_input_size"))


def _stem_channels(traits: Mapping[str, Any], state: Mapping[str, Tensor]) -> int:
    """Channels of the images that weights of a model are for: 1 where its first layer says so, else 3."""
    weight = weight_of(state, str(traits.get("first_conv")))
    return 1 if weight is not None and weight.ndim == 4 and weight.shape[1] == 1 else 3


def _network_for(
    name: str, traits: Mapping[str, Any], state: Mapping[str, Tensor], preprocessing: Preprocessing
) -> nn.Module:
    """A new network of the number of classes, the channels and, where it is built for one, the size of the weights."""
    import timm

    arguments: dict[str, Any] = {}
    if _is_fixed(traits) and preprocessing.size not in (None, tuple(traits["input_size"][1:])):
        arguments["img_size"] = preprocessing.size
    if outputs := num_outputs(state, traits.get("classifier")):
        arguments["num_classes"] = outputs
    given = ", ".join(f"{key} {value}" for key, value in arguments.items())
    # What a network of timm's takes is known to itself alone
    with opening(f"timm's {name} with {given}", "choose another size", budget=Budget.of_state(state)):
        return timm.create_model(name, in_chans=preprocessing.in_channels, **arguments)
