"""The survival test: is guidance's energy gain an alignment, or an adversarial pattern that a JPEG washes off?

The same prompts and seeds are drawn unguided, guided, and with the sign flipped (the negative control). Each set is
then resized, compressed and re-encoded, and shown to the teacher and to a judge of another architecture that guided
nothing. A gain that vanishes there is an attack.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from prismkd.classifiers import Classifier, predict
from prismkd.config import GuidanceConfig
from prismkd.errors import UserError
from prismkd.generators import TextToImage
from prismkd.generators.lora import Adapter
from prismkd.guidance.energy import conditional_energy, free_energy
from prismkd.memory import in_batches
from prismkd.progress import Progress
from prismkd.prompts import PromptPlan
from prismkd.synthesis.synthesizer import NO_ROOM, Synthesizer

VARIANTS = ("unguided", "guided", "ascending")
ADAPTED = "adapted"  # unguided images of the generator's adapter, where there is one


@dataclass(frozen=True)
class SurvivalRow:
    """Means over the images of one variant after one treatment, by one viewer.

    Attributes:
        variant: unguided, guided, ascending (the negative control) or adapted.
        treatment: what was done to the images: none, resize, jpeg, re-encode or all.
        viewer: teacher or judge.
        energy: mean free energy (the scale is the viewer's own).
        label_energy: mean cross-entropy with the prompted class, in nats.
        top1: share assigned to the prompted class.
    """

    variant: str
    treatment: str
    viewer: str
    energy: float
    label_energy: float
    top1: float


def survival_test(
    synthesizer: Synthesizer, plan: PromptPlan, num_images: int, judge: Classifier | None, progress: Progress,
    adapter: Adapter | None = None,
) -> list[SurvivalRow]:  # fmt: skip
    """Draw all variants and measure them after every treatment.

    Args:
        synthesizer: a guided one.
        plan: its first ``num_images`` prompts are drawn.
        num_images: per variant.
        judge: a classifier of the same classes that guided nothing; None leaves its rows out.
        progress: called with the number of images just finished.
        adapter: of the generator, whose unguided images are one variant more.

    Raises:
        UserError: the synthesizer isn't guided, or its strength is 0.
    """
    guidance = check_guided(synthesizer.guidance)
    prompts = [plan[i] for i in range(num_images)]
    labels = torch.tensor([prompt.label for prompt in prompts])
    viewers = {"teacher": synthesizer.teacher} | ({"judge": judge} if judge is not None else {})
    rows = []
    drawn_by = dict(zip(VARIANTS, (
        replace(synthesizer, guidance=None), synthesizer, replace(synthesizer, guidance=replace(guidance, ascend=True))
    ), strict=True))  # fmt: skip
    if adapter is not None:
        drawn_by[ADAPTED] = replace(synthesizer, guidance=None, adapter=adapter)
    for variant, variant_synthesizer in drawn_by.items():
        # The same prompts, so the same seeds: variants differ by what acts on them and nothing else.
        images = variant_synthesizer.draw_all(prompts, progress)
        for treatment, treat in treatments(synthesizer.generator).items():
            treated = treat(images)
            for viewer, network in viewers.items():
                rows.append(_row(variant, treatment, viewer, predict(network, treated), labels))
    return rows


def check_guided(guidance: GuidanceConfig | None) -> GuidanceConfig:
    """The guidance, which must act."""
    if guidance is None or guidance.strength == 0:
        raise UserError("expected guidance to test, got none; set guidance.strength above 0")
    return guidance


def gains(rows: list[SurvivalRow], variant: str = "guided") -> list[dict[str, Any]]:
    """Per treatment and viewer: how much lower both energies are than the unguided images', and what share survives.

    ``survives`` is the free-energy gain relative to the gain on untreated images.
    """
    found = {(row.variant, row.treatment, row.viewer): row for row in rows}
    table = []
    for (name, treatment, viewer), row in found.items():
        if name != variant:
            continue
        # Against the unguided images after the same treatment, which moves their energies too.
        base, whole = found["unguided", treatment, viewer], found[variant, "none", viewer]
        untreated = found["unguided", "none", viewer].energy - whole.energy
        gain = base.energy - row.energy
        table.append({
            "treatment": treatment, "viewer": viewer, "gain": gain, "label_gain": base.label_energy - row.label_energy,
            "top1": row.top1, "top1_unguided": base.top1, "survives": gain / untreated if untreated else None,
        })  # fmt: skip
    return table


def to_dicts(rows: list[SurvivalRow]) -> list[dict[str, Any]]:
    """Plain data for JSON."""
    return [asdict(row) for row in rows]


def treatments(generator: TextToImage) -> dict[str, Callable[[Tensor], Tensor]]:
    """What a pattern must survive, as functions of images (n, channels, height, width) in [0, 1]."""

    def encode_again(images: Tensor) -> Tensor:
        return reencode(generator, images)

    return {
        "none": lambda images: images,
        "resize": resize,
        "jpeg": jpeg,
        "re-encode": encode_again,
        # In the order in which an image would meet them: resized, stored, and used by another model.
        "all": lambda images: encode_again(jpeg(resize(images))),
    }


def resize(images: Tensor, factor: float = 0.75) -> Tensor:
    """Down to ``factor`` of the size and back, bilinear with antialiasing."""
    size = images.shape[-2:]
    small = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
    # With antialiasing, so that a fine pattern is averaged away; without it, some of its pixels would be picked.
    down = F.interpolate(images, small, mode="bilinear", antialias=True, align_corners=False)
    return F.interpolate(down, size, mode="bilinear", align_corners=False).clamp(0, 1)


def jpeg(images: Tensor, quality: int = 75) -> Tensor:
    """Through a JPEG file each."""
    pixels = images.mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    decoded = []
    for picture in pixels:
        # Pillow and not a differentiable stand-in: the pattern meets the files that people use.
        file = io.BytesIO()
        Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(file, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(file)).reshape(picture.shape))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).float().div(255)


@torch.no_grad()
def reencode(generator: TextToImage, images: Tensor) -> Tensor:
    """Through the generator's full autoencoder."""
    batches = in_batches(len(images), generator, lambda batch: generator.reconstruct(images[batch]).cpu(), NO_ROOM)
    return torch.cat([outcome for _, outcome in batches])


def _row(variant: str, treatment: str, viewer: str, logits: Tensor, labels: Tensor) -> SurvivalRow:
    return SurvivalRow(
        variant, treatment, viewer,
        energy=float(free_energy(logits).mean()),
        label_energy=float(conditional_energy(logits, labels).mean()),
        top1=float((logits.argmax(1) == labels).float().mean()),
    )  # fmt: skip
