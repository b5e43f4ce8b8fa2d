"""The JSON files beside weights, read and checked before a library sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prismkd.errors import UserError
from prismkd.files import read_document
from prismkd.text import shortened

MAX_SIDE = 4096  # pixels of what a network sees, or values of latents
MAX_LAYERS = 4096
MAX_SIZE = 2**20  # of layers, channels, classes, positions: of what a description of a network counts or lists
MAX_LISTED = 2**16  # channels and layers of stages, which stand in lists
SIDES = ("image_size", "img_size", "input_size", "sample_size", "patch_size", "window_size")
NUM_OUTPUTS = ("num_labels", "num_classes")
MAX_OUTPUTS = 2**16  # each of which gets a name
# What leads transformers to other files, wherever it stands: timm reads these with the code in them
ELSEWHERE = ("checkpoint_path", "pretrained_cfg_overlay")
DESCRIPTIONS = ("config.json", "preprocessor_config.json", "processor_config.json")
ADAPTER = "adapter_config.json"  # transformers adds what it names to a network, from anywhere
REMEDY = "correct it, or get the folder again"


def read_description(path: Path) -> dict[str, Any]:
    """A JSON file that describes a network, with sizes that a network can have.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is no JSON object, or one of its values can't be right.
    """
    document: dict[str, Any] = read_document(path, dict[str, Any], remedy=REMEDY)
    for name, value in _entries(document):
        _check(name, value, path)
    return document


def check_folder(folder: Path) -> None:
    """Refuse a folder of transformers whose files lead elsewhere, or say of a network what can't be.

    Raises:
        UserError: there is an adapter, or a JSON file names another file, or code on the hub, or isn't as it should be.
    """
    if (folder / ADAPTER).exists():
        raise UserError(
            f"expected a whole network in {folder}, got an adapter ({ADAPTER}), whose network may be anywhere; merge "
            "the two (merge_and_unload) and save the result"
        )
    for name in DESCRIPTIONS:
        if not (folder / name).exists():
            continue
        for key, value in _entries(read_description(folder / name)):
            # The attention of a network may be a program on the hub, by its name
            if (key in ELSEWHERE and value) or (key.endswith("attn_implementation") and "/" in str(value)):
                raise UserError(
                    f"expected a network in {folder / name} that needs nothing from elsewhere, got {key} = "
                    f"{shortened(value)}; remove it"
                )


def _check(name: str, value: Any, path: Path) -> None:
    if isinstance(value, list) and len(value) > MAX_SIZE:
        raise UserError(f"expected lists of up to {MAX_SIZE:,} in {path}, got {len(value):,} as {name[:60]}; {REMEDY}")
    limit = _limit(name, value)
    numbers = value if isinstance(value, list) else [value]
    wrong = [number for number in numbers if type(number) in (int, float) and abs(number) > limit]
    if wrong and (type(wrong[0]) is int or name in SIDES):
        raise UserError(f"expected {name[:60]} up to {limit:,} in {path}, got {shortened(wrong[0])}; {REMEDY}")
    if name in NUM_OUTPUTS and value is not None and (type(value) is not int or not 0 <= value <= MAX_OUTPUTS):
        raise UserError(f"expected {name} of 0 to {MAX_OUTPUTS:,} in {path}, got {shortened(value)}; {REMEDY}")


def _limit(name: str, value: Any) -> int:
    """The largest number that an entry may have."""
    if name in SIDES:
        return MAX_SIDE
    if "layer" in name or "depth" in name:
        return MAX_LAYERS
    return MAX_LISTED if isinstance(value, list) else MAX_SIZE


def _entries(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each value by its name, those within others too; ``read_document`` has bounded the depth."""
    for name, value in document.items():
        yield name, value
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from _entries(inner)
            elif isinstance(inner, list):
                yield from _entries({name: inner})
