"""A student inside the guidance: what it has not learned yet is what the next images are to show.

``E_total = E - w D(x)``, with D the student's own doubt or its divergence from the teacher. Where the teacher's energy
is high its gradient rules. Where it is low little of it is left, and since every edit has one length, the doubt then
decides about its direction: w balances directions, not lengths.

That images which the student finds hard are worth more than others is known since Askari-Hemmat et al. 2025 (Deliberate
Practice); the energy is our design.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from prismkd.classifiers import Classifier


@dataclass(frozen=True)
class Guide:
    """A student of the images so far.

    Attributes:
        student: classifier of images in [0, 1].
        term: entropy or divergence.
        weight: w.
    """

    student: Classifier
    term: str
    weight: float

    def doubt(self, images: Tensor, teacher_logits: Tensor) -> Tensor:
        """D (batch,), differentiable: ``H(student)``, or ``KL(teacher || student)``, in nats.

        Args:
            images: (batch, channels, height, width) in [0, 1].
            teacher_logits: (batch, classes), the teacher's of the same images.
        """
        own = self.student(images).log_softmax(dim=1)
        if self.term == "entropy":
            return -(own.exp() * own).sum(dim=1)
        teacher = teacher_logits.log_softmax(dim=1)
        return (teacher.exp() * (teacher - own)).sum(dim=1)
