"""A teacher's labels: what its ``config.json`` says of its outputs, as the rows of a class list.

timm and transformers each have their own fields for that. Where a timm model names only the data set that it was
trained on, timm's own lists of that data set's labels serve.
"""

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

# The ImageNets in a tag such as "fb_in22k_ft_in1k_384": a model was trained on the last of them last.
TRAINED_ON = re.compile(r"(?:imagenet-?|(?<![a-z0-9])in)(1k|12k|21k|22k)(?![a-z0-9])")
# timm's files of label ids, by data set and number of outputs. The number is needed too: there are several ImageNet-21k
# (by who cleaned it), and a model with another number of outputs was trained on something else since.
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

    Args:
        config: the teacher's configuration.
        path: its file, for errors.
        imagenet: the classes of ImageNet-1k.

    Raises:
        UserError: nothing names the outputs. Their number alone doesn't, as many data sets have 10 or 1,000 classes.
    """
    rows = label_rows(config, path, imagenet) or _timm_labels(config)
    if not rows:
        raise UserError(
            f"expected the names of the classes in {path} (label_names, id2label, or a timm tag such as in1k that fits "
            "num_classes), got none; their number doesn't tell which they are: name a list in `classes`"
        )
    return rows


def label_rows(config: dict[str, Any], path: Path, imagenet: Sequence[ClassName]) -> list[Any]:
    """Rows from timm's ``label_names`` or transformers' ``id2label``; an empty list where there is neither.

    Args:
        config: the model's configuration.
        path: its file, for errors.
        imagenet: the classes of ImageNet-1k, which become the rows where the labels are ImageNet's own words.

    Raises:
        UserError: labels that aren't texts, ids with gaps, or placeholders (``LABEL_0``).
    """
    pretrained = _pretrained(config)
    labels = config.get("label_names") or pretrained.get("label_names") or config.get("id2label")
    if not labels:
        return []
    names = _in_order(labels, path)
    if _are_words_of(imagenet, names):  # with their synsets, as "crane" alone would name two classes alike
        return [{"name": item.name, "synset": item.synset} for item in imagenet]
    described = config.get("label_descriptions") or pretrained.get("label_descriptions")
    descriptions = described if isinstance(described, dict) else {}
    return [{"name": name, "definition": _definition(name, descriptions)} for name in names]


def _pretrained(config: dict[str, Any]) -> dict[str, Any]:
    """timm's ``pretrained_cfg``; empty in other libraries' configurations."""
    pretrained = config.get("pretrained_cfg")
    return pretrained if isinstance(pretrained, dict) else {}


def _in_order(labels: Any, path: Path) -> list[str]:
    """The labels as a list, in the order of the outputs.

    Those of a dictionary are sorted by their ids as numbers: as texts, "10" would come before "2".
    """
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
    """Whether the labels are ImageNet's words in its order (``tench, Tinca tinca``), by the first word of each.

    Compared exactly, not through ``matching.normalize``: what is recognized here replaces the model's own labels, so
    it should be a copy of ImageNet's list and nothing similar.
    """
    first_words = [label.split(",")[0].strip() for label in labels]
    return len(first_words) == len(imagenet) and all(
        word == item.name or word == find_synset(item.synset).lemmas[0]
        for word, item in zip(first_words, imagenet, strict=True)
    )


def _definition(label: str, descriptions: dict[str, Any]) -> Any:
    """timm's description of a label; empty where it only repeats the label, or where WordNet has a better one."""
    description = descriptions.get(label, "")
    return "" if description == label or WORDNET_ID.fullmatch(label) else description


def _timm_labels(config: dict[str, Any]) -> list[str]:
    """The synset ids of a timm model's outputs where its tag names the data set and their number fits; else empty."""
    # The tag comes last, since it says what the model was fine-tuned on
    origin = f"{config.get('dataset')} {config.get('architecture')} {_pretrained(config).get('tag')}"
    trained_on, num_outputs = TRAINED_ON.findall(origin.lower()), config.get("num_classes")
    file = TIMM_LABELS.get((trained_on[-1], num_outputs)) if trained_on and isinstance(num_outputs, int) else None
    spec = importlib.util.find_spec("timm")  # finds the folder, and imports nothing
    if file is None or spec is None or not spec.submodule_search_locations:
        return []
    return _read(Path(spec.submodule_search_locations[0], "data", "_info", file)).split()


def _read(path: Path) -> str:
    return read_text(path, "a teacher folder with config.json", "check it")
