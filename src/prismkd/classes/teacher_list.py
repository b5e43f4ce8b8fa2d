"""The file that lists several teachers, and which of the run's classes each one's outputs are.

    [[teacher]]
    source = "hospital-a"             # whatever the setting `teacher` takes; a path is relative to the file
    classes = ["anchor", "bell", "-"] # its outputs in order; "-": none of ours; left out: the names that it carries
    preprocessing = {resize = [64, 64]}  # as the setting teacher_preprocessing; left out: as the source has it

A folder carries names in its ``config.json``; where nothing names the outputs, they are the run's classes in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os.path import exists, isfile  # a name that no file system would take is none that exists
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

from prismkd.classes.matching import ClassLabels
from prismkd.classes.teacher_labels import label_rows, read_config
from prismkd.config import PreprocessingConfig
from prismkd.config.load import preprocessing_from
from prismkd.errors import UserError
from prismkd.files.documents import as_shape, read_toml
from prismkd.text import shortened

NONE_OF_OURS = "-"


@dataclass(frozen=True)
class ListedTeacher:
    """One section of the file.

    Attributes:
        name: its source as the file has it, for errors.
        source: what ``load_source`` takes.
        class_names: what its outputs are called, in order; empty: neither the file nor the teacher says so.
        preprocessing: what the file sets of it.
    """

    name: str
    source: str
    class_names: tuple[str, ...]
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)


def read_teacher_list(path: Path) -> list[ListedTeacher]:
    """The teachers that a file lists.

    Raises:
        UserError: no such file, or it isn't as above.
    """
    teachers = []
    for section in _sections(path):
        source = _beside(path, section["source"])
        names = section.get("classes") or _names_in_folder(source)
        preprocessing = preprocessing_from(section.get("preprocessing", {}), f"preprocessing of {section['source']}")
        teachers.append(ListedTeacher(section["source"], source, tuple(map(str, names)), preprocessing))
    return teachers


def class_indices(names: Sequence[str], class_names: Sequence[str], path: Path) -> list[int]:
    """The run's class of each of a teacher's outputs, as ``classes.matching`` compares names; -1 for none of ours.

    Args:
        names: of the outputs.
        class_names: of the run's classes.
        path: of the list, which errors name.

    Raises:
        UserError: a name that is no class of the run's; a close one is offered.
    """
    # The owners agree on the classes, not on how to write them
    labels, indices = ClassLabels([[name] for name in class_names]), []
    for name in names:
        label = -1 if name == NONE_OF_OURS else labels.find(name)
        if label is None:
            nearest = labels.nearest(name)
            hint = f"perhaps {nearest!r}, or " if nearest else ""
            raise UserError(f"expected names of the run's classes in {path}, got {name!r}; {hint}- for none of ours")
        indices.append(label)
    return indices


def classes_of_teachers(path: Path) -> list[str]:
    """The classes that the teachers of a list know together, each once, in the order in which they are first named.

    Raises:
        UserError: as ``read_teacher_list``; or nothing names the outputs of a teacher.
    """
    known: list[str] = []
    for teacher in read_teacher_list(path):
        if not teacher.class_names:
            raise UserError(
                f"expected the names of all outputs in {path}, got none for {teacher.name}; list them as its classes"
            )
        labels = ClassLabels([[name] for name in known])
        known += [name for name in teacher.class_names if name != NONE_OF_OURS and labels.find(name) is None]
    return known


class Section(TypedDict):
    """A [[teacher]] section; ``config.load`` checks its preprocessing."""

    source: Annotated[str, Meta(min_length=1, max_length=10_000)]
    classes: NotRequired[list[Annotated[str, Meta(max_length=1000)]]]
    preprocessing: NotRequired[dict[str, Any]]


class TeacherList(TypedDict):
    """The whole file."""

    teacher: Annotated[list[Section], Meta(min_length=1)]


def _sections(path: Path) -> list[Section]:
    """The [[teacher]] sections, each with a source and perhaps classes."""
    remedy = "write [[teacher]] sections with a source each"
    try:
        data = read_toml(path, dict[str, Any], remedy=remedy)
    except FileNotFoundError:
        raise UserError(f"expected a file that lists teachers, got {path}; check the path") from None
    sections = data.get("teacher")
    known = {"source", "classes", "preprocessing"}
    for section in sections if isinstance(sections, list) else ():
        strange = set(section) - known if isinstance(section, dict) else set[str]()
        if strange:
            raise UserError(
                f"expected source, classes or preprocessing in each [[teacher]] of {path}, got "
                f"{shortened(min(strange))}; correct it"
            )
    return as_shape(data, TeacherList, str(path), remedy=remedy)["teacher"]


def _beside(path: Path, source: str) -> str:
    """``source`` with a relative folder or file in it as one beside the list, where there is one."""
    # A list and its teachers travel together: where the run is started from doesn't matter.
    library, colon, rest = source.rpartition(":")
    name, at, file = rest.rpartition("@")
    beside = path.parent / (file if at else rest)
    return f"{library}{colon}{name}{at}{beside}" if exists(beside) else source


def _names_in_folder(source: str) -> list[str]:
    """The class names that a folder's ``config.json`` carries; none for other sources."""
    path = Path(source) / "config.json"
    return [row["name"] for row in label_rows(read_config(path), path, [])] if isfile(path) else []
