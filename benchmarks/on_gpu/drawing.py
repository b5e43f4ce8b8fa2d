"""Drawing with random weights: images per second and memory, unguided and guided."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median

import torch
from torch import Tensor

from benchmarks.cost.flops import Pieces, count_pieces
from benchmarks.cost.rows import band_steps
from benchmarks.cost.seconds import denoise, time_once
from benchmarks.cost.shapes import Networks, Shape, shape_networks
from benchmarks.on_gpu.scale import Found, Scale, new_teacher
from benchmarks.on_gpu.turns import UNGUIDED, Draws, time_in_turns
from prismkd.classifiers.views import random_views
from prismkd.config import GuidanceConfig
from prismkd.guidance import Calibration, EnergyGuidance, X0Map

TINY, FULL, CHECK = "x0, tiny decoder", "x0, full decoder", "check only"
WAYS = (UNGUIDED, TINY, FULL, CHECK)
META = torch.device("meta")


def measure_shape(name: str, scale: Scale, found: Found, until: float) -> None:
    """Images per second of a shape unguided and guided in the worst case, where every image takes every gradient.

    ``check only`` is the best case: at every guided step the teacher finds that no image needs a gradient. For SD 1.5
    also with the denoiser in channels-last format.
    """
    shape, sizes = scale.shapes[name], scale.batch_sizes[name]
    pieces = count_pieces(shape_networks(shape, META, teacher=new_teacher(scale, META)))
    networks = random_networks(shape, scale)
    assert networks.denoiser is not None
    groups = [("contiguous", size) for size in sizes]
    groups += [("channels_last", size) for size in sizes[-1:] if name == "sd-1.5"]
    for place, (layout, size) in enumerate(groups):
        networks.denoiser.to(memory_format=getattr(torch, "contiguous_format" if layout == "contiguous" else layout))
        draws = ShapeDraws(shape, batch_of(networks, size), scale.config.guidance)
        key = f"batch {size}" if layout == "contiguous" else f"{layout}, batch {size}"
        rows, ways = found.setdefault(key, {}), WAYS if layout == "contiguous" else (UNGUIDED, TINY)
        left = until - time.monotonic()  # half of it for this group, all of it for the last
        share = left if place + 1 == len(groups) else left / 2
        time_in_turns(rows, draws.ways(ways), size, scale, time.monotonic() + share)
        draws.describe(rows, pieces, scale.num_steps)
        if layout == "contiguous":
            found[f"milliseconds of a guided step, batch {size}"] = guided_step(draws, scale.device)


def compiled(scale: Scale, found: Found, until: float) -> None:
    """SD 1.5 with its denoiser compiled; the first draw, whose seconds are recorded, compiles."""
    shape, size = scale.shapes["sd-1.5"], scale.compiled_size
    networks = random_networks(shape, scale)
    assert networks.denoiser is not None
    networks.denoiser.compile(backend=scale.compiler)
    draws = ShapeDraws(shape, batch_of(networks, size), scale.config.guidance)
    rows = found.setdefault(f"batch {size}", {})
    rows["compile_seconds"] = time_once(partial(draws.draw, UNGUIDED, scale.num_warm_up_steps))[0]
    time_in_turns(rows, draws.ways((UNGUIDED, TINY)), size, scale, until)


def random_networks(shape: Shape, scale: Scale) -> Networks:
    """The shape in bfloat16, initialized on the device: on a CPU SDXL's weights alone would take a minute."""
    return shape_networks(shape, scale.device, torch.bfloat16, new_teacher(scale, scale.device))


def batch_of(networks: Networks, size: int) -> Networks:
    """The same networks with noise for ``size`` images."""
    shape = (size, *networks.noise.shape[1:])
    return replace(networks, noise=torch.randn(shape, device=networks.noise.device))


@dataclass
class ShapeDraws:
    """Ways of drawing one batch with random weights, through the hook that guides in production.

    Attributes:
        shape, networks: what draws; the networks' noise sets the size of the batch.
        config: guidance, as used.
        last: of each way, the guidance of its last draw and whether the images were finite.
    """

    shape: Shape
    networks: Networks
    config: GuidanceConfig
    last: dict[str, tuple[EnergyGuidance | None, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.contented = copy.deepcopy(self.networks.teacher)  # finds every image in order, being sure of class 0
        with torch.no_grad():
            self.contented.head.bias[0] += 1e4

    def ways(self, names: Sequence[str]) -> Draws:
        """Functions of the number of steps, by name."""
        return {name: partial(self.draw, name) for name in names}

    def draw(self, way: str, num_steps: int) -> Tensor:
        """Images (batch, 3, height, width) in [0, 1]."""
        scheduler, edit = self.shape.new_scheduler(), self.edit(way)
        scheduler.set_timesteps(num_steps)
        latents = denoise(self.networks, scheduler, edit)
        with torch.no_grad():
            images = self.networks.decoders["full"](latents)
        self.last[way] = edit, bool(images.isfinite().all())
        return images

    def edit(self, way: str) -> EnergyGuidance | None:
        """The guidance: every image takes every gradient, or, with the contented teacher, none does."""
        if way == UNGUIDED:
            return None
        networks, count = self.networks, self.networks.teacher.num_classes
        teacher = self.contented if way == CHECK else networks.teacher
        decode = networks.decoders["full" if way == FULL else "tiny"]
        labels = torch.zeros(len(networks.noise), dtype=torch.long, device=networks.noise.device)
        targets = Calibration(energy_target=[0.0] * count, energy_all=0.0, g_floor=0.0, per_class_count=[0] * count)
        return EnergyGuidance(teacher, decode, labels, targets, replace(self.config, skip_satisfied=way == CHECK))

    def describe(self, rows: Found, pieces: Pieces, num_steps: int) -> None:
        """Add the ratio in FLOPs, the share of gradients taken, and whether the images were finite."""
        for way, (edit, finite) in self.last.items():
            row = rows[way]
            row["finite"], row["flops_ratio"], row["guided_steps"], row["guided_share"] = finite, 1.0, 0, 0.0
            if edit is not None and edit.num_edits is not None:
                guided_steps = band_steps(self.shape.new_scheduler(), num_steps, self.config)
                share = float(edit.num_edits.sum()) / (len(edit.labels) * max(edit.num_band_steps, 1))
                decoder = "full" if way == FULL else "tiny"
                flops = pieces.guided("x0", decoder, num_steps, guided_steps, self.config.num_views, share)
                row["flops_ratio"] = flops / pieces.unguided(num_steps)
                row["guided_steps"], row["guided_share"] = guided_steps, share


def guided_step(draws: ShapeDraws, device: torch.device) -> dict[str, float]:
    """Milliseconds of one step's edit (a decoding, ``num_views`` views and the way back), and of its parts."""
    networks, edit = draws.networks, draws.edit(TINY)
    assert edit is not None
    x0, decode, teacher = networks.noise, networks.decoders["tiny"], networks.teacher
    with torch.no_grad():
        images = decode(x0)
        generator = torch.Generator(device).manual_seed(0)
        works: dict[str, Callable[[], object]] = {
            "edit": lambda: edit(x0, X0Map(1.0, -1.0, 0.0)),
            "decoder": lambda: decode(x0),
            "view": lambda: random_views(images, shared=True, generator=generator),
            "teacher": lambda: teacher(images),
        }
        return {name: 1000 * median([time_once(work)[0] for _ in range(4)][1:]) for name, work in works.items()}
