"""A delivered student at work on image files: with onnxruntime alone where the folder holds no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prismkd.data.decode import NUM_DECODERS, known_formats
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
MAX_VALUES = 2**26  # of a batch, which is smaller where images are large
MIN_RUNTIME = (1, 24)  # of onnxruntime; older ones read the weights of a graph from any file that it names
SILENT = 4  # onnxruntime's log level of what ends the process
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
    known_formats()
    with ThreadPoolExecutor(NUM_DECODERS) as pool:
        for part in _chunks(files, _batch_size(student.about)):
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


def _batch_size(about: Delivered) -> int:
    height, width = about.geometry.size or (1, 1)
    return max(1, min(BATCH_SIZE, MAX_VALUES // (about.channels * height * width)))


def _chunks(files: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    return (files[start : start + size] for start in range(0, len(files), size))


def _probabilities(student: Student, images: list[np.ndarray]) -> np.ndarray:
    logits, num_classes = np.asarray(student.logits(np.stack(images))), len(student.about.names)
    if logits.ndim != 2 or len(logits) != len(images):
        raise UserError(f"expected logits ({len(images)}, classes) of the student, got {logits.shape}; export it again")
    if logits.shape[1] != num_classes:
        raise UserError(
            f"expected {logits.shape[1]} class names, one per output of the student, got {num_classes} in its "
            f"{CONFIG}; export it again"
        )
    if not np.isfinite(logits).all():
        raise UserError("expected finite logits of the student, got others; export it again")
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
    logits = _load_weights(folder, about) if (folder / WEIGHTS).is_file() else _load_graph(folder, about)
    return Student(logits, about)


def _student_of_run(directory: Path, method: str, seed: int | None) -> Student:
    from prismkd.delivery.export_student import student_geometry

    folder, _ = student_of(directory, method, seed)
    config = read_json(folder / CONFIG, SeenImages)
    about = Delivered(class_names(directory), config.get("in_channels", 3), student_geometry(directory, dict(config)))
    return Student(_load_weights(folder, about), about)


def _load_weights(folder: Path, about: Delivered) -> Logits:
    import torch

    from prismkd.classifiers import load_classifier, predict

    classifier = load_classifier(folder)
    if (classifier.num_classes, classifier.in_channels) != (len(about.names), about.channels):
        raise UserError(
            f"expected a student of {len(about.names)} classes and {about.channels} channels in {folder}, got one of "
            f"{classifier.num_classes} and {classifier.in_channels}; export it again"
        )
    return lambda images: predict(classifier, torch.from_numpy(images), cropped=True).numpy()


def _load_graph(folder: Path, about: Delivered) -> Logits:
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            f"expected the package onnxruntime for {folder / GRAPH}, got none; pip install 'prismkd[onnx]'"
        ) from None
    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < MIN_RUNTIME:
        raise UserError(
            f"expected onnxruntime {'.'.join(map(str, MIN_RUNTIME))} or newer for {folder / GRAPH}, got "
            f"{onnxruntime.__version__}, which reads any file that a graph names; pip install -U onnxruntime"
        )
    # No operators of others: their libraries are code, and a graph alone can't name one
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT  # its errors are raised, too
    with _graph_errors(folder / GRAPH):
        session = onnxruntime.InferenceSession(folder / GRAPH, options, providers=["CPUExecutionProvider"])
        (taken,), (given, *_) = session.get_inputs(), session.get_outputs()
        if taken.type != "tensor(float)" or given.type != "tensor(float)":
            raise ValueError(f"one from {taken.type} to {given.type}, other than of tensor(float)")
        if taken.shape[1:] != [about.channels, *(about.geometry.size or ())]:
            raise ValueError(f"one for images of {taken.shape[1:]}, other than {CONFIG} says")

    def logits(images: np.ndarray) -> np.ndarray:
        with _graph_errors(folder / GRAPH):
            return session.run([given.name], {taken.name: images})[0]

    return logits


@contextmanager
def _graph_errors(path: Path) -> Iterator[None]:
    """Errors of onnxruntime, which have no common type, as one line."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0][:300]
        raise UserError(f"expected an ONNX graph in {path}, got: {reason}; export it again") from None
