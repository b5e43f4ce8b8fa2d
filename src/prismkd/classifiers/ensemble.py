"""Several teachers as one, as in one-shot federated distillation: each may know other classes and see images its way.

A member can't know that it doesn't know what it sees: its answer to an image of a class that it never learned is
confident and worth nothing. But a synthetic image was drawn for a class, so of such an image only the members that know
this class are asked. Two other ways to combine them were built, measured, and taken out again: a weight per image and
member from its free energy, and a linear map learned on synthetic images (docs/teachers.md has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prismkd.classifiers.classifier import Classifier
from prismkd.errors import UserError


class Ensemble(Classifier):
    """Members with their outputs' places among the classes, seen from outside as one ``Classifier``.

    A class's logit is the mean over the members that know the class; of an image that was drawn for a class, over those
    of them that know this class too. What none of these knows gets the smallest logit of what they do know.

    Attributes:
        members: the classifiers.
        known: (members, classes), how many outputs a member has for a class; 0 where it doesn't know it.
    """

    known: Tensor

    def __init__(self, members: Sequence[Classifier], columns: Sequence[Sequence[int]], num_classes: int) -> None:
        """Of any number of members.

        Args:
            members: the classifiers.
            columns: for each member, the class of each of its outputs; -1 for those that are none of ours.
            num_classes: of all classes together.
        """
        channels = max(member.in_channels for member in members)
        super().__init__(nn.ModuleList(members), {"num_classes": num_classes, "in_channels": channels})
        self.members = list(members)
        for number, classes in enumerate(columns):
            self.register_buffer(f"columns_{number}", torch.tensor(classes))  # stored, so part of the digest
        known = torch.zeros(len(members), num_classes)
        for number in range(len(members)):
            known[number] = torch.bincount(self._outputs_and_classes(number)[1], minlength=num_classes)
        self.register_buffer("known", known, persistent=False)  # the teachers' digest is of what their owners gave

    def forward(self, images: Tensor, labels: Tensor | None = None, *, cropped: bool = False) -> Tensor:
        """Logits (batch, num_classes).

        ``f_c(x) = sum over members m and their outputs o for c of w_m f_mo(x) / sum over m of w_m known_mc``

        with ``w_m`` (``_weights``) saying whether member m is asked about x.
        """
        weights = self._weights(images, labels)
        logits = images.new_zeros(*weights.shape, self.num_classes)  # (batch, members, classes)
        for number, member in enumerate(self.members):
            (rows,), (outputs, classes) = weights[:, number].nonzero(as_tuple=True), self._outputs_and_classes(number)
            if len(rows):  # an image is shown to those who are asked about it, and to no others
                own_logits = member(images[rows], cropped=cropped)[:, outputs].to(logits.dtype)
                logits[rows, number] = logits.new_zeros(len(rows), self.num_classes).index_add(1, classes, own_logits)
        return self._mean(weights, logits)

    def combine(self, outputs: Sequence[Tensor]) -> Tensor:
        """Logits (n, num_classes) from each member's (n, own classes) of the same images, whatever class they show."""
        logits = outputs[0].new_zeros(len(outputs[0]), len(self.members), self.num_classes)
        for number, output in enumerate(outputs):
            places, classes = self._outputs_and_classes(number)
            logits[:, number].index_add_(1, classes, output[:, places])
        return self._mean(self._weights(logits, None), logits)

    def _mean(self, weights: Tensor, logits: Tensor) -> Tensor:
        """Over the members, of logits (batch, members, classes)."""
        total = weights @ self.known
        mean = (weights[:, :, None] * logits).sum(dim=1) / total.where(total > 0, 1.0)
        # A class that nobody who was asked knows: not minus infinity, which no loss and no energy survives.
        smallest = mean.masked_fill(total == 0, torch.inf).amin(dim=1, keepdim=True)
        return mean.where(total > 0, smallest)

    def _weights(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """(batch, members), how much each member's answer counts: 1 where it knows the image's class, else 0.

        In between for mixtures of images (MixUp, CutMix), by the share of the classes that it knows; 1 for all where
        it isn't known what an image shows.
        """
        if labels is None:
            return self.known.new_ones(len(images), len(self.members))
        shares = F.one_hot(labels, self.num_classes).to(self.known) if labels.ndim == 1 else labels
        return shares @ self.known.clamp(max=1).T

    def _outputs_and_classes(self, number: int) -> tuple[Tensor, Tensor]:
        """The outputs of a member that are classes of ours, and which classes they are; both (outputs,)."""
        columns = self._columns(number)
        outputs = (columns >= 0).nonzero().flatten()
        return outputs, columns[outputs]

    def columns(self, number: int) -> list[int]:
        """The class of each output of a member, counted from 0; -1 for those that are none of ours."""
        return self._columns(number).tolist()

    def _columns(self, number: int) -> Tensor:
        return cast(Tensor, getattr(self, f"columns_{number}"))

    def features(self, images: Tensor, *, cropped: bool = False) -> Tensor:
        """All members' penultimate features side by side (batch, sum of widths)."""
        return torch.cat([member.features(images, cropped=cropped) for member in self.members], dim=1)

    @property
    def input_size(self) -> int | None:
        """The largest of the members'."""
        return max((member.input_size or 0 for member in self.members), default=0) or None

    @property
    def head(self) -> nn.Linear:
        """Several classifiers have no common last layer.

        Raises:
            UserError: always, with the setting that would need one.
        """
        raise UserError("expected one teacher for guidance.diversity_weight, got several; set it to 0")
