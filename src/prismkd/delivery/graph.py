"""A classifier as an ONNX graph, kept only where onnxruntime computes the same logits as torch."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prismkd.classifiers import Classifier, predict
from prismkd.errors import UserError
from prismkd.files import write

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # of the largest logit; float32 sums in another order differ by about 1e-6 of it


@dataclass(frozen=True)
class Parity:
    """A graph in onnxruntime beside the classifier in torch, on the same images."""

    images: str
    num_images: int
    num_same_top1: int
    max_difference: float
    max_logit: float
    version: str

    @property
    def tolerance(self) -> float:
        """The difference of logits up to which both count as the same."""
        return TOLERANCE * max(1.0, self.max_logit)

    def __str__(self) -> str:
        return (
            f"onnxruntime {self.version} and torch give the same top-1 on {self.num_same_top1:,} of "
            f"{self.num_images:,} {self.images}; logits differ by at most {self.max_difference:.1e} "
            f"(tolerance {self.tolerance:.1e})"
        )


def check_packages() -> None:
    """Raises UserError where a package of the extra ``onnx`` is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"expected the packages {', '.join(PACKAGES)} for a student as ONNX, got no {', '.join(missing)}; "
            "pip install 'prismkd[onnx]'"
        )


def write_graph(path: Path, classifier: Classifier, side: int) -> None:
    """Write the classifier, its normalization included, as a graph of any number of images at once.

    The graph's input ``images`` is float32 (batch, channels, side, side) in [0, 1], resized and cut already; its output
    ``logits`` (batch, classes).

    Raises:
        UserError: torch.onnx can't express the architecture, or the disk refuses the file.
    """
    example = torch.rand(2, classifier.in_channels, side, side, generator=torch.Generator().manual_seed(0))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own, on each conversion
            program = torch.onnx.export(
                classifier, (example,), kwargs={"cropped": True}, input_names=["images"],
                output_names=["logits"], dynamic_shapes={"images": {0: torch.export.Dim("batch")}, "cropped": None},
                dynamo=True, external_data=False, verbose=False,
            )  # fmt: skip
            assert program is not None  # as it is with dynamo
            graph = program.model_proto.SerializeToString()
    except Exception as error:  # of many types, as an architecture meets a limit of torch.export or of ONNX
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
        name = classifier.config["architecture"]
        raise UserError(
            f"expected an architecture that torch.onnx exports, got {name}: {reason}; use --to safetensors"
        ) from None
    write(path, graph)


def check_parity(path: Path, classifier: Classifier, batches: Iterable[Tensor], name: str) -> Parity:
    """Compare the graph with the classifier.

    Args:
        path: the graph.
        classifier: what it was made from.
        batches: images (batch, channels, side, side) in [0, 1], as the graph takes them.
        name: what the images are, for people.

    Raises:
        UserError: the logits differ by more than the tolerance, or aren't finite.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    of_torch, of_graph = [], []
    for images in batches:
        of_torch.append(predict(classifier, images, cropped=True).numpy())
        of_graph.append(session.run(None, {"images": images.numpy()})[0])
    return parity_of(np.concatenate(of_torch), np.concatenate(of_graph), name, onnxruntime.__version__)


def parity_of(of_torch: np.ndarray, of_graph: np.ndarray, name: str, version: str) -> Parity:
    """Both networks' logits (n, classes) of the same images, side by side.

    Raises:
        UserError: they differ by more than the tolerance, or aren't finite.
    """
    parity = Parity(
        images=name,
        num_images=len(of_torch),
        num_same_top1=int((of_torch.argmax(1) == of_graph.argmax(1)).sum()),
        max_difference=float(np.abs(of_torch - of_graph).max()),
        max_logit=float(np.abs(of_torch).max()),
        version=version,
    )
    if not parity.max_difference <= parity.tolerance:  # NaN isn't either
        raise UserError(
            f"expected the graph's logits within {parity.tolerance:.1e} of torch's, got a difference of "
            f"{parity.max_difference:.1e} (same top-1 on {parity.num_same_top1} of {parity.num_images} {name}); "
            "use --to safetensors"
        )
    return parity
