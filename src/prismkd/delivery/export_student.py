"""A run's student as a folder that is of use without prismkd: weights, ONNX graph, configuration and model card."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from prismkd.classifiers import Classifier, load_classifier
from prismkd.config import METHODS, Config
from prismkd.data import Geometry
from prismkd.delivery.graph import Parity, check_packages, check_parity, write_graph
from prismkd.delivery.model_card import model_card
from prismkd.delivery.student_folder import (
    CARD,
    CONFIG,
    GRAPH,
    LAYOUTS,
    WEIGHTS,
    class_names,
    delivered_config,
    student_of,
)
from prismkd.errors import UserError
from prismkd.evaluation.held_out import HeldOutImages
from prismkd.evaluation.reading import geometry_of
from prismkd.files import check_no_link_out, is_used, making_folder, write, write_json, writing
from prismkd.records.directory import TRACKER, held_out_folder, recorded_config, storage_of
from prismkd.runs.run import Run
from prismkd.shards import committed_shards, read_samples

NUM_RANDOM_IMAGES = 64
Track = Callable[[str, int], Any]


def export_student(
    directory: Path, method: str, seed: int | None, layout: str, destination: Path, track: Track
) -> Parity | None:
    """Write one student of a run to a new folder, which appears whole or not at all.

    Args:
        directory: the run's.
        method: which student.
        seed: which student; None is the run's first.
        layout: ``safetensors``, ``onnx``, or ``student`` for both.
        destination: a new or empty folder.
        track: of progress.

    Returns:
        How the graph compares with the weights; None without a graph.

    Raises:
        UserError: no such student, the folder is in use, a link leads out of the run, a package is missing, or the
            graph computes something else.
    """
    _check_destination(destination)
    check_no_link_out(directory, ignoring=TRACKER)
    if GRAPH in LAYOUTS[layout]:
        check_packages()
    source, seed = student_of(directory, method, seed)
    classifier = load_classifier(source)
    # Before anything is written: the graph takes images of one size, and the card names every output
    names, geometry = class_names(directory), student_geometry(directory, classifier.config)
    if len(names) != classifier.num_classes:
        raise UserError(
            f"expected {classifier.num_classes} class names in {directory / 'run.json'}, one per output of the "
            f"student, got {len(names)}; check the run's folder"
        )
    with making_folder(destination) as folder:
        with track(f"export to {layout}", 1 + (GRAPH in LAYOUTS[layout])) as progress:
            delivered = write_student(folder, source / WEIGHTS, classifier, names, geometry, layout)
            progress(1)
            parity = None
            if GRAPH in LAYOUTS[layout]:
                batches, kind = _parity_images(directory, classifier, geometry)
                parity = check_parity(folder / GRAPH, classifier, batches, kind)
                progress(1)
        card = model_card(directory, method, seed, delivered, LAYOUTS[layout], parity)
        write(folder / CARD, card)
    return parity


def write_student(
    folder: Path, weights: Path, classifier: Classifier, names: list[str], geometry: Geometry, layout: str
) -> dict[str, Any]:
    """Write configuration, weights and graph as ``layout`` says; returns the configuration."""
    traits = getattr(classifier.network, "pretrained_cfg", None)
    delivered = delivered_config(classifier.config, names, geometry, traits)
    write_json(folder / CONFIG, delivered)
    if WEIGHTS in LAYOUTS[layout]:
        with weights.open("rb") as source, writing(folder / WEIGHTS) as copy:
            shutil.copyfileobj(source, copy, 2**22)
    if GRAPH in LAYOUTS[layout]:
        write_graph(folder / GRAPH, classifier, delivered["input_size"])
    return delivered


def student_geometry(directory: Path, config: dict[str, Any]) -> Geometry:
    """How a run's student sees images, a square of known size: as in evaluation.

    Its own configuration says it, else its teacher's; where neither has a geometry, it is the middle square of the size
    that it was measured or trained on.

    Raises:
        UserError: what it sees isn't square.
    """
    geometry = Geometry.from_config(config)
    if geometry is None and recorded_config(directory).evaluation.source:
        geometry = geometry_of(_run(directory).teacher)
    if geometry is None:
        return Geometry.square(_image_side(directory))
    if isinstance(geometry.resize, int) and geometry.crop is None:
        geometry = replace(geometry, crop=(geometry.resize, geometry.resize))  # a graph takes images of one size
    height, width = geometry.size or (0, 0)
    if height != width:
        raise UserError(f"expected a student of square images, got {width} x {height}; it can't be delivered as it is")
    return geometry


def _image_side(directory: Path) -> int:
    """Pixels per side of the images that a run's students were measured on, else of those that they were trained on."""
    recorded = recorded_config(directory)
    height, width = _first_image(directory, recorded)
    if height != width:
        raise UserError(
            f"expected square images in {recorded.evaluation.source or directory}, got {width} x {height}, so that a "
            "student knows its size; give test images of one side"
        )
    return height


def _first_image(directory: Path, recorded: Config) -> tuple[int, int]:
    """Height and width of the images that students were measured or trained on, all of which have the first's."""
    run = _run(directory)
    synthetic = next((name for name in recorded.methods if METHODS[name].draws_images), None)
    if recorded.evaluation.source:
        height, width = next(run.test.batches(1)).shape[-2:]
    elif synthetic:
        images = storage_of(recorded, directory, recorded.seeds[0], synthetic)
        height, width = next(read_samples(images)).image.shape[:2]
    elif run.real_training is not None:
        height, width = next(run.real_training.batches(1)).shape[-2:]
    else:
        raise UserError(f"expected images in {directory} that say a student's size, got none; run `prismkd synthesize`")
    return int(height), int(width)


def _parity_images(directory: Path, classifier: Classifier, geometry: Geometry) -> tuple[Iterable[Tensor], str]:
    """Batches of images as the student sees them: of the ID test, else held-out ones, else noise."""
    if recorded_config(directory).evaluation.source:
        images = _run(directory).test.domain("id")
        return images.seen_in(geometry, "L" if classifier.in_channels == 1 else "RGB").batches(), "ID test images"
    size = geometry.size or (0, 0)
    held_out = held_out_folder(directory, "plain")
    if committed_shards(held_out):
        batches = HeldOutImages("", partial(read_samples, held_out)).batches()
        return (_resized(batch, size) for batch in batches), "held-out synthetic images"
    shape = (NUM_RANDOM_IMAGES, classifier.in_channels, *size)
    return [torch.rand(shape, generator=torch.Generator().manual_seed(0))], "random images"


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def _run(directory: Path) -> Run:
    return Run(recorded_config(directory), directory=directory)


def _check_destination(folder: Path) -> None:
    if is_used(folder):
        raise UserError(f"expected a new or empty folder to export to, got {folder}; choose another --dest")
