"""Distillation in one call: a teacher and images in, a trained classifier out."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prismkd.classifiers import Classifier, Preprocessing, as_classifier, save_classifier
from prismkd.classifiers.networks import size_arguments
from prismkd.config import Config, DistillationConfig
from prismkd.config.load import check_config
from prismkd.config.seeds import check_seed
from prismkd.distillation.cache import CachedImages, CachePlace
from prismkd.distillation.log import TrainingLog
from prismkd.distillation.loop import train
from prismkd.distillation.student import Factory, check_student, name_of_module, new_student
from prismkd.distillation.tar_images import open_images, read_logits
from prismkd.distillation.training_set import TrainingSet
from prismkd.distillation.world import World
from prismkd.errors import UserError, warn
from prismkd.files import remove
from prismkd.progress import Progress, ignore
from prismkd.shards import channels_first, read_samples, verified

ELSEWHERE = ("architecture", "real", "real_share")  # settings whose place here is an argument


class TrainedStudent(Classifier):
    """A student that ``distill`` trained: images (batch, channels, height, width) in [0, 1] to logits.

    Attributes:
        network: the student's own module.
        log: loss and learning rate on the way, and ``log.warnings()``.
    """

    def __init__(self, network: nn.Module, config: dict[str, Any], log: TrainingLog) -> None:
        super().__init__(network, config)
        self.log = log

    def save(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` (float16), which ``prismkd.load_teacher`` reads."""
        save_classifier(Path(folder), self.network, self.config)


def distill(
    teacher: nn.Module,
    images: Tensor | np.ndarray | TrainingSet | str | Path,
    labels: Tensor | np.ndarray | Sequence[int] | None = None,
    *,
    student: str | nn.Module | Factory = "resnet18",
    seed: int = 0,
    config: DistillationConfig | None = None,
    preprocessing: Preprocessing | None = None,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> TrainedStudent:
    """Train a student to answer as the teacher does, on images of any origin.

    Both see the same augmented view of an image; where the teacher has an input size, these are random resized crops of
    that size, and a student given by name gets the teacher's normalization. The student is held to the teacher's
    softened distribution, ``T^2 KL(teacher / T || student / T)`` (Hinton et al. 2015; Beyer et al. 2022, A good teacher
    is patient and consistent). AdamW and a cosine, and the moving average of the weights is the student; ``config`` has
    the other recipes. It trains on the GPU where there is one, and the student comes back to where it was made.

    Args:
        teacher: a ``Classifier`` (such as ``prismkd.load_teacher`` gives), or any module in evaluation mode of images
            in [0, 1] to logits. It stays as it is.
        images: (n, channels, height, width), uint8 or float in [0, 1]; a ``prismkd.distillation.TrainingSet``; or the
            folder of shards that ``prismkd synthesize`` wrote, which has its labels. Those of shards that have another
            size than the student's are decoded and resized once, into a file beside ``checkpoint``, else a temporary.
        labels: (n,) the teacher's class that each image was made for. Needed for ``hard_label_weight`` above 0, and for
            several teachers of which not all know each class; they also show in the log which classes were lost.
        student: a timm name, ``small-resnet-WIDTH`` for small images, a module, which is itself trained, or a
            function that makes one.
        seed: of the student's first weights, of batches and views, from 0 to 2^63 - 1: the same seed on a CPU gives the
            same student.
        config: the recipe; None: the defaults.
        preprocessing: of a teacher that isn't a ``Classifier``: from images in [0, 1] to its input.
        checkpoint: a file that is written on the way; the same call again goes on from there. None: none.
        progress: called with the number of steps just finished.
        settings: fields of ``DistillationConfig``, such as ``num_steps=5000, batch_size=64, learning_rate=1e-3``.

    Returns:
        The student, a classifier in evaluation mode, with its ``log``.

    Raises:
        UserError: images of another shape or range, labels that aren't the teacher's, a student that doesn't take the
            images, a recipe that doesn't fit, a seed out of range, or a loss that isn't finite.

    Example:
        >>> student = prismkd.distill(teacher, images, labels, student="resnet18", num_steps=20_000)
        >>> student.save("my-student")
    """
    check_seed(seed)
    recipe = _recipe(config, settings)
    given = _given_images(images, labels)
    channels, height, width = _shape_of(given)
    known = as_classifier(teacher, (channels, height, width), preprocessing)
    world = World.of(recipe, known)
    side = world.image_shape((channels, height, width))[-1]
    network, name = _new_network(student, recipe, known.num_classes, channels, seed, side)
    # A module of the user's own takes images in [0, 1], as it is documented; the others have their teacher's input.
    normalizes = isinstance(student, str)
    trained = world.trained_form(network, known.num_classes, channels) if normalizes else network
    check_student(trained, world.image_shape((channels, height, width)), known.num_classes)
    path = None if checkpoint is None else Path(checkpoint)
    with tempfile.TemporaryDirectory(prefix="prismkd-") as temporary:
        place = CachePlace(Path(temporary) if path is None else path.parent, recipe.cache_gigabytes * 1e9)
        data = given if isinstance(given, TrainingSet) else _of_shards(given, recipe, world, place)
        _check_data(data, recipe, known.num_classes)
        log = train(trained, known, data, recipe, seed, path, progress or ignore)
    if isinstance(data.images, CachedImages) and not recipe.keep_cache:
        remove(data.images.path)
    for text in log.warnings():
        warn(text)
    described: dict[str, Any] = {"architecture": name, "num_classes": known.num_classes}
    if normalizes and (arguments := size_arguments(name, side)):
        described["arguments"] = arguments
    described |= world.student_config(channels, normalized=normalizes)
    return TrainedStudent(network, described, log).eval()


def _recipe(config: DistillationConfig | None, settings: dict[str, Any]) -> DistillationConfig:
    """The recipe with single settings changed, checked."""
    names = [field.name for field in fields(DistillationConfig) if field.name not in ELSEWHERE]
    for name in settings:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
            advice = f"perhaps {near[0]}" if near else f"use {', '.join(names)}"
            raise UserError(f"expected a setting of DistillationConfig, got {name}; {advice}")
    recipe = replace(config or DistillationConfig(), **settings)
    if recipe.real or recipe.real_share:
        raise UserError(
            "expected no distillation.real and real_share, got some; give real images as "
            "prismkd.distillation.TrainingSet(images, labels, (real_images, real_labels), real_share)"
        )
    check_config(replace(Config(), distillation=recipe))
    return recipe


def _given_images(images: Tensor | np.ndarray | TrainingSet | str | Path, labels: Any) -> TrainingSet | Path:
    """The images with their labels, whatever they came as; or the folder of shards, which is verified."""
    if isinstance(images, TrainingSet | str | Path):
        if labels is not None:
            raise UserError(f"expected no labels beside a {type(images).__name__}, which has its own; leave them out")
        return images if isinstance(images, TrainingSet) else _verified(Path(images))
    pixels = torch.as_tensor(images)
    _check_images(pixels)
    given = None if labels is None else torch.as_tensor(labels)
    if given is not None and (given.shape != pixels.shape[:1] or given.is_floating_point()):
        raise UserError(
            f"expected labels ({len(pixels)},) as integers, one per image, got {given.dtype} {tuple(given.shape)}; "
            "give each image its class"
        )
    # All images stay on the CPU, where they may be many; a batch at a time goes to the device.
    pixels = pixels.cpu() if pixels.dtype == torch.uint8 else pixels.cpu().float()
    return TrainingSet(pixels, None if given is None else given.cpu().long())


def _verified(folder: Path) -> Path:
    """A folder of images that synthesis wrote."""
    if not folder.is_dir():
        raise UserError(f"expected a folder of shards that `prismkd synthesize` wrote, got {folder}; check the path")
    verified(folder)
    return folder


def _shape_of(images: TrainingSet | Path) -> tuple[int, int, int]:
    """(channels, height, width) of the images, or of the first one of a folder."""
    if isinstance(images, TrainingSet):
        channels, height, width = images.images.image_shape
    else:
        sample = next(read_samples(images), None)
        if sample is None:
            raise UserError(f"expected images in {images}, got none; finish the synthesis first")
        channels, height, width = channels_first(sample.image).shape
    return channels, height, width


def _of_shards(folder: Path, recipe: DistillationConfig, world: World, place: CachePlace) -> TrainingSet:
    """Images that synthesis wrote, in the student's world."""
    images, labels = open_images(folder, recipe.memory_gigabytes * 1e9, recipe.num_workers, world.stored_side, place)
    return TrainingSet(images, labels, logits=read_logits(folder) if recipe.stored_logits else None)


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or len(images) == 0:
        raise UserError(f"expected images (n, channels, height, width), got {tuple(images.shape)}; stack them so")
    # Channels last, as numpy and Pillow have it: more than 4 channels and at most 4 pixels wide is no image.
    if images.shape[1] > 4 >= images.shape[3]:
        raise UserError(
            f"expected images (n, channels, height, width), got {tuple(images.shape)}, whose channels are last; move "
            "them with images.transpose(0, 3, 1, 2), or permute of torch"
        )
    if images.dtype == torch.uint8:
        return
    low, high = (float(value) for value in images.aminmax())
    if not images.is_floating_point() or not 0 <= low <= high <= 1:
        raise UserError(
            f"expected images as uint8 or as float in [0, 1], got {images.dtype} from {low:g} to {high:g}; scale them"
        )


def _check_data(data: TrainingSet, recipe: DistillationConfig, num_classes: int) -> None:
    if recipe.auxiliary_batch_norm and data.real is None:
        raise UserError(
            "expected real images beside the synthetic ones for distillation.auxiliary_batch_norm, got none; give them "
            "as prismkd.distillation.TrainingSet(images, labels, (real_images, real_labels), real_share)"
        )
    if data.labels is not None and not 0 <= int(data.labels.min()) <= int(data.labels.max()) < num_classes:
        wrong = data.labels[(data.labels < 0) | (data.labels >= num_classes)]
        raise UserError(
            f"expected labels from 0 to {num_classes - 1}, the teacher's classes, got {int(wrong[0])}; check them"
        )


def _new_network(
    student: str | nn.Module | Factory,
    recipe: DistillationConfig,
    num_classes: int,
    in_channels: int,
    seed: int,
    side: int,
) -> tuple[nn.Module, str]:
    """The student before training, and what stands for it in its ``config.json``."""
    if isinstance(student, str):
        return new_student(replace(recipe, architecture=student), num_classes, in_channels, seed, side=side), student
    if isinstance(student, nn.Module):
        module = student
        return new_student(recipe, num_classes, in_channels, seed, lambda: module), f"module {type(module).__name__}"
    return new_student(recipe, num_classes, in_channels, seed, student), name_of_module(student)
