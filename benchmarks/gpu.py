"""What prismkd costs on one GPU, and whether its images are right there: one command that ends by itself.

Usage: python -m benchmarks.gpu [--minutes 5] [--out FILE] [--part sd-1.5 sdxl ...] [--tiny]

Nothing is downloaded: Stable Diffusion 1.5, SDXL and DiT-XL are drawn with random weights in their true shapes, the
embedded generator with its own. Every part has the seconds that it needs at least and those that it gets at most; one
for which too few are left is skipped with the reason. The results are written after each part, so that none is lost.
All times are taken in turns within one process, and each is recorded beside the medians.
"""

from __future__ import annotations

import copy
import gc
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from benchmarks.cost.flops import Pieces, count_pieces
from benchmarks.cost.rows import band_steps
from benchmarks.cost.seconds import denoise, time_once
from benchmarks.cost.shapes import SHAPES, Networks, Shape, shape_networks
from benchmarks.embedded import embedded_session
from benchmarks.publish import RESULTS, ROOT, head_commit
from benchmarks.stand_in import OpenStandIns, prepared
from prismkd import Session, __version__
from prismkd.classifiers import Classifier
from prismkd.classifiers.networks import new_network
from prismkd.classifiers.views import random_views
from prismkd.config import Config, DistillationConfig, GeneratorConfig, GuidanceConfig, SynthesisConfig
from prismkd.distillation import TrainingSet, new_student, train
from prismkd.distillation.losses import distillation_loss
from prismkd.distillation.training_set import to_float
from prismkd.distillation.world import World
from prismkd.errors import UserError
from prismkd.guidance import Calibration, EnergyGuidance, X0Map
from prismkd.guidance.energy import free_energy
from prismkd.prompts import Prompt
from prismkd.shards import Folder, drop_shard, scan
from prismkd.synthesis.synthesizer import Synthesizer, quantized
from prismkd.synthesis.workers.pool import Open
from prismkd.synthesis.workers.process import ProcessWorker

Found = dict[str, Any]  # what a part has found so far; it goes into the results however the part ends
Draws = dict[str, Callable[[int], object]]  # ways of drawing, each a function of the number of steps
UNGUIDED, TINY, FULL, CHECK = "unguided", "x0, tiny decoder", "x0, full decoder", "check only"
WAYS = (UNGUIDED, TINY, FULL, CHECK)
PACKAGES = ("torchvision", "diffusers", "transformers", "accelerate", "timm", "numpy", "triton")
META = torch.device("meta")


@dataclass(frozen=True)
class GpuBench:
    """Guided drawing, distillation, two workers and correctness on one GPU, within a given time."""

    minutes: float = 5.0
    """When everything has ended, the imports apart."""
    out: Path = RESULTS / "gpu.json"
    """Where the results go."""
    part: tuple[str, ...] = ()
    """Only these parts; their results replace those that are in the file. Empty: all, and a new file."""
    tiny: bool = False
    """Everything in miniature on the CPU, to see that it runs."""


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
        compiled_sizes: of batches of SD 1.5 that are drawn with a compiled denoiser, too.
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
    compiled_sizes: tuple[int, ...]
    compiler: str


def full_scale() -> Scale:
    """Everything in its true size.

    Raises:
        UserError: there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise UserError("expected a CUDA device, got none; --tiny runs everything in miniature on the CPU")
    config = Config(generator=GeneratorConfig(device="cuda"))
    sizes = {"sd-1.5": (1, 8), "sdxl": (1,), "dit-xl": (1, 8)}
    return Scale(
        torch.device("cuda"), config, SHAPES, sizes, "resnet50", 1000, 224, "resnet18", (128, 256),
        partial(open_embedded, config), ("auto", "float32"), ROOT / "tests", num_steps=20, num_warm_up_steps=4,
        num_rounds=3, num_checked=96, num_training_images=1024, distill_steps=40, compiled_sizes=(1, 8),
        compiler="inductor",
    )  # fmt: skip


def tiny_scale() -> Scale:
    """Everything in miniature, on the CPU; stand-ins for the workers' images, and no compiler."""
    config = Config(generator=GeneratorConfig(device="cpu", num_inference_steps=3, batch_size=2),
                    guidance=GuidanceConfig(num_calibration_images=4, num_views=1))  # fmt: skip
    shapes = {name: tiny_shape(shape) for name, shape in SHAPES.items()}
    sizes = {"sd-1.5": (1, 2), "sdxl": (1,), "dit-xl": (1,)}
    return Scale(
        torch.device("cpu"), config, shapes, sizes, "small-resnet-8", 5, 32, "small-resnet-8", (2,),
        open_stand_ins, ("auto",), ROOT / "benchmarks", num_steps=3, num_warm_up_steps=3, num_rounds=1,
        num_checked=4, num_training_images=8, distill_steps=2, compiled_sizes=(2,), compiler="eager",
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


# --- drawing with random weights ---------------------------------------------------------------------------------


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
    groups += [("channels_last", size) for size in sizes if name == "sd-1.5"]
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
    """SD 1.5 with its denoiser compiled; the first draw of each size, whose seconds are recorded, compiles."""
    shape = scale.shapes["sd-1.5"]
    networks = random_networks(shape, scale)
    assert networks.denoiser is not None
    networks.denoiser.compile(backend=scale.compiler)
    for size in scale.compiled_sizes:
        rows = found.setdefault(f"batch {size}", {})
        draws = ShapeDraws(shape, batch_of(networks, size), scale.config.guidance)
        rows["compile_seconds"] = seconds = time_once(partial(draws.draw, UNGUIDED, scale.num_warm_up_steps))[0]
        time_in_turns(rows, draws.ways((UNGUIDED, TINY)), size, scale, until)
        if time.monotonic() + 1.5 * seconds > until:  # another size compiles anew, then for any size
            found["other sizes"] = f"skipped after {seconds:.0f} s of compiling"
            return


def new_teacher(scale: Scale, device: torch.device) -> Classifier:
    """A classifier with random weights, in float32 as guidance has it."""
    config = {"num_classes": scale.num_classes, "in_channels": 3, "input_size": scale.image_size}
    with device:
        return Classifier(new_network(scale.teacher, scale.num_classes, 3), config).eval().requires_grad_(False)


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
    """Milliseconds of one step's edit, which has one decoding, ``num_views`` views and the way back, and of its parts.

    A view's noise is as large as the image; a generator on the CPU, as guidance has, draws it there.
    """
    networks, edit = draws.networks, draws.edit(TINY)
    assert edit is not None
    x0, decode, teacher = networks.noise, networks.decoders["tiny"], networks.teacher
    with torch.no_grad():
        images = decode(x0)
        on_cpu, on_device = torch.Generator().manual_seed(0), torch.Generator(device).manual_seed(0)
        works: dict[str, Callable[[], object]] = {
            "edit": lambda: edit(x0, X0Map(1.0, -1.0, 0.0)),
            "decoder": lambda: decode(x0),
            "view": lambda: random_views(images, shared=True, generator=on_cpu),
            "view with a generator on the device": lambda: random_views(images, shared=True, generator=on_device),
            "teacher": lambda: teacher(images),
        }
        return {name: 1000 * median([time_once(work)[0] for _ in range(4)][1:]) for name, work in works.items()}


def time_in_turns(rows: Found, draws: Draws, num_images: int, scale: Scale, until: float) -> None:
    """Time every way of drawing once per round, in alternating order, after a shorter round that isn't timed.

    What fails is recorded and left out. There is one timed round at least, and none that would end after ``until``.
    """
    for name in draws:
        rows[name] = {"all_seconds": []}
    try:
        for turn in range(scale.num_rounds + 1):
            start = time.monotonic()
            for name in list(draws) if turn % 2 else list(draws)[::-1]:
                if "error" not in rows[name]:
                    _take_turn(rows[name], draws[name], turn, scale)
            now = time.monotonic()
            if turn and now + (now - start) > until:
                break
    finally:
        _summarize(rows, list(draws), num_images)


def _take_turn(row: Found, draw: Callable[[int], object], turn: int, scale: Scale) -> None:
    work = partial(draw, scale.num_steps if turn else scale.num_warm_up_steps)
    try:
        seconds, memory = time_once(work)
    except Exception as error:  # memory that runs out, or a compiler's own errors: the other ways go on
        row["error"] = f"{type(error).__name__}: {error}"[:2000]
        row["traceback"] = traceback.format_exc()[-4000:]
    else:
        if turn:
            row["all_seconds"].append(seconds)
            row["memory_gib"] = memory
        else:
            row["warm_up_seconds"] = seconds
    if "error" in row:
        free_memory(scale.device)  # out of the handler, whose traceback holds the tensors


def _summarize(rows: Found, names: Sequence[str], num_images: int) -> None:
    base = rows.get(UNGUIDED, {}).get("all_seconds", [])
    for row in (rows[name] for name in names if rows[name]["all_seconds"]):
        row["seconds_per_image"] = median(row["all_seconds"]) / num_images
        row["images_per_second"] = 1 / row["seconds_per_image"]
        if base:  # a stopped round may have fewer
            row["seconds_ratio"] = median(own / other for own, other in zip(row["all_seconds"], base, strict=False))


# --- distillation ------------------------------------------------------------------------------------------------


def distillation(scale: Scale, found: Found, until: float) -> None:
    """The loop's images per second, images as bytes in memory, beside a bare loop of the same forward and backward.

    The bare loop's views are on the device beforehand, so the loop pays for loading, sending and augmenting as well.
    Both are timed without their start, and the loop without its end, where it keeps a checkpoint.
    """
    device, teacher = scale.device, new_teacher(scale, scale.device)
    world = World.of(DistillationConfig(), teacher)
    side = world.stored_side or scale.image_size  # as they lie in a cache
    images = torch.randint(0, 256, (scale.num_training_images, 3, side, side), dtype=torch.uint8)
    data = TrainingSet(images)
    for size in scale.distill_batches:
        row = found.setdefault(f"batch {size}", {"bare": [], "loop": []})
        recipe = DistillationConfig(architecture=scale.student, batch_size=size, mixed_precision="bf16",
                                    num_steps=scale.distill_steps + _num_untimed(scale))  # fmt: skip
        starts = range(0, len(images), size)[:4]  # more would show the networks nothing that these don't
        views = [device_views(world, images[start : start + size], device) for start in starts]
        row["milliseconds of a batch"] = batch_pieces(world, data, size, device)
        for _ in range(scale.num_rounds):
            start = time.monotonic()
            row["bare"].append(bare_speed(teacher, views, recipe, scale))
            row["loop"].append(loop_speed(teacher, data, recipe, scale, row))
            row["images_per_second"] = {name: median(row[name]) for name in ("bare", "loop")}
            row["share_of_bare"] = median(ours / bare for ours, bare in zip(row["loop"], row["bare"], strict=True))
            if time.monotonic() + (time.monotonic() - start) > until:
                break


def _num_untimed(scale: Scale) -> int:
    return max(1, scale.distill_steps // 4)


def device_views(world: World, images: Tensor, device: torch.device) -> Tensor:
    """Augmented views (batch, channels, height, width) of bytes, as the loop makes them."""
    views = world.views(to_float(images.to(device)), torch.Generator(device).manual_seed(0))
    return views.contiguous(memory_format=torch.channels_last)


def batch_pieces(world: World, data: TrainingSet, size: int, device: torch.device) -> dict[str, float]:
    """Milliseconds of what the loop does with a batch before the networks see it."""
    places = torch.arange(size) % len(data)
    batch = next(data.batches([places]))
    sent = batch.to(device)
    works: dict[str, Callable[[], object]] = {
        "gathering": lambda: next(data.batches([places])),
        "sending": lambda: batch.to(device, non_blocking=True),
        "views": lambda: device_views(world, sent, device),
    }
    return {name: 1000 * median([time_once(work)[0] for _ in range(4)][1:]) for name, work in works.items()}


def bare_speed(teacher: Classifier, views: list[Tensor], recipe: DistillationConfig, scale: Scale) -> float:
    """Images per second of forward, backward and the optimizer's step alone, in the loop's precision and format."""
    device, untimed = scale.device, _num_untimed(scale)
    teacher = copy.deepcopy(teacher).to(memory_format=torch.channels_last)
    student = _student(recipe, scale).to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    marks = []
    for step in range(recipe.num_steps):
        if step == untimed:
            marks.append(now_on(device))
        batch = views[step % len(views)]
        with torch.autocast(device.type, torch.bfloat16):
            student_logits = student(batch)
            with torch.no_grad():
                teacher_logits = teacher(batch)
        loss = distillation_loss(student_logits.float(), teacher_logits.float(), recipe.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return recipe.batch_size * (recipe.num_steps - untimed) / (now_on(device) - marks[0])


def loop_speed(teacher: Classifier, data: TrainingSet, recipe: DistillationConfig, scale: Scale, row: Found) -> float:
    """Images per second of the loop between two of its steps; the seconds of all of it and its memory go to ``row``."""
    untimed, marks, done = _num_untimed(scale), list[float](), 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        if done in (untimed, recipe.num_steps):
            marks.append(now_on(scale.device))

    with tempfile.TemporaryDirectory() as folder:
        checkpoint, student = Path(folder) / "checkpoint.pt", _student(recipe, scale)
        row["whole_seconds"], row["memory_gib"] = time_once(
            lambda: train(student, teacher, data, recipe, 0, checkpoint, progress)
        )
    first, last = marks
    return recipe.batch_size * (recipe.num_steps - untimed) / (last - first)


def _student(recipe: DistillationConfig, scale: Scale) -> nn.Module:
    return new_student(recipe, scale.num_classes, 3, seed=0)


def now_on(device: torch.device) -> float:
    """The time once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


# --- two workers -------------------------------------------------------------------------------------------------


def workers(scale: Scale, found: Found, until: float) -> None:
    """Two worker processes on the device over one, and whether all draw the same bytes of the same shards."""
    with tempfile.TemporaryDirectory() as folder:
        opened, images, num_shards, shard_size = scale.open_workers(Path(folder))
        shards, speeds, drawn = range(num_shards), dict[str, list[float]](), dict[str, dict[int, str]]()
        start = time.monotonic()
        pair = [ProcessWorker(opened, str(scale.device)) for _ in range(2)]
        try:
            draw_shards(pair, shards[:2], images)  # opens the models of both
            found |= {"start_seconds": time.monotonic() - start, "shards": num_shards, "shard_size": shard_size}
            for _ in range(scale.num_rounds):
                start = time.monotonic()
                for name, those in {"first": pair[:1], "second": pair[1:], "both": pair}.items():
                    seconds = draw_shards(those, shards, images)
                    speeds.setdefault(name, []).append(num_shards * shard_size / seconds)
                    drawn[name] = digests(images)
                found |= compare_workers(speeds, drawn)
                if time.monotonic() + (time.monotonic() - start) > until:
                    break
        finally:
            for worker in pair:
                worker.stop()


def compare_workers(speeds: dict[str, list[float]], drawn: dict[str, dict[int, str]]) -> Found:
    """Two workers over the faster one alone, and how many shards differ from the first one's."""
    speed = {name: median(values) for name, values in speeds.items()}
    one, first = max(speed["first"], speed["second"]), drawn["first"]
    different = {name: sum(drawn[name][shard] != digest for shard, digest in first.items()) for name in drawn}
    return {"images_per_second": {"one": one, "two": speed["both"]}, "all_images_per_second": speeds,
            "two_over_one": speed["both"] / one, "different_shards": different,
            "same_bytes": not any(different.values())}  # fmt: skip


def draw_shards(pair: Sequence[ProcessWorker], shards: Sequence[int], images: Folder) -> float:
    """Seconds that the workers together take for the shards, which are forgotten before.

    Raises:
        RuntimeError: a worker couldn't draw one, with its reason.
    """
    for shard in shards:
        drop_shard(images, shard)
    queue, busy = deque(shards), set[int]()
    start = time.monotonic()
    while queue or busy:
        for place, worker in enumerate(pair):
            if place not in busy and queue:
                worker.begin(queue.popleft())
                busy.add(place)
            for event in worker.events():
                if event.kind == "done":
                    busy.discard(place)
                elif event.kind != "progress":
                    raise RuntimeError(f"{event.kind}: {event.text}")
        time.sleep(0.002)
    return time.monotonic() - start


def digests(images: Folder) -> dict[int, str]:
    """The sha256 of every shard's file, as its record has it."""
    return {shard: record.sha256 for shard, record in sorted(scan(images).records.items())}


def open_embedded(config: Config, folder: Path, num_shards: int = 20) -> tuple[Open, Folder, int, int]:
    """A run of the embedded generator's plain images, a batch in each shard."""
    from prismkd.progress import silent
    from prismkd.runs.drawing import claim_datasets
    from prismkd.runs.open import open_run
    from prismkd.runs.planning import write_plans
    from prismkd.runs.workers import OpenShards

    size, num_classes = config.generator.batch_size, len(embedded_session().classes)
    sizes = SynthesisConfig(images_per_class=-(-num_shards * size // num_classes), shard_size=size)
    run = open_run(replace(config, methods=("plain",), synthesis=sizes), folder / "run", "benchmark", silent)
    write_plans(run)
    claim_datasets(run)
    threads = max(1, (os.cpu_count() or 1) // 2)
    opened = OpenShards(run.directory, 0, "plain", num_threads=threads, trust=False)
    return opened, run.drawn[0].storage, num_shards, size


def open_stand_ins(folder: Path) -> tuple[Open, Folder, int, int]:
    """Workers that load nothing and draw noise."""
    return OpenStandIns(str(folder)), str(folder), len(prepared(str(folder), 16, 4)), 4


# --- is it right? ------------------------------------------------------------------------------------------------


def embedded(scale: Scale, found: Found, until: float) -> None:
    """The embedded generator on the device: what must hold of guided images does, and how fast they are drawn."""
    for dtype in scale.dtypes:
        config = replace(scale.config, generator=replace(scale.config.generator, dtype=dtype))
        session, rows = embedded_session(config=config), found.setdefault(dtype, {})
        check_images(session, scale.num_checked, rows)
        plan, size = session.plan("plain", 0), config.generator.batch_size
        batch = [plan[i] for i in range(size)]
        drawers = {name: session.synthesizer("prism" if name == "guided" else "plain") for name in (UNGUIDED, "guided")}
        draws: Draws = {name: partial(draw_embedded, drawer, batch) for name, drawer in drawers.items()}
        time_in_turns(rows.setdefault(f"batch {size}", {}), draws, size, scale, until)


def draw_embedded(drawer: Synthesizer, batch: list[Prompt], num_steps: int) -> object:
    """One batch; the steps are the generator's own."""
    return drawer.draw(batch)


def check_images(session: Session, count: int, found: Found) -> None:
    """Facts about ``count`` images; their differences are of values in [0, 1], where 1/255 is a level of 8 bits."""
    guidance, targets, plan = session.config.guidance, session.calibration, session.plan("plain", 0)
    plain, guided = session.synthesizer("plain"), session.synthesizer("prism")
    without = Synthesizer(session.generator, session.teacher, replace(guidance, strength=0.0), targets)
    prompts = [plan[i] for i in range(count)]
    drawers = {UNGUIDED: plain, "guided": guided}
    images = {name: drawer.draw_all(prompts) for name, drawer in drawers.items()}
    again = {name: drawer.draw_all(prompts) for name, drawer in drawers.items()}
    energies = {name: energies_of(plain, value) for name, value in images.items()}
    found["finite"] = all(bool(value.isfinite().all()) for value in images.values())
    found["mean_energy"] = {name: float(value.mean()) for name, value in energies.items()}
    found["guided_is_lower"] = found["mean_energy"]["guided"] < found["mean_energy"][UNGUIDED]
    found["share_lower"] = float((energies["guided"] < energies[UNGUIDED]).float().mean())
    found["strength_0_equals_unguided"] = torch.equal(without.draw_all(prompts), images[UNGUIDED])
    found["drawn_again"] = {name: difference(again[name], images[name]) for name in images}
    places = sorted({0, min(7, count - 1), count - 1})
    found["drawn_alone"] = {
        name: difference(torch.cat([drawer.draw([prompts[i]])[0] for i in places]), images[name][places])
        for name, drawer in drawers.items()
    }


@torch.no_grad()
def energies_of(drawer: Synthesizer, images: Tensor) -> Tensor:
    """The teacher's free energies (n,) of images as they are stored."""
    return free_energy(drawer.teacher_on_device(quantized(images).to(drawer.generator.device))).cpu()


def difference(images: Tensor, others: Tensor) -> Found:
    """The largest and the mean difference of two sets of images, and the share of their 8-bit values that differ."""
    apart = (images - others).abs()
    stored = quantized(images) != quantized(others)
    return {"largest": float(apart.max()), "mean": float(apart.mean()), "share_in_8_bits": float(stored.float().mean())}


def marked_tests(scale: Scale, found: Found, until: float) -> None:
    """The outcome of the tests that need a GPU."""
    mark = ".".join(["pytest", "mark", "gpu"])
    files = [str(path) for path in sorted(scale.tests.rglob("*.py")) if mark in path.read_text()]
    found["files"] = [Path(path).name for path in files]
    if not files:
        found["outcome"] = "no tests are marked gpu"
        return
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-rA", *files]  # the configuration has one -q
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=max(1.0, until - time.monotonic()))
    lines = done.stdout.strip().splitlines()
    found |= {"exit_code": done.returncode, "outcome": lines[-1] if lines else "", "output": done.stdout[-8000:]}


def machine(scale: Scale, found: Found, until: float) -> None:
    """What all of this ran on."""
    found |= {"python": platform.python_version(), "system": platform.platform(), "cpus": os.cpu_count(),
              "prismkd": __version__, "torch": torch.__version__, "cuda": torch.version.cuda,
              "versions": {name: _version(name) for name in PACKAGES}}  # fmt: skip
    if scale.device.type == "cuda":
        properties = torch.cuda.get_device_properties(scale.device)
        found |= {"gpu": properties.name, "gpu_memory_gib": properties.total_memory / 2**30,
                  "capability": list(torch.cuda.get_device_capability(scale.device)),
                  "cudnn": torch.backends.cudnn.version()}  # fmt: skip
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        found["driver"] = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


# --- the parts, one after the other ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One part of the benchmark.

    Attributes:
        measure: fills what it finds into a dictionary, and starts no further round after the given time.
        needs: seconds below which it isn't begun.
        gets: seconds after which it is stopped.
    """

    measure: Callable[[Scale, Found, float], None]
    needs: float
    gets: float


PARTS = {
    "machine": Part(machine, 0, 30),
    "embedded": Part(embedded, 20, 45),
    "sd-1.5": Part(partial(measure_shape, "sd-1.5"), 25, 100),
    "sdxl": Part(partial(measure_shape, "sdxl"), 25, 70),
    "dit-xl": Part(partial(measure_shape, "dit-xl"), 15, 35),
    "distillation": Part(distillation, 20, 50),
    "workers": Part(workers, 30, 60),
    "tests": Part(marked_tests, 5, 45),
    "compile": Part(compiled, 45, 120),
}


class OutOfTimeError(BaseException):
    """A part has used its seconds up; no handler of ordinary errors may swallow it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in the main thread after ``seconds``."""

    def stop(number: int, frame: object) -> None:
        raise OutOfTimeError(f"{seconds:.0f} s are over")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measure_part(part: Part, scale: Scale, left: float) -> Found:
    """What a part finds in the ``left`` seconds, or why it found nothing."""
    if left < part.needs:
        return {"skipped": f"needs {part.needs:.0f} s, {max(left, 0):.0f} s are left"}
    found: Found = {}
    start, limit = time.monotonic(), min(part.gets, max(left, 1.0))
    try:
        with time_limit(limit):
            torch.manual_seed(0)
            part.measure(scale, found, start + 0.8 * limit)
    except OutOfTimeError as stop:
        found["stopped"] = str(stop)
    except Exception:  # whatever it is, the other parts go on
        found["error"] = traceback.format_exc()
    return {**found, "part_seconds": time.monotonic() - start}


def measure(settings: GpuBench, scale: Scale, parts: dict[str, Part]) -> Found:
    """All chosen parts in their order; returns what is in the file, too."""
    start, names = time.monotonic(), chosen(settings, parts)
    results = new_results(settings, scale)
    for place, name in enumerate(names):
        left = 60 * settings.minutes - (time.monotonic() - start)
        found = results["parts"][name] = measure_part(parts[name], scale, left)
        write(settings.out, results)
        elapsed = time.monotonic() - start
        print(f"{name}: {outcome(found)} ({elapsed:.0f} s in all)", flush=True)
        if "skipped" not in found and not free_memory(scale.device) and names[place + 1 :]:
            command = restart_command(settings, names[place + 1 :], settings.minutes - elapsed / 60)
            print(f"{scale.device} no longer answers; going on in a new process", flush=True)
            os.execv(command[0], command)
    return results


def chosen(settings: GpuBench, parts: dict[str, Part]) -> tuple[str, ...]:
    """The parts that are asked for.

    Raises:
        UserError: there is none of that name.
    """
    unknown = [name for name in settings.part if name not in parts]
    if unknown:
        raise UserError(f"expected --part among {', '.join(parts)}, got {', '.join(unknown)}; choose of these")
    return settings.part or tuple(parts)


def new_results(settings: GpuBench, scale: Scale) -> Found:
    """What made the results, on what, when and at which commit; with the file's parts where only some are asked for."""
    device = scale.device
    words = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    try:
        commit = head_commit()
    except (OSError, subprocess.CalledProcessError):  # a copy without its history
        commit = ""
    old = json.loads(settings.out.read_text())["parts"] if settings.part and settings.out.is_file() else {}
    return {"schema": 1, "command": "python -m benchmarks.gpu" + " --tiny" * settings.tiny, "seeds": [0],
            "hardware": f"{words}, torch {torch.__version__}", "date": datetime.now(UTC).date().isoformat(),
            "commit": commit, "steps": scale.num_steps, "parts": old}  # fmt: skip


def write(path: Path, results: Found) -> None:
    """Replace the file at once, so that a kill leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(results, indent=1) + "\n")
    new.replace(path)


def outcome(found: Found) -> str:
    """A part's end in a few words."""
    if "skipped" in found:
        return f"skipped, {found['skipped']}"
    if "error" in found:
        return f"failed after {found['part_seconds']:.1f} s: {found['error'].strip().splitlines()[-1]}"
    return f"{'stopped' if 'stopped' in found else 'done'} after {found['part_seconds']:.1f} s"


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


def restart_command(settings: GpuBench, names: Sequence[str], minutes: float) -> list[str]:
    """The command that measures the remaining parts and adds them to the same file."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--minutes", f"{minutes:.3f}", "--out", str(settings.out)]
    return [*command, *(["--tiny"] if settings.tiny else []), "--part", *names]


def main(arguments: list[str]) -> None:
    """Run the benchmark with what follows its name on the command line.

    Raises:
        UserError: no GPU, or no part of that name.
    """
    import tyro

    settings = tyro.cli(GpuBench, args=arguments, prog="python -m benchmarks.gpu")
    measure(settings, tiny_scale() if settings.tiny else full_scale(), PARTS)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
