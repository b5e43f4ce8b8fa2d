"""The edit of one batch: descend the teacher's energy of every x0 prediction that needs it, inside a noise band.

The gradient g = dE/dx0 runs from x0 through the decoder, the augmented views and the teacher to the energy, never
through the denoiser, which would cost a backward pass of the largest network at every step:

    delta = -strength rms(x0) g / max(rms(g), g_floor)      all root mean squares per sample

That a classifier's energy guides the sampling is the paper's idea; where, when and how far is our design.

A plain classifier's gradient easily makes adversarial noise in place of better images. Against it stand, in this
order, the band, the augmented views, the tiny decoder and the hinge. ``prismkd survival`` measures whether they hold:
a gain that vanishes under resizing and JPEG, or that another classifier doesn't see, is an attack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prismkd.classifiers import Classifier
from prismkd.classifiers.views import random_views
from prismkd.config import GuidanceConfig
from prismkd.config.seeds import derive
from prismkd.guidance.guide import Guide
from prismkd.guidance.schedulers import X0Map
from prismkd.guidance.targets import Calibration
from prismkd.guidance.teacher_energy import TeacherEnergy

LATENTS_AT_ONCE = 2**18  # values of x0 whose decoded images are differentiated together
TINY = 1e-12  # in place of a root mean square of zero


@dataclass
class EnergyGuidance:
    """The edit of one batch, for ``edit_x0``.

    Attributes:
        teacher: differentiable classifier of images in [0, 1].
        decode: latents (batch, ...) to images in [0, 1], differentiable; the tiny decoder where there is one.
        labels: (batch,) the class of each image.
        calibration: the targets, the floor of the gradient and the usual size of latents.
        config: strength, band, views and weights.
        guided: (batch,) which images may be edited; None: all.
        guide: a student whose doubt is wanted; None: there is none.
        energy_before: (batch,) the free energy at the band's first step, filled while sampling; NaN of images that may
            not be edited.
        num_edits: (batch,) how many steps needed a gradient.
        latent_ratio: (batch,) largest rms of an edited x0 relative to the largest unguided one; 1 and below is usual.
        num_band_steps: steps of the schedule that fell into the band.
        log_snrs: noise levels that the schedule passed.
        gradient_sizes: root mean squares of the gradients, one tensor per edit.
        latent_sizes: root mean squares of the unedited x0 predictions, one tensor per step of the band.
    """

    teacher: Classifier
    decode: Callable[[Tensor], Tensor]
    labels: Tensor
    calibration: Calibration
    config: GuidanceConfig
    guided: Tensor | None = None
    guide: Guide | None = None
    energy_before: Tensor | None = None
    num_edits: Tensor | None = None
    latent_ratio: Tensor | None = None
    num_band_steps: int = 0
    log_snrs: list[float] = field(default_factory=list)
    gradient_sizes: list[Tensor] = field(default_factory=list)
    latent_sizes: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.energy = TeacherEnergy(self.teacher, self.calibration, self.config, self.guide)

    def __call__(self, x0: Tensor, mapping: X0Map) -> Tensor | None:
        """delta for x0 (batch, ...), or None outside the band and where no image needs one."""
        if self.config.strength == 0 or not self._in_band(mapping):
            return None
        self.num_band_steps += 1
        if (self.num_band_steps - 1) % self.config.every:
            return None
        # Pipelines run under no_grad, which enable_grad undoes; some users run them under inference_mode, whose
        # tensors autograd refuses: hence the switch and the clone. Leaving inference mode switches gradients on.
        with torch.inference_mode(False), torch.no_grad():
            x0 = x0.detach().clone().float()
            if self.energy_before is None or self.num_edits is None:
                self.energy_before, self.num_edits = x0.new_full((len(x0),), torch.nan), torch.zeros_like(self.labels)
            delta, guided = torch.zeros_like(x0), self._guided_places(x0)
            for places in guided.split(self._images_at_once(x0)) if len(guided) else ():
                delta[places] = self._delta(x0[places], places)
            self._record_latent_sizes(x0, delta)
            return delta if delta.any() else None

    def _in_band(self, mapping: X0Map) -> bool:
        """Whether guidance acts at this noise level, which is noted in ``log_snrs``."""
        # A band in the middle of the schedule, t / T in about [0.3, 0.7] for Stable Diffusion. Before it x0 is a blur
        # that the teacher can't judge. After it only texture is left to change, which is where adversarial patterns
        # live; those steps, the last one always among them, are unguided and purify what guidance did. On Pictograms
        # late guidance did no harm (docs/eda.md): where the reason should matter, on large latents, it is untested.
        self.log_snrs.append(mapping.log_snr)
        return in_band(mapping, self.config)

    def _guided_places(self, x0: Tensor) -> Tensor:
        """Places in the batch of the images that may be edited; the others aren't even looked at."""
        if self.guided is None:
            return torch.arange(len(x0), device=x0.device)
        return self.guided.nonzero().flatten()

    def _images_at_once(self, x0: Tensor) -> int:
        """Images whose gradients fit into memory together: 16 of Stable Diffusion at 512, 4 of SDXL at 1024."""
        return len(x0) if self.energy.couples_the_batch else max(1, LATENTS_AT_ONCE // x0[0].numel())

    def _delta(self, x0: Tensor, places: Tensor) -> Tensor:
        """The edit of the images at ``places`` of the batch; zero where none is needed."""
        x0.requires_grad_(True)
        with torch.enable_grad():
            images = self.decode(x0)
        needed = self._needs_gradient(images.detach(), places)
        delta = torch.zeros_like(x0)
        if needed.any():
            delta[needed] = self._descent(x0, images, needed, self.labels[places[needed]])
        return delta

    def _needs_gradient(self, images: Tensor, places: Tensor) -> Tensor:
        """Which images (batch,) of those at ``places`` need a gradient; counts them in ``num_edits``.

        With the hinge: those above their target energy, or not of their class by the teacher. Else all of them.
        """
        # One forward pass decides, since the hinge would give the others no gradient but a little of the label's, and
        # the views and the way back are most of what guidance costs. Other energies have no target at which an image
        # is done, the negative control is to raise the energy of all, where images act on each other, one that is done
        # still acts, and a student's doubt can still be raised.
        assert self.energy_before is not None and self.num_edits is not None
        energy, satisfied = self.energy.satisfied(images, self.labels[places])
        if self.num_band_steps == 1:
            self.energy_before[places] = energy.float()
        has_more = self.energy.couples_the_batch or self.guide is not None
        may_skip = self.config.skip_satisfied and not self.config.ascend and not has_more
        needed = ~satisfied if may_skip and self.config.energy == "hinge" else torch.ones_like(satisfied)
        self.num_edits[places] += needed
        return needed

    def _descent(self, x0: Tensor, images: Tensor, needed: Tensor, labels: Tensor) -> Tensor:
        """``-strength rms(x0) g / max(rms(g), g_floor)`` of the images where it is ``needed``."""
        g = self._gradient(x0, images, needed, labels)[needed]
        size = rms(g)
        self.gradient_sizes.append(size.flatten())
        # Every edit has the same length relative to x0, whatever the scale of the energy and of the latents. But a
        # saturated teacher's gradient is small and mostly noise: below the floor it stays small.
        g = g / size.clamp_min(max(self.calibration.g_floor, TINY))
        sign = 1 if self.config.ascend else -1
        return sign * self.config.strength * rms(x0[needed]) * g

    def _gradient(self, x0: Tensor, images: Tensor, needed: Tensor, labels: Tensor) -> Tensor:
        """dE/dx0 (batch, ...), E the mean energy over augmented views of the images where it is ``needed``.

        ``images`` are the decoded ``x0`` with their graph, which the check of the targets has paid for already.
        """
        count = self.config.num_views
        with torch.enable_grad():
            total = torch.zeros((), device=x0.device)
            for view in range(count):
                seen = images[needed]
                if self.config.augment:
                    # All images of a step share the view, and steps differ: an image's view must not depend on its
                    # place in the batch, or it would be another image where memory halves the batch or a run is
                    # resumed. Drawn where they are needed: at 1024 pixels the CPU takes 20 ms for what a GPU does in
                    # less than one.
                    generator = torch.Generator(x0.device).manual_seed(derive(0, "view", self.num_band_steps, view))
                    seen = random_views(seen, shared=True, generator=generator)
                total = total + self.energy(seen, labels) / count
            (gradient,) = torch.autograd.grad(total, x0)
        return torch.nan_to_num(gradient, posinf=0.0, neginf=0.0)  # a value that isn't finite moves nothing

    def _record_latent_sizes(self, x0: Tensor, delta: Tensor) -> None:
        """Note how large x0 is, and how far the edited x0 lies beyond what unguided sampling shows."""
        self.latent_sizes.append(rms(x0).flatten())
        if self.calibration.latent_rms > 0:
            ratio = rms(x0 + delta).flatten() / self.calibration.latent_rms
            self.latent_ratio = ratio if self.latent_ratio is None else torch.maximum(self.latent_ratio, ratio)


def in_band(mapping: X0Map, config: GuidanceConfig) -> bool:
    """Whether a step's level of noise is in the band; the last step never is."""
    return not mapping.is_last and config.log_snr_min <= mapping.log_snr <= config.log_snr_max


def rms(x: Tensor) -> Tensor:
    """Root mean square of each sample, shaped to broadcast against ``x``."""
    return x.flatten(1).pow(2).mean(dim=1).sqrt().view(-1, *[1] * (x.ndim - 1))
