"""A delivered student at work on image files: with onnxruntime alone where the folder holds no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prismkd.data.decode import NUM_DECODERS
from prismkd.delivery.image_files import UnreadableImageError, read_image
from prismkd.delivery.student_folder import (
    CONFIG,
    GRAPH,
    WEIGHTS,
    Delivered,
    SeenImages,
    class_names,
    read_delivered,
    student_of,
)
from prismkd.errors import UserError
from prismkd.records.directory import is_run, read_json

BATCH_SIZE = 64
Logits = Callable[[np.ndarray], np.ndarray]  # images (batch, channels, height, width) in [0, 1] -> (batch, classes)


@dataclass(frozen=True)
class Student:
    """A function of images, and what goes in and comes out."""

    logits: Logits
    about: Delivered


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one file, (label, probability), or why it couldn't be read."""

    file: Path
    top: list[tuple[int, float]]
    problem: str = ""

    def to_dict(self, names: list[str]) -> dict[str, Any]:
        """Plain data for JSON."""
        if self.problem:
            return {"file": str(self.file), "problem": self.problem}
        top = [{"label": label, "class": names[label], "probability": round(p, 6)} for label, p in self.top]
        return {"file": str(self.file), "top": top}


def predict_files(student: Student, files: Sequence[Path], num_top: int) -> Iterator[Prediction]:
    """Each file's likeliest classes, in the order of the files; holds one batch of images at a time."""
    with ThreadPoolExecutor(NUM_DECODERS) as pool:
        for part in _chunks(files):
            read = list(pool.map(lambda file: _read(student, file), part))
            images = [image for image in read if isinstance(image, np.ndarray)]
            probabilities = iter(_probabilities(student, images)) if images else iter(())
            for file, result in zip(part, read, strict=True):
                problem = "" if isinstance(result, np.ndarray) else result
                yield Prediction(file, [] if problem else _top(next(probabilities), num_top), problem)


def _read(student: Student, file: Path) -> np.ndarray | str:
    """A file's pixels, or why there are none."""
    try:
        return read_image(file, student.about.channels, student.about.geometry)
    except UnreadableImageError as error:
        return str(error)


def _chunks(files: Sequence[Path]) -> Iterator[Sequence[Path]]:
    return (files[start : start + BATCH_SIZE] for start in range(0, len(files), BATCH_SIZE))


def _probabilities(student: Student, images: list[np.ndarray]) -> np.ndarray:
    logits = student.logits(np.stack(images))
    if logits.shape[1] != len(student.about.names):
        raise UserError(
            f"expected {logits.shape[1]} class names, one per output of the student, got {len(student.about.names)} in "
            f"its {CONFIG}; export it again"
        )
    powers = np.exp(logits - logits.max(1, keepdims=True))  # softmax; the largest logit is taken off against overflow
    return powers / powers.sum(1, keepdims=True)


def _top(probabilities: np.ndarray, count: int) -> list[tuple[int, float]]:
    order = np.argsort(-probabilities, kind="stable")[:count]  # of equal classes the first, on every machine
    return [(int(label), float(probabilities[label])) for label in order]


# --- loading -----------------------------------------------------------------------------------------------------


def load_student(folder: Path, method: str, seed: int | None) -> Student:
    """A delivered student, or one of a run's.

    Raises:
        UserError: the folder is neither, or its files are damaged.
    """
    if is_run(folder):
        return _student_of_run(folder, method, seed)
    about = read_delivered(folder)
    # Weights first: they are what was evaluated, and the graph is a copy of them
    logits = _load_weights(folder) if (folder / WEIGHTS).is_file() else _load_graph(folder, about)
    return Student(logits, about)


def _student_of_run(directory: Path, method: str, seed: int | None) -> Student:
    from prismkd.delivery.export_student import student_geometry

    folder, _ = student_of(directory, method, seed)
    config = read_json(folder / CONFIG, SeenImages)
    geometry = student_geometry(directory, dict(config))
    about = Delivered(class_names(directory), config.get("in_channels", 3), geometry)
    return Student(_load_weights(folder), about)


def _load_weights(folder: Path) -> Logits:
    import torch

    from prismkd.classifiers import load_classifier, predict

    classifier = load_classifier(folder)
    return lambda images: predict(classifier, torch.from_numpy(images), cropped=True).numpy()


def _load_graph(folder: Path, about: Delivered) -> Logits:
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            f"expected the package onnxruntime for {folder / GRAPH}, got none; pip install 'prismkd[onnx]'"
        ) from None
    try:
        session = onnxruntime.InferenceSession(folder / GRAPH, providers=["CPUExecutionProvider"])
        (taken,) = session.get_inputs()
        if taken.shape[1:] != [about.channels, *(about.geometry.size or ())]:
            raise ValueError(f"one for images of {taken.shape[1:]}, other than {CONFIG} says")
    except Exception as error:  # onnxruntime's errors have no common type
        reason = str(error).partition("\n")[0]
        raise UserError(f"expected an ONNX graph in {folder / GRAPH}, got: {reason}; export it again") from None
    return lambda images: session.run(None, {taken.name: images})[0]
