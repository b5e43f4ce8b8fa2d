"""What a delivered student's folder holds, and which student of a run is meant; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prismkd.errors import UserError
from prismkd.records.directory import STUDENT, chosen_seed, dataset_folder, dataset_keys, read_json, recorded_config

CONFIG, WEIGHTS, GRAPH, CARD = "config.json", "model.safetensors", "model.onnx", "README.md"
LAYOUTS = {"student": (WEIGHTS, GRAPH), "safetensors": (WEIGHTS,), "onnx": (GRAPH,)}
TIMM_TRAITS = ("first_conv", "classifier")  # layers that timm replaces for other channels and classes


def student_of(directory: Path, method: str, seed: int | None) -> tuple[Path, int]:
    """Where one student of a run is, and its seed: the run's first where none is asked for.

    Raises:
        UserError: the run has no such method or seed, or the student isn't trained yet.
    """
    config = recorded_config(directory)
    seed = chosen_seed(config, directory, dataset_keys(config), method, seed, kind="student")
    folder = dataset_folder(directory, seed, method) / STUDENT
    if not (folder / "log.json").is_file():
        raise UserError(f"expected a trained student in {folder}, got none yet; run `prismkd distill` first")
    return folder, seed


def class_names(directory: Path) -> list[str]:
    """The names of a run's classes, in the order of the student's outputs."""
    return [row["name"] for row in read_json(directory / "run.json")["classes"]]


def delivered_config(config: dict[str, Any], names: list[str], side: int, traits: dict[str, Any] | None) -> dict:
    """``config.json`` of a delivered student, whose preprocessing is complete, and in timm's words too where it is one.

    Args:
        config: the student's own, as ``save_classifier`` wrote it.
        names: one per output.
        side: pixels per side of its images.
        traits: ``pretrained_cfg`` of a timm network, of which ``timm.create_model("local-dir:...")`` needs a few; None
            for other networks.
    """
    channels = config.get("in_channels", 3)
    mean, std = config.get("mean", [0.0]), config.get("std", [1.0])
    delivered = {
        **config,
        "in_channels": channels,
        "input_size": side,
        "resize": side,  # the shorter side, then the middle: what evaluation shows the student
        "crop": [side, side],
        "interpolation": "bicubic",
        "mean": mean,
        "std": std,
        "id2label": {str(label): name for label, name in enumerate(names)},
    }
    if traits is None:
        return delivered
    pretrained = {
        **{name: traits[name] for name in TIMM_TRAITS if name in traits},
        "num_classes": len(names),
        "input_size": [channels, side, side],
        "mean": mean * (channels // len(mean)),
        "std": std * (channels // len(std)),
        "interpolation": "bicubic",
        "crop_pct": 1.0,  # the crop reaches from edge to edge of the shorter side
        "crop_mode": "center",
    }
    arguments = {"model_args": config["arguments"]} if config.get("arguments") else {}
    return {**delivered, "label_names": names, **arguments, "pretrained_cfg": pretrained}


@dataclass(frozen=True)
class Delivered:
    """What a delivered student's configuration says of its images and outputs."""

    names: list[str]
    channels: int
    side: int


def read_delivered(folder: Path) -> Delivered:
    """Read and check ``config.json`` of a delivered student.

    Raises:
        UserError: the folder holds none, or one that doesn't say what a student takes and returns.
    """
    remedy = "make one with `prismkd export --to student`"
    if not (folder / CONFIG).is_file():
        raise UserError(f"expected a run's folder or a delivered student with {CONFIG}, got {folder}; {remedy}")
    if not any((folder / name).is_file() for name in (WEIGHTS, GRAPH)):
        raise UserError(f"expected {WEIGHTS} or {GRAPH} in {folder}, got neither; {remedy}")
    try:
        config = read_json(folder / CONFIG)
        labels, channels, side = config["id2label"], int(config["in_channels"]), int(config["input_size"])
        names = [str(labels[str(label)]) for label in range(len(labels))]
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"expected id2label, in_channels and input_size in {folder / CONFIG}, got {reason}; {remedy}"
        ) from None
    return Delivered(names, channels, side)
