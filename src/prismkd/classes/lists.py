"""The class list: a built-in one, a file's or a teacher's, with its synsets looked up and its names checked."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prismkd.assets import CLASS_LISTS, asset
from prismkd.classes.files import NO_SYNSET, ClassName, parse_rows, parse_table, read_text, rows_to_classes
from prismkd.classes.matching import normalize
from prismkd.classes.teacher_labels import WORDNET_ID, label_rows, output_rows, read_config
from prismkd.classes.teacher_list import classes_of_teachers
from prismkd.classes.wordnet import Synset, find_synset
from prismkd.config import Config
from prismkd.config.embedded import EMBEDDED_CLASSES, PICTOGRAMS
from prismkd.errors import UserError

MAX_HINT_WORDS = 5  # of a meaning, behind a name that several classes have
SMALL_WORDS = set("a an the of and or with that which to for in on from by as at used".split())
JOINERS = re.compile(r"(?<=\S)[\u200c\u200d](?=\S)")  # in Persian and Hindi words, and within emoji
MAX_NAME = 200  # characters; a name stands in prompts, tables and folder names
MAX_DEFINITION = 1000  # characters; text encoders cut a prompt at 77 to 512 tokens anyway
# What people call the only entry of a JSON file with class names
CONTAINERS = ("classes", "class_to_idx", "idx_to_class", "names", "class_names", "labels", "label2id", "idx2label")
BUILT_IN = (
    "pictograms", "pictograms-24", "imagenet-1k", "imagenet-100", "imagenette", "imagewoof", "pacs", "office-home",
    "domainnet",
)  # fmt: skip


def load_classes(source: str) -> list[ClassName]:
    """Read a class list in the order of its labels.

    Args:
        source: one of ``BUILT_IN``, or a file: .txt (a name per line), .csv or .tsv (a header with fields of
            ``ClassName``; synonyms and styles are separated by ``|`` or ``;``), .toml (``[[classes]]`` tables), or
            .json (a list of names or rows, or a model's config.json). A WordNet id as a name is replaced by its first
            lemma.

    Raises:
        UserError: no such file or list, a broken file, fewer than two classes, duplicates, unknown columns or synset
            ids, or names and definitions that can't be file names or prompts.
    """
    if source in BUILT_IN:
        return _built_in(source)
    path = Path(source)
    rows = _rows(parse_rows(_read(path), path), path)
    return _resolve(rows_to_classes(rows, path), path)


def as_classes(classes: str | Sequence[str | ClassName]) -> list[ClassName]:
    """A class list as ``load_classes`` reads it, or names and ``ClassName`` from Python, in the order of the labels.

    Raises:
        UserError: as ``load_classes``.
    """
    if isinstance(classes, str):
        return load_classes(classes)
    listed = [item if isinstance(item, ClassName) else ClassName(item) for item in classes]
    return _resolve(listed, Path("the given list"))


def classes_of(config: Config) -> list[ClassName]:
    """The class list of a run: the one that the setting ``classes`` names, or the teacher's own for ``teacher``."""
    return classes_of_teacher(config.teacher) if config.classes == "teacher" else load_classes(config.classes)


def classes_of_teacher(folder: str | Path) -> list[ClassName]:
    """The classes that a teacher's ``config.json`` names, in the order of its outputs.

    The names are timm's ``label_names`` (with ``label_descriptions``), transformers' ``id2label``, or timm's lists for
    models whose tag says which ImageNet they were trained on (``in1k``, ``in12k``, ``in21k``, ``in22k``).

    Args:
        folder: the teacher's, ``pictograms`` for the embedded one, or a FILE.toml that lists several, whose classes
            are those that any of them knows.

    Raises:
        UserError: no config, no names in it, or not one per output. The number of outputs alone says nothing: a model
            of 1,000 outputs need not be ImageNet's.
    """
    if str(folder) == "pictograms":
        return _built_in("pictograms")
    if str(folder).endswith(".toml"):
        return _resolve([ClassName(name) for name in classes_of_teachers(Path(folder))], Path(folder))
    path = Path(str(folder).removeprefix("transformers:"), "config.json")
    config = read_config(path)
    rows = output_rows(config, path, _built_in("imagenet-1k"))
    classes = _resolve(rows_to_classes(rows, path), path)
    if config.get("num_classes", len(classes)) != len(classes):
        raise UserError(
            f"expected num_classes {config['num_classes']!r} label names in {path}, got {len(classes)}; correct "
            "the labels"
        )
    return classes


def _built_in(name: str) -> list[ClassName]:
    """A list of ``BUILT_IN``, unchecked, since the tests check them all."""
    if name in EMBEDDED_CLASSES:
        path = asset("classes.json")
        classes = rows_to_classes(parse_rows(_read(path), path), path)
        some = None if name == PICTOGRAMS else set(_read(asset(f"{name}.txt")).splitlines())
        return [item for item in classes if some is None or item.name in some]
    path = CLASS_LISTS / f"{name}.tsv"
    _, _, table = _read(path).partition("\n")  # the first line says where the list comes from
    return rows_to_classes(parse_table(table, path), path)


def _read(path: Path) -> str:
    """The text of a class list. The error for a file that isn't there offers the built-in list of a similar name."""
    near = difflib.get_close_matches(str(path).lower(), BUILT_IN, n=1)
    advice = f"perhaps {near[0]}" if near else f"name a file or one of {', '.join(BUILT_IN)}"
    return read_text(path, "a readable class list", advice)


def _rows(data: Any, path: Path) -> list[Any]:
    """The rows in a file's data: a list as it is; a dictionary is taken for a model's configuration."""
    data = _of_mapping(data) if isinstance(data, dict) else data
    data = [_named(item) for item in data] if isinstance(data, list) else data
    is_config = isinstance(data, dict)
    rows = label_rows(data, path, _built_in("imagenet-1k")) if is_config else data
    if is_config and not rows and (numbers := _numbers(data)):
        raise UserError(
            f"expected the numbers 0 to {len(numbers) - 1} of the classes in {path}, got {min(numbers)} to "
            f"{max(numbers)}; number the classes in the order of the teacher's outputs"
        )
    if not isinstance(rows, list) or (is_config and not rows):
        got = f"the keys {list(data)[:5]}" if is_config else type(data).__name__
        raise UserError(
            f"expected a JSON list of classes, or id2label or label_names, in {path}, got {got}; wrap the classes in []"
        )
    return rows


def _of_mapping(data: dict[str, Any]) -> Any:
    """Rows of what people keep class names in: ``classes``, torchvision's ``class_to_idx``, Keras's index of classes.

    Any other dictionary stays as it is.
    """
    if len(data) == 1 and next(iter(data)) in CONTAINERS:
        (inner,) = data.values()
        return _of_mapping(inner) if isinstance(inner, dict) else inner
    values, places = list(data.values()), set(range(len(data)))
    if data and {value for value in values if type(value) is int} == places:  # {"cat": 0, "dog": 1}
        return sorted(data, key=lambda name: data[name])
    if data and {int(key) for key in data if re.fullmatch("[0-9]{1,9}", key)} == places:  # {"0": "cat", "1": "dog"}
        return [_named(data[key]) for key in sorted(data, key=int)]
    return data


def _numbers(data: dict[str, Any]) -> list[int]:
    """The numbers that a dictionary gives its names, as keys or as values; empty where it has none."""
    if all(re.fullmatch("[0-9]{1,9}", key) for key in data):
        return [int(key) for key in data]
    return list(data.values()) if all(type(value) is int for value in data.values()) else []


def _named(value: Any) -> Any:
    """A class's name, or Keras's pair of WordNet id and name."""
    is_pair = isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)
    return {"synset": value[0], "name": value[1]} if is_pair else value


def _resolve(classes: list[ClassName], path: Path) -> list[ClassName]:
    """Look up the synsets, name the classes that have only an id, and check the list."""
    synsets = [_synset(item, path) for item in classes]
    unnamed = [synset for item, synset in zip(classes, synsets, strict=True) if synset and item.name == synset.id]
    names = _names(unnamed)
    resolved = [
        replace(item, name=names.get(item.name, item.name), synset=synset.id) if synset else item
        for item, synset in zip(classes, synsets, strict=True)
    ]
    told_apart = _told_apart(resolved, path)
    _check(told_apart, path)
    return told_apart


def _told_apart(classes: list[ClassName], path: Path) -> list[ClassName]:
    """Give classes of the same name names that their meanings tell apart: ``crane (wading bird)``.

    Only what ``normalize`` leaves of a name counts, since a text encoder sees hardly more of it.

    Raises:
        UserError: two have the same name, and not each a synset or a definition of its own.
    """
    same: dict[str, list[int]] = {}
    for label, item in enumerate(classes):
        same.setdefault(normalize(item.name), []).append(label)
    renamed = list(classes)
    for labels in same.values():
        items = [classes[label] for label in labels]
        if len(items) == 1:
            continue
        meanings = [_meaning(item) for item in items]
        if not all(meanings) or len(set(meanings)) < len(meanings):
            raise _same_names(items, labels, path)
        if len({item.name for item in items}) < len(items):
            for label, item, hint in zip(labels, items, _hints(items), strict=True):
                # The name of before stays known, to whoever asks for it in the order of the classes
                renamed[label] = replace(item, name=f"{item.name} ({hint})", synonyms=(*item.synonyms, item.name))
    return renamed


def _meaning(item: ClassName) -> str:
    """What tells a class from another of the same name; empty where nothing does."""
    return item.definition or (item.synset if item.synset != NO_SYNSET else "")


def _hints(items: list[ClassName]) -> list[str]:
    """A few words of each class's meaning; where these are the same, its synset or more words."""
    texts = [item.definition or find_synset(item.synset).definition for item in items]
    clauses = [re.sub(r"[^\w' -]", " ", re.split(r"[;:(]", text)[0]).split() for text in texts]
    hints = [_cut(words, MAX_HINT_WORDS) for words in clauses]
    if all(hints) and len(set(hints)) == len(hints):
        return hints
    return [item.synset or _cut(words, len(words))[: MAX_NAME // 2] for item, words in zip(items, clauses, strict=True)]


def _cut(words: list[str], count: int) -> str:
    """The first ``count`` words, without small words at the end, which belong to what is cut off."""
    kept = words[:count]
    while len(kept) < len(words) and len(kept) > 1 and kept[-1] in SMALL_WORDS:
        kept.pop()
    return " ".join(kept)


def _same_names(items: list[ClassName], labels: list[int], path: Path) -> UserError:
    """The error for classes that nothing tells apart. None can go: each is one of the teacher's outputs."""
    names = list(dict.fromkeys(repr(item.name[:40]) for item in items))
    places = ", ".join(str(label + 1) for label in labels[:5]) + (", ..." if len(labels) > 5 else "")
    return UserError(
        f"expected names that tell the classes apart in {path}, got {' and '.join(names[:3])} for the classes {places};"
        " give each another name, a synset or a definition, and take none away, which would shift the later labels"
    )


def _synset(item: ClassName, path: Path) -> Synset | None:
    """The synset in a class's own column, or else the one whose id is the class's name; None where there is neither."""
    if item.synset == NO_SYNSET:
        return None
    synset_id = item.synset or (item.name if WORDNET_ID.fullmatch(item.name) else "")
    try:
        return find_synset(synset_id) if synset_id else None
    except UserError as error:
        raise UserError(f"{error} (the class {item.name[:40]!r} of {path})") from None


def _names(synsets: Sequence[Synset]) -> dict[str, str]:
    """A different name for each of the synsets, by id: ImageNet-1k's name, or the first lemma.

    Where several share their first lemma, each gets a lemma that none of the others has, or else its id behind it.
    """
    # People know the classes of ImageNet-1k by torchvision's names, of which no two are equal, though two synsets'
    # first lemmas are: "crane bird" and "crane".
    imagenet = {item.synset: item.name for item in _built_in("imagenet-1k")}
    lemmas = {
        item.id: [imagenet[item.id]] if item.id in imagenet else [word for word in item.lemmas if "/" not in word]
        for item in synsets
    }
    num_first = Counter(first for first, *_ in lemmas.values())
    num_owners = Counter(word for words in lemmas.values() for word in words)
    names = {}
    for synset_id, words in lemmas.items():
        is_clear = synset_id in imagenet or num_first[words[0]] == 1
        candidates = words if is_clear else [word for word in words if num_owners[word] == 1]
        names[synset_id] = candidates[0] if candidates else f"{words[0]} ({synset_id})"
    return names


def names_of(classes: Sequence[ClassName]) -> list[tuple[str, ...]]:
    """All names of each class, for ``matching.ClassLabels``: its own, its synset id, synonyms and WordNet's lemmas."""
    return [(item.name, *filter(None, (item.synset, *item.synonyms, *_lemmas(item.synset)))) for item in classes]


def _lemmas(synset_id: str) -> tuple[str, ...]:
    return find_synset(synset_id).lemmas if synset_id and synset_id != NO_SYNSET else ()


def _check(classes: list[ClassName], path: Path) -> None:
    """Refuse lists that no classifier can have: fewer than two classes, repeats, or unusable names and definitions."""
    if not classes:
        raise UserError(f"expected at least two classes in {path}, got none; write one name per line")
    if len(classes) == 1:
        raise UserError(
            f"expected at least two classes in {path}, got only {classes[0].name[:40]!r}; write one name per line"
        )
    for item in classes:
        for name in (item.name, *item.synonyms, *item.styles):
            _check_name(name, path)
        _check_definition(item, path)
    _check_synsets(classes, path)
    name, count = Counter(item.name for item in classes).most_common(1)[0]
    if count > 1:  # only where definitions differ behind what a name has room for
        raise UserError(
            f"expected names that tell the classes apart in {path}, got {name!r} {count} times; rename them"
        )


def _check_synsets(classes: list[ClassName], path: Path) -> None:
    """Refuse classes of one synset that no definition tells apart: the same would be drawn for both."""
    meant: dict[tuple[str, str], ClassName] = {}
    for item in classes:
        if item.synset in ("", NO_SYNSET):
            continue
        other = meant.setdefault((item.synset, item.definition), item)
        if other is not item:
            raise UserError(
                f"expected a synset of its own for each class in {path}, got {item.synset} for {other.name!r} and "
                f"{item.name!r}; give one another synset, or each a definition"
            )


def _check_name(name: str, path: Path) -> None:
    """Refuse a name that can't be a folder's, or that has brackets: {} mark places in prompts, and <> tags in HTML."""
    problem = "the character '.' in it" if name in (".", "..") else _problem(name, "/\\<>{}", range(1, MAX_NAME + 1))
    if problem:
        raise UserError(
            f"expected names of 1 to {MAX_NAME} printable characters without / \\ < > {{ }}, "
            f"got {name[:40]!r} with {problem}; rename it in {path}, or name another list in `classes`"
        )


def _check_definition(item: ClassName, path: Path) -> None:
    """As ``_check_name``, but with slashes: a definition is a part of prompts only."""
    problem = _problem(item.definition, "<>{}", range(MAX_DEFINITION + 1))
    if problem:
        raise UserError(
            f"expected definitions of at most {MAX_DEFINITION} printable characters without < > {{ }}, "
            f"got that of {item.name!r} with {problem}; shorten or correct it in {path}"
        )


def _problem(text: str, forbidden: str, lengths: range) -> str:
    """Why a text can't be used: a forbidden character, or its length; empty where it can."""
    usable = JOINERS.sub("", text)  # which are a part of words and emoji
    bad = next((character for character in usable if character in forbidden or not character.isprintable()), None)
    if bad:
        return f"the character {bad!r} in it"
    return "" if len(text) in lengths else f"{len(text)} characters"
