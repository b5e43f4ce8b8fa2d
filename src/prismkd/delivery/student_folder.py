"""What a delivered student's folder holds, and which student of a run is meant; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from prismkd.data.geometry import Geometry
from prismkd.errors import UserError
from prismkd.files import read_document
from prismkd.records.digests import check_student
from prismkd.records.directory import STUDENT, chosen_seed, dataset_folder, dataset_keys, read_record, recorded_config

CONFIG, WEIGHTS, GRAPH, CARD = "config.json", "model.safetensors", "model.onnx", "README.md"
LAYOUTS = {"student": (WEIGHTS, GRAPH), "safetensors": (WEIGHTS,), "onnx": (GRAPH,)}
MAX_SIDE = 2**12  # pixels of a student's input that somebody else describes
TIMM_TRAITS = ("first_conv", "classifier")  # layers that timm replaces for other channels and classes


def student_of(directory: Path, method: str, seed: int | None) -> tuple[Path, int]:
    """Where one student of a run is, and its seed: the run's first where none is asked for.

    Raises:
        UserError: the run has no such method or seed, the student isn't trained yet, or its files are others now.
    """
    config = recorded_config(directory)
    seed = chosen_seed(config, directory, dataset_keys(config), method, seed, kind="student")
    folder = dataset_folder(directory, seed, method) / STUDENT
    if not (folder / "log.json").is_file():
        raise UserError(f"expected a trained student in {folder}, got none yet; run `prismkd distill` first")
    check_student(folder)
    return folder, seed


def class_names(directory: Path) -> list[str]:
    """The names of a run's classes, in the order of the student's outputs."""
    return [row["name"] for row in read_record(directory)["classes"]]


def delivered_config(
    config: dict[str, Any], names: list[str], geometry: Geometry, traits: dict[str, Any] | None
) -> dict[str, Any]:
    """``config.json`` of a delivered student, whose preprocessing is complete, and in timm's words too where it is one.

    Args:
        config: the student's own, as ``save_classifier`` wrote it.
        names: one per output.
        geometry: in which it sees images, as it was evaluated; a square comes out.
        traits: ``pretrained_cfg`` of a timm network, of which ``timm.create_model("local-dir:...")`` needs a few; None
            for other networks.
    """
    channels, (side, _) = config.get("in_channels", 3), geometry.size or (0, 0)
    mean, std = config.get("mean", [0.0]), config.get("std", [1.0])
    delivered = {
        **config,
        "in_channels": channels,
        "input_size": side,
        **geometry.to_config(),
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
        **in_timms_words(geometry),
    }
    arguments = {"model_args": config["arguments"]} if config.get("arguments") else {}
    architecture = config["architecture"].removeprefix("timm:")  # which timm doesn't know
    return {**delivered, "architecture": architecture, "label_names": names, **arguments, "pretrained_cfg": pretrained}


def in_timms_words(geometry: Geometry) -> dict[str, Any]:
    """A geometry whose result is square as timm's ``pretrained_cfg`` has it; the nearest one where timm has none."""
    (side, _), resize = geometry.size or (0, 0), geometry.resize
    shorter = resize if isinstance(resize, int) else (resize or (side,))[0]
    # timm rounds side / crop_pct down to the size before the crop; half a pixel more where that gives one too few
    crop_pct = next(share for share in (side / shorter, side / (shorter + 0.5)) if int(side / share) == shorter)
    crop_mode = "center" if resize is None or isinstance(resize, int) else "squash"
    return {"interpolation": geometry.interpolation, "crop_pct": crop_pct, "crop_mode": crop_mode}


def timm_has_words(geometry: Geometry) -> bool:
    """Whether timm's transform of ``in_timms_words`` gives the very same pixels."""
    if geometry.resize is None:
        return False  # timm always resizes
    if isinstance(geometry.resize, int):
        return not geometry.floor_crop
    (height, width), (crop_height, _) = geometry.resize, geometry.crop or geometry.resize
    spare = height - crop_height
    return height == width and geometry.margin(spare) == round(spare / 2)


# Sides as lists: msgspec 0.22 reads foreign memory for a bounded int beside a tuple of a fixed length
Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]
Sides = Annotated[list[Side], Meta(min_length=2, max_length=2)]  # height, width


class SeenImages(TypedDict):
    """What ``config.json`` of any student says of its images, if it does; ``Geometry.from_config`` reads it."""

    in_channels: NotRequired[Literal[1, 3]]
    input_size: NotRequired[Side | None]
    resize: NotRequired[Side | Sides | None]
    crop: NotRequired[Sides | None]
    interpolation: NotRequired[Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]]
    floor_crop: NotRequired[bool]


class DeliveredConfig(SeenImages):
    """``config.json`` of a delivered student, as far as predictions need it."""

    in_channels: Literal[1, 3]  # type: ignore[misc]
    id2label: Annotated[dict[str, Annotated[str, Meta(max_length=1000)]], Meta(min_length=1)]


@dataclass(frozen=True)
class Delivered:
    """What a delivered student's configuration says of its images and outputs."""

    names: list[str]
    channels: int
    geometry: Geometry


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
    config = read_document(folder / CONFIG, DeliveredConfig, remedy=remedy)
    labels, geometry = config["id2label"], Geometry.from_config(config)
    if geometry is None or geometry.size is None:
        raise UserError(f"expected input_size in {folder / CONFIG}, got no size of images; {remedy}")
    if any(str(label) not in labels for label in range(len(labels))):
        raise UserError(
            f"expected id2label with the numbers from 0 to {len(labels) - 1} in {folder / CONFIG}, got others; {remedy}"
        )
    return Delivered([labels[str(label)] for label in range(len(labels))], config["in_channels"], geometry)
