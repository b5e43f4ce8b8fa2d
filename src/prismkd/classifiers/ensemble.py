"""Several teachers as one, as in one-shot federated distillation: each may know other classes and see images its way.

A file lists them:

    [[teacher]]
    source = "hospital-a"             # whatever the setting `teacher` takes; a path is relative to the file
    classes = ["anchor", "bell", "-"] # its outputs in order; "-": none of ours; left out: the names that it carries

Each class's logit is the mean over the members that know the class. A member can't know that it doesn't know what it
sees; but of an image that was drawn for a class, only the members that know this class are asked (docs/teachers.md).
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prismkd.classes.matching import ClassLabels
from prismkd.classes.teacher_labels import label_rows, read_config
from prismkd.classifiers.classifier import Classifier
from prismkd.errors import UserError


class Ensemble(Classifier):
    """Members with their outputs' places among the classes, seen from outside as one ``Classifier``.

    A class's logit is the mean over the members that know the class; of an image that was drawn for a class, over those
    of them that know this class too. What none of these knows gets the smallest logit of what they do know.

    Attributes:
        known: (members, classes), how many outputs a member has for a class; 0 where it doesn't know it.
    """

    known: Tensor

    def __init__(self, members: Sequence[Classifier], columns: Sequence[Sequence[int]], num_classes: int) -> None:
        """``columns``: for each member, the class of each of its outputs; -1 for those that are none of ours."""
        channels = max(member.in_channels for member in members)
        super().__init__(nn.ModuleList(members), {"num_classes": num_classes, "in_channels": channels})
        self.members = list(members)
        for number, own in enumerate(columns):
            self.register_buffer(f"columns_{number}", torch.tensor(own))
        known = torch.zeros(len(members), num_classes)
        for number in range(len(members)):
            known[number] = torch.bincount(self._known(number)[1], minlength=num_classes)
        self.register_buffer("known", known, persistent=False)  # the teachers' digest is of what their owners gave

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        asked = self._asked(images, labels)
        said = images.new_zeros(*asked.shape, self.num_classes)
        for number, member in enumerate(self.members):
            (rows,), (outputs, classes) = asked[:, number].nonzero(as_tuple=True), self._known(number)
            if len(rows):
                own = member(images[rows])[:, outputs].to(said.dtype)
                said[rows, number] = said.new_zeros(len(rows), self.num_classes).index_add(1, classes, own)
        total = asked @ self.known
        mean = (asked[:, :, None] * said).sum(dim=1) / total.where(total > 0, 1.0)
        smallest = mean.masked_fill(total == 0, torch.inf).amin(dim=1, keepdim=True)
        return mean.where(total > 0, smallest)

    def _asked(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """(batch, members) how much each one's word counts: 1 or 0, and in between for mixtures of images."""
        if labels is None:
            return self.known.new_ones(len(images), len(self.members))
        shares = F.one_hot(labels, self.num_classes).to(self.known) if labels.ndim == 1 else labels
        return shares @ self.known.clamp(max=1).T

    def _known(self, number: int) -> tuple[Tensor, Tensor]:
        """A member's outputs that are classes of ours, and which classes they are."""
        columns = cast(Tensor, getattr(self, f"columns_{number}"))
        outputs = (columns >= 0).nonzero().flatten()
        return outputs, columns[outputs]

    def features(self, images: Tensor) -> Tensor:
        """All members' penultimate features side by side (batch, sum of widths)."""
        return torch.cat([member.features(images) for member in self.members], dim=1)

    @property
    def head(self) -> nn.Linear:
        """There is none. Raises UserError."""
        raise UserError(
            "expected one teacher for guidance.prototype_weight and guidance.react_quantile, got several; set both to "
            "their defaults"
        )


def load_ensemble(path: Path, class_names: Sequence[str], *, trust: bool = False) -> Ensemble:
    """The teachers that a file lists, over all classes of the run.

    Raises:
        UserError: the file isn't as above, a member names a class that isn't the run's, or a class has no teacher.
    """
    from prismkd.classifiers.sources import load_source

    members, columns, labels = [], [], ClassLabels([[name] for name in class_names])
    for row in _rows(path):
        source = _beside(path, row["source"])
        member = load_source(source, trust=trust).classifier
        names = row.get("classes") or _own_names(source) or list(class_names)
        if len(names) != member.num_classes:
            raise UserError(
                f"expected {member.num_classes} classes for {row['source']} in {path}, one per output, got "
                f"{len(names)}; list them in its order, with - for outputs that are none of ours"
            )
        members.append(member)
        columns.append([_place(name, labels, path) for name in names])
    unknown = sorted(set(range(len(class_names))) - {place for own in columns for place in own})
    if unknown:
        raise UserError(
            f"expected a teacher for every class in {path}, got none for {class_names[unknown[0]]!r} "
            f"({len(unknown)} of {len(class_names)}); add one, or drop the class"
        )
    return Ensemble(members, columns, len(class_names)).eval().requires_grad_(False)


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["teacher"]
        if not isinstance(rows, list) or not rows or not all(isinstance(row.get("source"), str) for row in rows):
            raise KeyError("source")
    except FileNotFoundError:
        raise UserError(f"expected a file that lists teachers, got {path}; check the path") from None
    except (tomllib.TOMLDecodeError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise UserError(f"expected [[teacher]] sections with source in {path}, got: {error}; mend them") from None
    strange = {key for row in rows for key in row} - {"source", "classes"}
    if strange:
        raise UserError(f"expected source and classes in each [[teacher]] of {path}, got {min(strange)!r}; mend it")
    return rows


def _beside(path: Path, source: str) -> str:
    """A relative folder or file means one beside the list."""
    library, colon, rest = source.rpartition(":")
    name, at, file = rest.rpartition("@")
    beside = path.parent / (file if at else rest)
    return f"{library}{colon}{name}{at}{beside}" if beside.exists() else source


def _own_names(source: str) -> list[str]:
    """The names that a folder's ``config.json`` carries; none for other sources."""
    path = Path(source) / "config.json"
    return [row["name"] for row in label_rows(read_config(path), path, [])] if path.is_file() else []


def _place(name: str, labels: ClassLabels, path: Path) -> int:
    """A class by its name, as ``matching.normalize`` compares names; -1 for none of ours."""
    if name == "-":
        return -1
    label = labels.find(name)
    if label is not None:
        return label
    nearest = labels.nearest(name)
    hint = f"perhaps {nearest!r}, or " if nearest else ""
    raise UserError(f"expected names of the run's classes in {path}, got {name!r}; {hint}- for none of ours")
