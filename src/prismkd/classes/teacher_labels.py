"""Teachers' labels: the names of its outputs that a model's configuration carries, as rows of a class list."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prismkd.classes.files import ClassName, parse_json, read_text
from prismkd.classes.wordnet import find_synset
from prismkd.errors import UserError

WORDNET_ID = re.compile(r"n[0-9]{8}")

# timm's files of label ids, by what a model was trained on last (as its tag says) and its number of outputs.
TRAINED_ON = re.compile(r"(?:imagenet-?|(?<![a-z0-9])in)(1k|12k|21k|22k)(?![a-z0-9])")
TIMM_LABELS = {
    ("1k", 1000): "imagenet_synsets.txt",
    ("12k", 11821): "imagenet12k_synsets.txt",
    ("21k", 10450): "imagenet21k_miil_w21_synsets.txt",
    ("21k", 11221): "imagenet21k_miil_synsets.txt",
    ("21k", 21843): "imagenet21k_goog_synsets.txt",
    ("22k", 21841): "imagenet22k_synsets.txt",
    ("22k", 21842): "imagenet22k_ms_synsets.txt",
}


def read_config(path: Path) -> dict[str, Any]:
    """A teacher's ``config.json``.

    Raises:
        UserError: no such file, or no JSON object in it.
    """
    config = parse_json(_read(path), path)
    if not isinstance(config, dict):
        raise UserError(f"expected a JSON object in {path}, got {type(config).__name__}; check `teacher`")
    return config


def output_rows(config: dict[str, Any], path: Path, imagenet: Sequence[ClassName]) -> list[Any]:
    """A row for each of a teacher's outputs: ``label_rows``, or timm's list for the ImageNet that a tag names.

    Raises:
        UserError: nothing names the outputs. Their number alone names no classes.
    """
    rows = label_rows(config, path, imagenet) or _timm_labels(config)
    if not rows:
        raise UserError(
            f"expected the names of the classes in {path} (label_names, id2label, or a timm tag such as in1k that fits "
            "num_classes), got none; their number doesn't tell which they are: name a list in `classes`"
        )
    return rows


def label_rows(config: dict[str, Any], path: Path, imagenet: Sequence[ClassName]) -> list[Any]:
    """Rows of timm's ``label_names`` or transformers' ``id2label``; none where a configuration has neither.

    Args:
        config: the model's.
        path: its file, which errors name.
        imagenet: ImageNet-1k's classes, the rows for labels that are its words.

    Raises:
        UserError: labels that are no texts, have gaps in their ids, or are numbers in disguise (``LABEL_0``).
    """
    pretrained = _pretrained(config)
    labels = config.get("label_names") or pretrained.get("label_names") or config.get("id2label")
    if not labels:
        return []
    names = _in_order(labels, path)
    if _are_words_of(imagenet, names):
        return [{"name": item.name, "synset": item.synset} for item in imagenet]
    described = config.get("label_descriptions") or pretrained.get("label_descriptions")
    texts = described if isinstance(described, dict) else {}
    return [{"name": name, "definition": _definition(name, texts)} for name in names]


def _pretrained(config: dict[str, Any]) -> dict[str, Any]:
    """timm's ``pretrained_cfg``, where there is one."""
    found = config.get("pretrained_cfg")
    return found if isinstance(found, dict) else {}


def _in_order(labels: Any, path: Path) -> list[str]:
    """A list of labels, or a dictionary of them by id, in the order of the ids as numbers: 10 comes after 2."""
    if isinstance(labels, dict):
        ids = {int(key): key for key in labels if re.fullmatch("[0-9]{1,9}", key)}
        missing = [number for number in range(len(labels)) if number not in ids]
        if missing:
            raise UserError(
                f"expected the ids 0 to {len(labels) - 1} in the labels of {path}, "
                f"found no {missing[0]} among {list(labels)[:5]}; number the labels so"
            )
        labels = [labels[ids[number]] for number in range(len(labels))]
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise UserError(f"expected texts as labels in {path}, got {str(labels)[:60]}; give each class a name")
    if all(re.fullmatch("LABEL_[0-9]+", label) for label in labels):
        raise UserError(f"expected names as labels in {path}, got {labels[0]} and so on; write the names there")
    return labels


def _are_words_of(imagenet: Sequence[ClassName], labels: list[str]) -> bool:
    """Whether the labels are ImageNet's words in its order (``tench, Tinca tinca``), by the first of each."""
    firsts = [label.split(",")[0].strip() for label in labels]
    return len(firsts) == len(imagenet) and all(
        first == item.name or first == find_synset(item.synset).lemmas[0]
        for first, item in zip(firsts, imagenet, strict=True)
    )


def _definition(label: str, described: dict[str, Any]) -> Any:
    """What timm's ``label_descriptions`` add to a label; WordNet itself describes its ids."""
    text = described.get(label, "")
    return "" if text == label or WORDNET_ID.fullmatch(label) else text


def _timm_labels(config: dict[str, Any]) -> list[str]:
    """The synset ids of a timm model's outputs, where a tag names the data set and their number fits."""
    said = f"{config.get('dataset')} {config.get('architecture')} {_pretrained(config).get('tag')}"
    trained_on, outputs = TRAINED_ON.findall(said.lower()), config.get("num_classes")
    file = TIMM_LABELS.get((trained_on[-1], outputs)) if trained_on and isinstance(outputs, int) else None
    spec = importlib.util.find_spec("timm")  # finds the folder, and imports nothing
    if file is None or spec is None or not spec.submodule_search_locations:
        return []
    return _read(Path(spec.submodule_search_locations[0], "data", "_info", file)).split()


def _read(path: Path) -> str:
    return read_text(path, "a teacher folder with config.json", "check it")
