"""What the shipped recipes will cost: images, FLOPs, GPU hours, gigabytes and dollars, computed from their files.

Usage: python -m benchmarks.costs [--price 2.5] [--configs FILE.toml ...]
       python -m benchmarks.costs --record && python -m benchmarks.publish

FLOPs are counted on the architectures, without weights. How fast a GPU does them is taken from what ``benchmarks.gpu``
measured (``benchmarks/results/gpu.json``). It prints a table; with --record it writes ``results/costs.json`` beside it.
"""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from benchmarks.cost.flops import Cost, Pieces, count_cost, count_flops
from benchmarks.cost.more_shapes import HUB_MODELS, HubModel
from benchmarks.cost.rows import band_steps
from benchmarks.cost.shapes import SHAPES, shape_networks
from benchmarks.publish import RESULTS, ROOT, write_results
from benchmarks.tables import costs_table
from prismkd.classifiers import Classifier
from prismkd.classifiers.networks import new_network
from prismkd.classifiers.preprocessing import from_timm, from_torchvision
from prismkd.classifiers.views import random_views
from prismkd.commands.preview import preview
from prismkd.config import METHODS, Config
from prismkd.config.load import load_config
from prismkd.distillation.world import STORED_OVER_SEEN
from prismkd.errors import UserError
from prismkd.generators.decoders import TINY_DECODERS
from prismkd.generators.load import other_scheduler

CONFIGS = tuple(
    sorted(path for room in ("datasets", "generators") for path in (ROOT / "configs" / room).glob("*.toml"))
)
PEAK_TFLOPS = 989.4  # of an H100 SXM and an H200 alike, bfloat16 without sparsity (NVIDIA's data sheets)
META = torch.device("meta")
UNGUIDED, GUIDED = "unguided", {"tiny": "x0, tiny decoder", "full": "x0, full decoder"}  # rows of gpu.json
PHOTO_SIDE = 512


@dataclass(frozen=True)
class CostsSettings:
    """What recipes will cost, one row each; images per second, hours and dollars are of one H100."""

    configs: tuple[Path, ...] = CONFIGS
    """Configurations whose generator is one of the shipped recipes'."""
    price: float = 2.5
    """Dollars for an hour of a GPU."""
    photographs: Path | None = None
    """Folder of photographs whose size as files is measured; else the recorded size counts."""
    record: bool = False
    """Store the rows in benchmarks/results, where the docs take them from."""


# --- what a recipe asks for: counted -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """What one method and seed of a recipe asks for.

    Attributes:
        recipe, generator, measured_as: the file's place in configs, and what draws.
        images, probes: of a method, and those beside them that the last method, the guided one, has drawn before.
        steps, guided_steps: per image.
        decoder: that guidance goes through, tiny or full.
        unguided_tflops, guidance_tflops: per image; guidance in the worst case, where every image takes every gradient.
        student, training_images, training_gflops: the network, the images that it sees, and what one of them costs.
        pixels, image_format, cached_pixels: of an image as it is drawn, and as the student's cache has it.
    """

    recipe: str
    generator: str
    measured_as: str
    images: int
    probes: int
    steps: int
    guided_steps: int
    decoder: str
    unguided_tflops: float
    guidance_tflops: float
    student: str
    training_images: int
    training_gflops: float
    pixels: int
    image_format: str
    cached_pixels: int


def count_work(path: Path) -> Work:
    """Count a recipe's work, without weights.

    Raises:
        UserError: the file is wrong, or its generator or teacher isn't one whose architecture is known here.
    """
    config = load_config(path)
    model, (teacher, side) = hub_model(config), teacher_network(config.teacher)
    found, method = preview(config, 0), METHODS[config.methods[-1]]
    asked_before = found.cost.sense_probes + found.cost.content_probes if method.diversified else 0
    decoder = "tiny" if model.pipeline in TINY_DECODERS and config.generator.tiny_decoder != "none" else "full"
    pieces = pieces_of(model, config.teacher, decoder)
    steps, num_guided = config.generator.num_inference_steps, guided_steps(config, model) if method.guided else 0
    guided = pieces.guided("x0", decoder, steps, num_guided, config.guidance.num_views, share=1.0)
    return Work(
        recipe=path.relative_to(ROOT / "configs").as_posix() if path.is_relative_to(ROOT) else path.name,
        generator=model.shape.title, measured_as=model.measured_as,
        images=found.cost.images, probes=asked_before + (config.guidance.num_calibration_images if num_guided else 0),
        steps=steps, guided_steps=num_guided, decoder=decoder, unguided_tflops=pieces.unguided(steps) / 1e12,
        guidance_tflops=(guided - pieces.unguided(steps)) / 1e12,
        student=config.distillation.architecture.removeprefix("timm:"),
        training_images=config.distillation.num_steps * config.distillation.batch_size,
        training_gflops=training_flops(config, len(found.plan.subjects), teacher, side) / 1e9,
        pixels=model.image_size**2,
        cached_pixels=round(side * STORED_OVER_SEEN) ** 2,
        image_format=f"{config.synthesis.image_format} {config.synthesis.image_quality}",
    )  # fmt: skip


def hub_model(config: Config) -> HubModel:
    """The generator's architecture.

    Raises:
        UserError: it isn't known here, or not at this size.
    """
    model, size = HUB_MODELS.get(config.generator.source), config.generator.image_size
    if model is None or size not in (0, model.image_size):
        known = ", ".join(f"{name} at {known.image_size}" for name, known in HUB_MODELS.items())
        raise UserError(f"expected a generator among {known}, got {config.generator.source} at {size}; choose of these")
    return model


def guided_steps(config: Config, model: HubModel) -> int:
    """How many steps of the schedule have a gradient."""
    scheduler = model.shape.new_scheduler()
    if config.generator.scheduler:
        scheduler = other_scheduler(scheduler, config.generator.scheduler)
    in_band = band_steps(scheduler, config.generator.num_inference_steps, config.guidance)
    return math.ceil(in_band / config.guidance.every)


def pieces_of(model: HubModel, teacher: str, decoder: str) -> Pieces:
    """FLOPs of a generator, and of the teacher on one of its images; guidance goes through ``decoder`` alone."""
    view, look = teacher_pieces(teacher, model.image_size)
    return replace(generator_pieces(model.shape.title, decoder), view=view, teacher=look)


@cache
def generator_pieces(title: str, decoder: str = "tiny") -> Pieces:
    """FLOPs of the shape of this title without a teacher; no way back but through ``decoder`` is counted."""
    shapes = {shape.title: shape for shape in [*SHAPES.values(), *[model.shape for model in HUB_MODELS.values()]]}
    networks = shape_networks(shapes[title], META, teacher=Classifier(nn.Identity(), {"num_classes": 1}))
    noise, decoders = networks.noise, networks.decoders
    drawn = Cost(count_flops(lambda: decoders["full"](noise)), 0)
    return Pieces(
        denoise=Cost(count_flops(lambda: networks.predict(noise, 500.0)), 0),
        decoders={"full": drawn, decoder: count_cost(decoders[decoder], noise)}, view=Cost(0, 0), teacher=0,
    )  # fmt: skip


@cache
def teacher_pieces(source: str, image_size: int) -> tuple[Cost, int]:
    """FLOPs of a teacher on a view of an image, and on the image itself, forward only."""
    network, side = teacher_network(source)
    classifier = Classifier(network, {"num_classes": 1000, "in_channels": 3, "input_size": side})
    classifier = classifier.eval().requires_grad_(False)
    images = torch.empty(1, 3, image_size, image_size, device=META)
    view = count_cost(lambda x: classifier(random_views(x, shared=True)), images)
    return view, count_flops(lambda: classifier(images))


@cache
def teacher_network(source: str) -> tuple[nn.Module, int]:
    """A teacher's architecture without weights, and pixels per side of its input.

    Raises:
        UserError: it isn't a model of timm or torchvision by name.
    """
    library, _, name = source.partition(":")
    name = name.partition("@")[0]
    with META:
        if library == "timm":
            network: Any = timm.create_model(name)
            return network, int((from_timm(network.pretrained_cfg).size or (0,))[0])
        if library == "torchvision":
            transform = models.get_model_weights(name).DEFAULT.transforms()
            return models.get_model(name), int((from_torchvision(transform).size or (0,))[0])
    raise UserError(f"expected a teacher timm:NAME@FILE or torchvision:NAME, got {source}; only these are known here")


def training_flops(config: Config, num_classes: int, teacher: nn.Module, side: int) -> float:
    """Of one image: the student's forward pass and its way back to the weights, and the teacher's forward pass."""
    with META:
        student = new_network(config.distillation.architecture, num_classes, 3).train()
        images = torch.empty(2, 3, side, side)  # one alone has no batch statistics
    with FlopCounterMode(display=False) as counter:
        student(images).sum().backward()
    return (counter.get_total_flops() + count_flops(lambda: teacher.eval()(images))) / len(images)


# --- how fast a GPU does it: measured ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Rates:
    """TFLOP per second that ``benchmarks.gpu`` reached, in its largest batch.

    Attributes:
        sampling: by shape.
        guidance: by shape and decoder, what guided drawing does beside unguided drawing.
        training: of a student of ResNet-18's kind.
        hardware: on which.
    """

    sampling: dict[str, float]
    guidance: dict[str, dict[str, float]]
    training: float
    hardware: str

    def of(self, work: Work) -> tuple[float, float]:
        """Of sampling and guidance: the shape's own, else the best, as of a batch that keeps the GPU busy."""
        shape = work.measured_as or max(self.sampling, key=lambda name: self.sampling[name])
        return self.sampling[shape], self.guidance[shape][work.decoder]


def measured_rates(data: dict[str, Any]) -> Rates:
    """The rates in the results of ``benchmarks.gpu``, whose teacher is a ResNet-50 and whose student a ResNet-18."""
    sampling, guidance = {}, {}
    for name, shape in SHAPES.items():
        rows = largest_batch(data["parts"][name])
        tflops, seconds = (
            generator_pieces(shape.title).unguided(data["steps"]) / 1e12,
            rows[UNGUIDED]["seconds_per_image"],
        )
        sampling[name] = tflops / seconds
        guidance[name] = {
            decoder: tflops * (rows[way]["flops_ratio"] - 1) / (rows[way]["seconds_per_image"] - seconds)
            for decoder, way in GUIDED.items()
        }
    loop = largest_batch(data["parts"]["distillation"])["images_per_second"]["loop"]
    resnet18 = replace(Config().distillation, architecture="resnet18")
    gflops = training_flops(replace(Config(), distillation=resnet18), 1000, *teacher_network("timm:resnet50")) / 1e9
    return Rates(sampling, guidance, loop * gflops / 1000, data["hardware"])


def largest_batch(part: dict[str, Any]) -> dict[str, Any]:
    """The row of a part with the largest batch, in the usual memory format."""
    names = [name for name in part if name.startswith("batch ")]
    return part[max(names, key=lambda name: int(name.split()[1]))]


def bytes_per_pixel(folder: Path, image_formats: set[str]) -> dict[str, float]:
    """Of photographs that are scaled and cut to the size at which generators draw, by format and quality.

    Raises:
        UserError: there are none in the folder.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg", ".png", ".webp"))
    if not paths:
        raise UserError(f"expected photographs in {folder}, got none; name a folder with some")
    sizes: dict[str, list[int]] = {name: [] for name in sorted(image_formats)}
    for path in paths:
        picture = Image.open(path).convert("RGB")
        scale = PHOTO_SIDE / min(picture.size)
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC
        )
        picture = picture.crop((0, 0, PHOTO_SIDE, PHOTO_SIDE))
        for name, found in sizes.items():
            kind, quality = name.split()
            stored = io.BytesIO()
            picture.save(stored, kind, quality=int(quality))
            found.append(stored.tell())
    return {name: sum(found) / len(found) / PHOTO_SIDE**2 for name, found in sizes.items()}


# --- what it comes to --------------------------------------------------------------------------------------------


def cost_row(work: Work, rates: Rates, pixel_bytes: dict[str, float], price: float) -> dict[str, Any]:
    """A row of the table: the work, and seconds, hours, gigabytes and dollars of it on one GPU."""
    sampling, guidance = rates.of(work)
    unguided = work.unguided_tflops / sampling
    guided = unguided + work.guidance_tflops / guidance
    plain_hours = work.images * unguided / 3600
    guided_hours = (work.images * guided + work.probes * unguided) / 3600
    training_hours = work.training_images * work.training_gflops / 1000 / rates.training / 3600
    return asdict(work) | {
        "images_per_second": {"plain": 1 / unguided, "guided": 1 / guided},
        "drawing_hours": {"plain": plain_hours, "guided": guided_hours},
        "training_hours": training_hours,
        "gigabytes": {"images": work.images * work.pixels * pixel_bytes[work.image_format] / 1e9,
                      "cache": work.images * work.cached_pixels * 3 / 1e9},
        "dollars": {"plain": (plain_hours + training_hours) * price, "guided": (guided_hours + training_hours) * price},
    }  # fmt: skip


def compute(settings: CostsSettings, note: Callable[[str], None]) -> dict[str, Any]:
    """Everything that is recorded; ``note`` gets lines of progress."""
    works = []
    for path in settings.configs:
        note(f"counting {path.stem}")
        works.append(count_work(path))
    rates = measured_rates(json.loads((RESULTS / "gpu.json").read_text()))
    if settings.photographs is not None:
        pixel_bytes = bytes_per_pixel(settings.photographs, {work.image_format for work in works})
    else:
        pixel_bytes = json.loads((RESULTS / "costs.json").read_text())["bytes_per_pixel"]
    rows = [cost_row(work, rates, pixel_bytes, settings.price) for work in works]
    return {"rates": asdict(rates), "peak_tflops": PEAK_TFLOPS, "bytes_per_pixel": pixel_bytes,
            "price": settings.price, "rows": rows}  # fmt: skip


def main(arguments: list[str]) -> None:
    """Count, compute and print, as the command line says.

    Raises:
        UserError: a file or a setting is wrong.
    """
    import tyro

    settings = tyro.cli(CostsSettings, args=arguments, prog="python -m benchmarks.costs")
    found = compute(settings, lambda text: print(text, file=sys.stderr, flush=True))
    if settings.record:
        write_results("costs", "python -m benchmarks.costs --record", [], found)
    print(costs_table(found))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
