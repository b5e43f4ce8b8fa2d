"""Several teachers as one, as in one-shot federated distillation: each may know other classes and see images its way.

A file lists them:

    [[teacher]]
    source = "hospital-a"             # whatever the setting `teacher` takes; a path is relative to the file
    classes = ["anchor", "bell", "-"] # its outputs in order; "-": none of ours; left out: the names that it carries

The weighting by energy is our own design.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from prismkd.energy import free_energy
from prismkd.errors import UserError
from prismkd.prompts.teacher_labels import label_rows, read_config
from prismkd.teachers.classifier import Classifier

SHARPNESS = (0.0, 0.5, 1.0, 2.0, 4.0)  # of the weighting by energy; 0 is the plain average
UNKNOWN = -1e4  # the logit of a class that no member knows; not minus infinity, for the sake of products with 0


@dataclass(frozen=True)
class Weighting:
    """How members' logits are combined.

    Attributes:
        centers: each member's free energy on images of its own classes (median); cross-entropy leaves it free.
        scales: its spread there (standard deviation).
        sharpness: how strongly a member that finds an image familiar outweighs one that doesn't.
    """

    centers: tuple[float, ...]
    scales: tuple[float, ...]
    sharpness: float


class Ensemble(Classifier):
    """Members with their outputs' places among the classes, seen from outside as one ``Classifier``.

    ``f_y(x) = sum_m w_m(x) (f_m,y(x) + center_m) / sum_m w_m(x)`` over the members m that know the class y, with
    ``w_m = softmax_m(-sharpness (E_m(x) - center_m) / scale_m)``, ``E_m`` the member's free energy of the image. Until
    ``weighting`` is set from ``calibrated``, it is the plain average.
    """

    def __init__(self, members: Sequence[Classifier], columns: Sequence[Sequence[int]], num_classes: int) -> None:
        """``columns``: for each member, the class of each of its outputs; -1 for those that are none of ours."""
        channels = max(member.in_channels for member in members)
        super().__init__(nn.ModuleList(members), {"num_classes": num_classes, "in_channels": channels})
        self.members = list(members)
        self.weighting = Weighting((0.0,) * len(members), (1.0,) * len(members), sharpness=0.0)
        for number, own in enumerate(columns):
            self.register_buffer(f"columns_{number}", torch.tensor(own))

    def forward(self, images: Tensor) -> Tensor:
        return self.combine(self.answers(images))

    def answers(self, images: Tensor) -> list[Tensor]:
        """Each member's logits (batch, its outputs that are classes of ours)."""
        return [member(images)[:, self._known(number)[0]] for number, member in enumerate(self.members)]

    @torch.no_grad()
    def answers_of(self, images: Tensor, batch_size: int = 64) -> list[Tensor]:
        """As ``answers``, of any number of images, in batches."""
        parts = [self.answers(batch) for batch in images.split(batch_size)]
        return [torch.cat([part[number] for part in parts]) for number in range(len(self.members))]

    def combine(self, answers: Sequence[Tensor], weighting: Weighting | None = None) -> Tensor:
        """The members' ``answers`` as logits (batch, num_classes)."""
        weighting = weighting or self.weighting
        energies = torch.stack([free_energy(logits) for logits in answers], dim=1)
        centers, scales = energies.new_tensor(weighting.centers), energies.new_tensor(weighting.scales)
        weights = (-weighting.sharpness * (energies - centers) / scales).softmax(dim=1) + 1e-8
        total = energies.new_zeros(len(energies), self.num_classes)
        weight = torch.zeros_like(total)
        for number, logits in enumerate(answers):
            classes, own = self._known(number)[1], weights[:, number, None]
            total = total.index_add(1, classes, own * (logits + centers[number]))
            weight = weight.index_add(1, classes, own.expand_as(logits))
        return torch.where(weight > 0, total / weight.clamp(min=1e-12), torch.full_like(total, UNKNOWN))

    def _known(self, number: int) -> tuple[Tensor, Tensor]:
        """A member's outputs that are classes of ours, and which classes they are."""
        columns = cast(Tensor, getattr(self, f"columns_{number}"))
        outputs = (columns >= 0).nonzero().flatten()
        return outputs, columns[outputs]

    def knows(self, number: int, labels: Tensor) -> Tensor:
        """(n,) whether a member knows each of these classes."""
        return torch.isin(labels, self._known(number)[1])

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


@torch.no_grad()
def calibrated(ensemble: Ensemble, answers: Sequence[Tensor], labels: Tensor) -> tuple[Weighting, dict[str, float]]:
    """The weighting under which the teachers agree best with the prompted classes; no real image is needed.

    Args:
        ensemble: whose weighting is looked for.
        answers: of ``ensemble.answers`` on unguided synthetic images.
        labels: (n,) the classes that these images were prompted for.

    Returns:
        The weighting, and the share of agreement by sharpness.
    """
    centers, scales = [], []
    for number, logits in enumerate(answers):
        own = free_energy(logits)[ensemble.knows(number, labels)]
        own = own if len(own) > 1 else free_energy(logits)
        centers.append(float(own.median()))
        scales.append(max(float(own.std()), 1e-3))
    found = {}
    for sharpness in SHARPNESS:
        logits = ensemble.combine(answers, Weighting(tuple(centers), tuple(scales), sharpness))
        found[sharpness] = float((logits.argmax(1) == labels).float().mean())
    best = max(SHARPNESS, key=lambda sharpness: (found[sharpness], -sharpness))
    return Weighting(tuple(centers), tuple(scales), best), {str(key): value for key, value in found.items()}


def load_ensemble(path: Path, class_names: Sequence[str], *, trust: bool = False) -> Ensemble:
    """The teachers that a file lists, over all classes of the run.

    Raises:
        UserError: the file isn't as above, a member names a class that isn't the run's, or a class has no teacher.
    """
    from prismkd.teachers.sources import load_source

    members, columns = [], []
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
        columns.append([_place(name, class_names, path) for name in names])
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


def _place(name: str, class_names: Sequence[str], path: Path) -> int:
    """A class by its name, in whatever case."""
    if name == "-":
        return -1
    folded = [known.casefold() for known in class_names]
    if name.casefold() in folded:
        return folded.index(name.casefold())
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    hint = f"perhaps {class_names[folded.index(near[0])]!r}, or " if near else ""
    raise UserError(f"expected names of the run's classes in {path}, got {name!r}; {hint}- for none of ours")


def weighting_from_json(data: dict[str, Any]) -> Weighting:
    """From what a run keeps of the calibration."""
    return Weighting(tuple(data["centers"]), tuple(data["scales"]), data["sharpness"])
