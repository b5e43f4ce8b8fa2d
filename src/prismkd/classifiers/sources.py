"""What the setting ``teacher`` may say, and how it becomes a classifier.

pictograms                       the embedded teacher
FOLDER                           config.json + model.safetensors: prismkd's, timm's or transformers'
timm:NAME@FILE                   a timm model with weights in FILE; without @FILE its own, from the hub
torchvision:NAME@FILE            the same for torchvision
transformers:ORG/NAME            an image classifier on the hub
exported:FILE, torchscript:FILE  programs, which are code: only with --trust
FILE.toml                        several teachers: see ``ensemble.py``
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from prismkd.assets import asset
from prismkd.classes.files import ClassName
from prismkd.classes.lists import load_classes
from prismkd.classifiers.classifier import Classifier, check_outputs
from prismkd.classifiers.folders import load_classifier
from prismkd.classifiers.libraries import Loaded, of_program, of_timm, of_torchvision, of_transformers
from prismkd.errors import UserError

LIBRARIES = ("timm", "torchvision", "transformers", "exported", "torchscript")


def load_source(source: str, *, trust: bool = False, embedded: str = "teacher") -> Loaded:
    """The classifier that ``source`` names, with its library's own transform.

    Args:
        source: see above.
        trust: whether programs may be opened.
        embedded: which of the embedded networks ``pictograms`` is: teacher or judge.

    Raises:
        UserError: no such source, or weights that don't fit.
    """
    if source == "pictograms":
        return Loaded(load_classifier(asset(embedded)))
    library, _, rest = source.partition(":")
    if library in LIBRARIES and rest:
        name, _, file = rest.partition("@")
        checkpoint = Path(file) if file else None
        if library == "timm":
            return of_timm(name, checkpoint)
        if library == "torchvision":
            return of_torchvision(name, checkpoint)
        if library == "transformers":
            return of_transformers(rest, local=Path(rest).is_dir())
        if trust:
            print(f"warning: running code from {rest}, as --trust allows", file=sys.stderr, flush=True)
        return of_program(library, Path(rest), trust=trust)
    if source.endswith(".toml"):
        raise UserError(f"expected one classifier, got the ensemble {source}; name one of its members")
    return _of_folder(Path(source))


def _of_folder(folder: Path) -> Loaded:
    if folder.is_file():
        raise UserError(
            f"expected a teacher's folder, got the file {folder}; say which network its weights belong to, such as "
            f"timm:resnet50@{folder} or torchvision:resnet50@{folder}"
        )
    if (folder / "config.json").is_file() and (folder / "preprocessor_config.json").is_file():
        return of_transformers(str(folder), local=True)
    return Loaded(load_classifier(folder))


def load_teacher(source: str, classes: str | Sequence[str | ClassName], *, trust: bool = False) -> Classifier:
    """Load the teacher, or several as one, and check that there is one output per class name.

    Args:
        source: ``pictograms``, a folder, ``timm:NAME@FILE``, ``torchvision:NAME@FILE``, ``transformers:ORG/NAME``,
            ``exported:FILE`` or ``torchscript:FILE``, or several in a FILE.toml.
        classes: names in the order of the teacher's outputs, or the name of a class list (``imagenet-1k``, a file).
        trust: whether programs (``exported``, ``torchscript``) may be opened, which may run any code.

    Returns:
        A differentiable function of images (batch, channels, height, width) in [0, 1] to logits (batch, num_classes),
        on the CPU, in evaluation mode and with fixed weights.

    Raises:
        UserError: no such source, weights that don't fit, or another number of outputs than classes.
    """
    listed = load_classes(classes) if isinstance(classes, str) else classes
    class_names = [item if isinstance(item, str) else item.name for item in listed]
    if source.endswith(".toml"):
        from prismkd.classifiers.ensemble import load_ensemble

        return load_ensemble(Path(source), class_names, trust=trust)
    return _load_fitting("teacher", "teacher", source, len(class_names), trust=trust)


def load_judge(source: str, num_classes: int) -> Classifier:
    """Load the judge and check that it has ``num_classes`` outputs."""
    return _load_fitting("judge", "evaluation.judge", source, num_classes, trust=False)


def _load_fitting(name: str, setting: str, source: str, num_classes: int, *, trust: bool) -> Classifier:
    classifier = load_source(source, trust=trust, embedded=name).classifier
    if classifier.num_classes != num_classes:
        raise UserError(
            f"expected a class list with {classifier.num_classes} names, one per output of the {name}, "
            f"got {num_classes}; make `classes` and `{setting}` fit each other"
        )
    check_outputs(classifier, f"the {name}")
    return classifier


def needs_the_web(source: str) -> bool:
    """Whether a library fetches weights for this source."""
    library, _, rest = source.partition(":")
    return library in ("timm", "torchvision", "transformers") and "@" not in rest and not Path(rest).is_dir()


def weights_digest(classifier: Classifier) -> str:
    """A digest of a classifier's weights and preprocessing: which teacher guided these images."""
    inputs = [module.preprocess for module in classifier.modules() if isinstance(module, Classifier)]
    digest = hashlib.sha256(repr(inputs).encode())
    for name, tensor in sorted(classifier.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
