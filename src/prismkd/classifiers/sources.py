"""What the settings ``teacher`` and ``evaluation.judge`` may say, and how it becomes a classifier.

pictograms                       the embedded teacher, or judge
FOLDER                           config.json + model.safetensors: prismkd's, timm's or transformers'
timm:NAME@FILE                   a timm model with weights in FILE; without @FILE its own, from the hub
torchvision:NAME@FILE            the same for torchvision
transformers:ORG/NAME            an image classifier on the hub
exported:FILE, torchscript:FILE  programs, which are code: only with --trust
FILE.toml                        several teachers: see ``teacher_list.py``
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
from prismkd.classifiers.ensemble import Ensemble
from prismkd.classifiers.folders import load_classifier
from prismkd.classifiers.libraries import (
    LoadedClassifier,
    load_program,
    load_timm,
    load_torchvision,
    load_transformers,
)
from prismkd.classifiers.teacher_list import class_indices, read_teacher_list
from prismkd.config.sources import library_of
from prismkd.errors import UserError


def load_source(source: str, *, trust: bool = False, embedded: str = "teacher") -> LoadedClassifier:
    """The classifier that ``source`` names, with its library's own transform.

    Args:
        source: see above.
        trust: whether programs may be opened.
        embedded: which of the embedded networks ``pictograms`` is: teacher or judge.

    Raises:
        UserError: no such source, or weights that don't fit.
    """
    if source == "pictograms":
        return LoadedClassifier(load_classifier(asset(embedded)))
    library, rest = library_of(source)
    if library:
        return _load_from_library(library, rest, trust=trust)
    if source.endswith(".toml"):
        raise UserError(f"expected one classifier, got the ensemble {source}; name one of its members")
    return _load_folder(Path(source))


def _load_from_library(library: str, rest: str, *, trust: bool) -> LoadedClassifier:
    """LIBRARY:rest, where rest is NAME@FILE, ORG/NAME or FILE."""
    name, _, file = rest.partition("@")
    checkpoint = Path(file) if file else None
    if library == "timm":
        return load_timm(name, checkpoint)
    if library == "torchvision":
        return load_torchvision(name, checkpoint)
    if library == "transformers":
        return load_transformers(rest, local=Path(rest).is_dir())
    if trust:
        print(f"warning: running code from {rest}, as --trust allows", file=sys.stderr, flush=True)
    return load_program(library, Path(rest), trust=trust)


def _load_folder(folder: Path) -> LoadedClassifier:
    if folder.is_file():
        raise UserError(
            f"expected a teacher's folder, got the file {folder}; say which network its weights belong to, such as "
            f"timm:resnet50@{folder} or torchvision:resnet50@{folder}"
        )
    # ``load_classifier`` knows the folders of transformers too, but not their own transform, which doctor compares.
    if (folder / "config.json").is_file() and (folder / "preprocessor_config.json").is_file():
        return load_transformers(str(folder), local=True)
    return LoadedClassifier(load_classifier(folder))


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
        return load_ensemble(Path(source), class_names, trust=trust)
    return _load_fitting("teacher", "teacher", source, len(class_names), trust=trust)


def load_ensemble(path: Path, class_names: Sequence[str], *, trust: bool = False) -> Ensemble:
    """The teachers that a file lists, as one over all classes of the run.

    Args:
        path: of the list (``teacher_list.py``).
        class_names: of the run's classes, in the order of the labels.
        trust: whether programs may be opened.

    Raises:
        UserError: the file isn't as it should be, a member names a class that isn't the run's, or a class has no
            teacher.
    """
    members, columns = [], []
    for teacher in read_teacher_list(path):
        member = load_source(teacher.source, trust=trust).classifier
        names = teacher.class_names or class_names
        if len(names) != member.num_classes:
            raise UserError(
                f"expected {member.num_classes} classes for {teacher.name} in {path}, one per output, got "
                f"{len(names)}; list them in its order, with - for outputs that are none of ours"
            )
        members.append(member)
        columns.append(class_indices(names, class_names, path))
    untaught = sorted(set(range(len(class_names))) - {label for classes in columns for label in classes})
    if untaught:
        raise UserError(
            f"expected a teacher for every class in {path}, got none for {class_names[untaught[0]]!r} "
            f"({len(untaught)} of {len(class_names)}); add one, or drop the class"
        )
    return Ensemble(members, columns, len(class_names)).eval().requires_grad_(False)


def load_judge(source: str, num_classes: int) -> Classifier:
    """Load the judge, which measures images and guides nothing, and check that it has ``num_classes`` outputs."""
    # Never a program: what --trust allows is the teacher.
    return _load_fitting("judge", "evaluation.judge", source, num_classes, trust=False)


def _load_fitting(role: str, setting: str, source: str, num_classes: int, *, trust: bool) -> Classifier:
    """The classifier of a role, teacher or judge, with as many outputs as there are classes."""
    classifier = load_source(source, trust=trust, embedded=role).classifier
    if classifier.num_classes != num_classes:
        raise UserError(
            f"expected a class list with {classifier.num_classes} names, one per output of the {role}, "
            f"got {num_classes}; make `classes` and `{setting}` fit each other"
        )
    check_outputs(classifier, role)  # one image now, rather than an error in the middle of a run
    return classifier


def weights_digest(classifier: Classifier) -> str:
    """A digest of a classifier's weights and preprocessing: which teacher guided these images."""
    # The preprocessing counts: with another mean or size it is another teacher. An ensemble's members have one each.
    preprocessings = [module.preprocess for module in classifier.modules() if isinstance(module, Classifier)]
    digest = hashlib.sha256(repr(preprocessings).encode())
    for name, tensor in sorted(classifier.state_dict().items()):  # sorted, whatever order modules were made in
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
