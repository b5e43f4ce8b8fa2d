"""Several teachers as one, as in one-shot federated distillation: each may know other classes and see images its way.

A file lists them:

    [[teacher]]
    source = "hospital-a"             # whatever the setting `teacher` takes; a path is relative to the file
    classes = ["anchor", "bell", "-"] # its outputs in order; "-": none of ours; left out: the names that it carries

What they say is stacked (Wolpert 1992): a linear map of all members' logits and free energies, learned on synthetic
images and the classes that these were prompted for. So no real image is needed, a member counts where it is right, and
what it says about an image of a class that it doesn't know is evidence too. Our design, not the paper's.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from prismkd.augmentation import random_views
from prismkd.energy import free_energy
from prismkd.errors import UserError
from prismkd.prompts.teacher_labels import label_rows, read_config
from prismkd.shards import Storage
from prismkd.teachers.checkpoint import read_state_dict
from prismkd.teachers.classifier import Classifier

RIDGES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)  # tried from strong to weak; infinitely strong is the plain average
NUM_VIEWS = 2  # of each image, beside itself: guidance and students ask about views
HELD_OUT = 0.2  # share of the images that chooses the ridge


class Ensemble(Classifier):
    """Members with their outputs' places among the classes, seen from outside as one ``Classifier``.

    ``f(x) = W [f_1(x) E_1(x) ... f_M(x) E_M(x)] + b``, where ``f_m`` are the logits of member m for classes of ours and
    ``E_m`` is its free energy. At first it is the plain average: each class's logit is the mean over the members that
    know it. ``weight`` (classes, inputs) and ``bias`` (classes,) may be set to what ``stack`` returns.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, members: Sequence[Classifier], columns: Sequence[Sequence[int]], num_classes: int) -> None:
        """``columns``: for each member, the class of each of its outputs; -1 for those that are none of ours."""
        channels = max(member.in_channels for member in members)
        super().__init__(nn.ModuleList(members), {"num_classes": num_classes, "in_channels": channels})
        self.members = list(members)
        for number, own in enumerate(columns):
            self.register_buffer(f"columns_{number}", torch.tensor(own))
        # not persistent: the teachers' digest is of what their owners gave
        self.register_buffer("weight", self._plain_average(), persistent=False)
        self.register_buffer("bias", torch.zeros(num_classes), persistent=False)

    def _plain_average(self) -> Tensor:
        parts = []
        for number in range(len(self.members)):
            places = F.one_hot(self._known(number)[1], self.num_classes).float()
            parts += [places, places.new_zeros(1, self.num_classes)]  # logits, and the free energy
        total = torch.cat(parts)
        return (total / total.sum(0).clamp(min=1)).T.contiguous()

    def forward(self, images: Tensor) -> Tensor:
        return F.linear(self.statements(images), self.weight, self.bias)

    def statements(self, images: Tensor) -> Tensor:
        """Each member's logits for classes of ours and its free energy, side by side (batch, inputs)."""
        parts = list[Tensor]()
        for number, member in enumerate(self.members):
            logits = member(images)[:, self._known(number)[0]]
            parts += [logits, free_energy(logits)[:, None]]
        return torch.cat(parts, dim=1)

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


def stack(ensemble: Ensemble, images: Tensor, labels: Tensor, batch_size: int = 64) -> dict[str, Any]:
    """Learn the map from statements to logits: cross-entropy with the prompts, and a ridge towards the plain average.

    The ridge is the one of ``RIDGES`` with the least cross-entropy on a held-out fifth of the images; the map is then
    learned from all of them. Afterwards ``ensemble`` says what was learned.

    Args:
        ensemble: which still is the plain average.
        images: (n, channels, height, width) unguided synthetic images in [0, 1].
        labels: (n,) the classes that they were prompted for.

    Returns:
        ``ridge``; and on the held-out images ``cross_entropy`` by ridge, ``agreement`` with the prompts at the chosen
        one, and ``average_agreement`` of the plain average.
    """
    inputs = _statements_of_views(ensemble, images, batch_size)
    labels = labels.to(inputs.device)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))  # prompts take turns at the classes
    held = (order < HELD_OUT * len(images)).to(inputs.device)
    maps = _ridge_path(inputs[:, ~held], labels[~held], ensemble.weight, RIDGES)
    logits = {ridge: F.linear(inputs[0, held], *found) for ridge, found in zip(RIDGES, maps, strict=True)}
    losses = {ridge: float(F.cross_entropy(own, labels[held])) for ridge, own in logits.items()}
    best = min(RIDGES, key=lambda ridge: losses[ridge])
    average = F.linear(inputs[0, held], ensemble.weight)
    tried = RIDGES[: RIDGES.index(best) + 1]
    ensemble.weight, ensemble.bias = _ridge_path(inputs, labels, ensemble.weight, tried)[-1]
    return {
        "ridge": best,
        "cross_entropy": {str(ridge): loss for ridge, loss in losses.items()},
        "agreement": _agreement(logits[best], labels[held]),
        "average_agreement": _agreement(average, labels[held]),
    }


@torch.no_grad()
def _statements_of_views(ensemble: Ensemble, images: Tensor, batch_size: int) -> Tensor:
    """Of the images themselves, then of their views (1 + NUM_VIEWS, n, inputs)."""
    generator = torch.Generator().manual_seed(0)
    looks = [images, *(random_views(images, generator=generator) for _ in range(NUM_VIEWS))]
    return torch.stack([torch.cat([ensemble.statements(part) for part in look.split(batch_size)]) for look in looks])


def _ridge_path(inputs: Tensor, labels: Tensor, prior: Tensor, ridges: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias at each ridge, each found from the one before.

    The bias is free, so an offset of a member's logits, which cross-entropy leaves free, changes nothing.
    """
    targets, inputs = labels.repeat(len(inputs)), inputs.flatten(0, 1)
    center = inputs.mean(0)
    inputs, change = inputs - center, torch.zeros_like(prior, requires_grad=True)
    bias = F.linear(center, prior).requires_grad_()
    found = []
    for ridge in ridges:
        optimizer = torch.optim.LBFGS([change, bias], max_iter=100, line_search_fn="strong_wolfe")

        def loss(ridge: float = ridge, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(F.linear(inputs, prior + change, bias), targets) + ridge * change.square().sum()
            value.backward()
            return value

        with torch.enable_grad():
            optimizer.step(loss)
        weight = (prior + change).detach()
        found.append((weight, (bias - F.linear(center, weight)).detach()))
    return found


def write_map(ensemble: Ensemble, path: Path) -> None:
    """Keep what ``stack`` has learned, as safetensors."""
    state = {"weight": ensemble.weight.cpu(), "bias": ensemble.bias.cpu()}
    Storage(path.parent).write(path.name, save(state))


def read_map(ensemble: Ensemble, path: Path) -> None:
    """Take what ``write_map`` has kept.

    Raises:
        UserError: the file is damaged, or of other teachers.
    """
    state = read_state_dict(path)
    for name in ("weight", "bias"):
        wanted, got = getattr(ensemble, name), state.get(name)
        if got is None or got.shape != wanted.shape:
            raise UserError(
                f"expected {name} {tuple(wanted.shape)} in {path}, got {'none' if got is None else tuple(got.shape)}; "
                "it was learned for other teachers: use a new --out"
            )
        setattr(ensemble, name, got.to(wanted.device))


def _agreement(logits: Tensor, labels: Tensor) -> float:
    """Share of images that are given the class that they were prompted for."""
    return float((logits.argmax(1) == labels).float().mean())


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
