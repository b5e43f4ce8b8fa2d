"""How much is measured and on which device: everything in its true size on a GPU, or in miniature on a CPU."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from benchmarks.cost.shapes import SHAPES, Shape
from benchmarks.embedded import SUBSET
from benchmarks.on_gpu.workers import open_embedded, open_stand_ins
from benchmarks.publish import ROOT
from prismkd.classifiers import Classifier
from prismkd.classifiers.networks import new_network
from prismkd.config import Config, GeneratorConfig, GuidanceConfig
from prismkd.errors import UserError
from prismkd.shards import Folder
from prismkd.synthesis.workers.pool import Open

Found = dict[str, Any]  # what a part has found so far; it goes into the results however the part ends


@dataclass(frozen=True)
class Scale:
    """How much is measured, and on which device.

    Attributes:
        device: where everything computes.
        config: of the embedded generator.
        shapes, batch_sizes: what is drawn with random weights, and how many images together.
        teacher, num_classes, image_size: of the classifier with random weights that guides and teaches.
        student, distill_batches: the student and the batch sizes that it learns from.
        open_workers: of a folder: opens worker processes, where their shards go, how many, and images in each.
        dtypes: in which the embedded generator is checked.
        tests: where tests that need a GPU are looked for.
        num_steps, num_warm_up_steps: of the schedule, timed and before that.
        num_rounds: timed turns.
        num_checked: images of the embedded generator.
        num_training_images, distill_steps: of the student; a quarter as many steps come before, untimed.
        compiled_size: of the batch of SD 1.5 that is drawn with a compiled denoiser, too.
        compiler: of the denoiser.
    """

    device: torch.device
    config: Config
    shapes: dict[str, Shape]
    batch_sizes: dict[str, tuple[int, ...]]
    teacher: str
    num_classes: int
    image_size: int
    student: str
    distill_batches: tuple[int, ...]
    open_workers: Callable[[Path], tuple[Open, Folder, int, int]]
    dtypes: tuple[str, ...]
    tests: Path
    num_steps: int
    num_warm_up_steps: int
    num_rounds: int
    num_checked: int
    num_training_images: int
    distill_steps: int
    compiled_size: int
    compiler: str


def full_scale() -> Scale:
    """Everything in its true size.

    Raises:
        UserError: there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise UserError("expected a CUDA device, got none; --tiny runs everything in miniature on the CPU")
    config = replace(SUBSET, generator=GeneratorConfig(device="cuda"))
    sizes: dict[str, tuple[int, ...]] = {"sd-1.5": (1, 8), "sdxl": (1, 4), "dit-xl": (1, 8)}
    return Scale(
        torch.device("cuda"), config, SHAPES, sizes, "resnet50", 1000, 224, "resnet18", (128, 256),
        partial(open_embedded, config), ("auto",), ROOT / "tests", num_steps=20, num_warm_up_steps=4,
        num_rounds=3, num_checked=96, num_training_images=1024, distill_steps=40, compiled_size=8,
        compiler="inductor",
    )  # fmt: skip


def tiny_scale() -> Scale:
    """Everything in miniature, on the CPU; stand-ins for the workers' images, and no compiler."""
    config = replace(SUBSET, generator=GeneratorConfig(device="cpu", num_inference_steps=3, batch_size=2),
                     guidance=GuidanceConfig(num_calibration_images=4, num_views=1))  # fmt: skip
    shapes = {name: tiny_shape(shape) for name, shape in SHAPES.items()}
    sizes = {"sd-1.5": (1, 2), "sdxl": (1,), "dit-xl": (1,)}
    return Scale(
        torch.device("cpu"), config, shapes, sizes, "small-resnet-8", 5, 32, "small-resnet-8", (2,),
        open_stand_ins, ("auto",), ROOT / "benchmarks", num_steps=3, num_warm_up_steps=3, num_rounds=1,
        num_checked=4, num_training_images=8, distill_steps=2, compiled_size=2, compiler="eager",
    )  # fmt: skip


def tiny_shape(shape: Shape) -> Shape:
    """A small network under another's scheduler."""
    blocks = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
              "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}  # fmt: skip
    return replace(
        shape, title="tiny", latent_shape=(4, 4, 4), conditions={"encoder_hidden_states": (3, 8)},
        new_denoiser=lambda: UNet2DConditionModel(
            sample_size=4, cross_attention_dim=8, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
            attention_head_dim=2, **blocks),
        decoder_widths=(32, 32, 32, 32),
    )  # fmt: skip


def new_teacher(scale: Scale, device: torch.device) -> Classifier:
    """A classifier with random weights, in float32 as guidance has it."""
    config = {"num_classes": scale.num_classes, "in_channels": 3, "input_size": scale.image_size}
    with device:
        return Classifier(new_network(scale.teacher, scale.num_classes, 3), config).eval().requires_grad_(False)


def free_memory(device: torch.device) -> bool:
    """Give back what isn't used; False where the device no longer answers, as after a kernel's illegal access."""
    gc.collect()
    if device.type == "cuda":
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except RuntimeError:
            return False
    return True
