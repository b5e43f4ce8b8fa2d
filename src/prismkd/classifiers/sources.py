"""What the settings ``teacher`` and ``evaluation.judge`` may say, and how it becomes a classifier.

pictograms                       the embedded teacher, or judge
FOLDER                           config.json + model.safetensors: prismkd's, timm's or transformers'
timm:NAME@FILE                   a timm model with weights in FILE; without @FILE its own, from the hub
torchvision:NAME@FILE            the same for torchvision
transformers:ORG/NAME            an image classifier on the hub
exported:FILE, torchscript:FILE  programs, which are code: only with --trust
FILE.toml                        several teachers: see ``classes/teacher_list.py``
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import sys
from collections.abc import Sequence
from os.path import isdir, isfile  # a name that no file system would take is none that exists
from pathlib import Path
from typing import Any

import torch

from prismkd.assets import asset
from prismkd.classes.files import ClassName
from prismkd.classes.lists import classes_of_teacher, load_classes, names_of
from prismkd.classes.matching import ClassLabels
from prismkd.classes.teacher_list import class_indices, read_teacher_list
from prismkd.classifiers.classifier import Classifier, check_outputs, keep_outputs
from prismkd.classifiers.ensemble import Ensemble
from prismkd.classifiers.folders import load_folder
from prismkd.classifiers.libraries import load_program, load_torchvision
from prismkd.classifiers.loaded import AS_IT_IS, LoadedClassifier
from prismkd.classifiers.parity import check_parity
from prismkd.classifiers.preprocessing import to_config
from prismkd.classifiers.timm_models import load_timm
from prismkd.classifiers.transformers_models import load_transformers
from prismkd.config import PreprocessingConfig
from prismkd.config.sources import library_of
from prismkd.errors import UserError, warn
from prismkd.foreign import naming

NETWORK = ("architecture", "arguments", "model_args")  # of a folder's configuration: the same weights may fit several


def load_source(
    source: str, *, trust: bool = False, embedded: str = "teacher", preprocessing: PreprocessingConfig = AS_IT_IS
) -> LoadedClassifier:
    """The classifier that ``source`` names, with its library's own transform; the two aren't compared.

    Args:
        source: see above.
        trust: whether programs may be opened.
        embedded: which of the embedded networks ``pictograms`` is: teacher or judge.
        preprocessing: what the user set, in place of what the source says.

    Raises:
        UserError: no such source, or weights that don't fit.
    """
    if source == "pictograms":
        return load_folder(asset(embedded), wanted=preprocessing)
    library, rest = library_of(source)
    with naming(rest.partition("@")[2] or rest):
        if library:
            return _load_from_library(library, rest, preprocessing, trust=trust)
        if source.endswith(".toml"):
            raise UserError(f"expected one classifier, got the ensemble {source}; name one of its members")
        return _load_folder(Path(source), preprocessing)


def _load_from_library(library: str, rest: str, wanted: PreprocessingConfig, *, trust: bool) -> LoadedClassifier:
    """LIBRARY:rest, where rest is NAME@FILE, ORG/NAME or FILE."""
    name, _, file = rest.partition("@")
    checkpoint = Path(file) if file else None
    if library == "timm":
        return load_timm(name, checkpoint, wanted)
    if library == "torchvision":
        return load_torchvision(name, checkpoint, wanted)
    if library == "transformers" and isdir(rest):
        return load_folder(Path(rest), wanted=wanted)  # which may be timm's: transformers opens some of these, too
    if library == "transformers":
        return load_transformers(rest, local=False, wanted=wanted)
    if trust:
        print(f"warning: running code from {rest}, as --trust allows", file=sys.stderr, flush=True)
    return load_program(library, Path(rest), trust=trust, wanted=wanted)


def _load_folder(folder: Path, wanted: PreprocessingConfig) -> LoadedClassifier:
    if isfile(folder):
        raise UserError(
            f"expected a teacher's folder, got the file {folder}; say which network its weights belong to, such as "
            f"timm:resnet50@{folder} or torchvision:resnet50@{folder}"
        )
    return load_folder(folder, wanted=wanted)


def load_teacher(
    source: str, classes: str | Sequence[str | ClassName], *, trust: bool = False,
    preprocessing: PreprocessingConfig = AS_IT_IS,
) -> Classifier:  # fmt: skip
    """Load the teacher, or several as one, and check that there is one output per class name.

    Args:
        source: ``pictograms``, a folder, ``timm:NAME@FILE``, ``torchvision:NAME@FILE``, ``transformers:ORG/NAME``,
            ``exported:FILE`` or ``torchscript:FILE``, or several in a FILE.toml.
        classes: names in the order of the teacher's outputs, or the name of a class list (``imagenet-1k``, a file). Of
            a teacher that carries names, some of its classes in any order will do: it keeps their outputs alone.
        trust: whether programs (``exported``, ``torchscript``) may be opened, which may run any code.
        preprocessing: what to do to images before the network sees them, in place of what the source says.

    Returns:
        A differentiable function of images (batch, channels, height, width) in [0, 1] to logits (batch, num_classes),
        on the CPU, in evaluation mode and with fixed weights.

    Raises:
        UserError: no such source, weights that don't fit, another number of outputs than classes, or logits other than
            those after the transform of the teacher's own library.
    """
    listed = load_classes(classes) if isinstance(classes, str) else classes
    class_names = [item if isinstance(item, str) else item.name for item in listed]
    if source.endswith(".toml"):
        return load_ensemble(Path(source), class_names, trust=trust)
    return _load_fitting(source, class_names, trust=trust, preprocessing=preprocessing)


def load_ensemble(path: Path, class_names: Sequence[str], *, trust: bool = False) -> Ensemble:
    """The teachers that a file lists, as one over all classes of the run.

    Args:
        path: of the list (``classes/teacher_list.py``).
        class_names: of the run's classes, in the order of the labels.
        trust: whether programs may be opened.

    Raises:
        UserError: the file isn't as it should be, a member names a class that isn't the run's, or a class has no
            teacher.
    """
    members, columns = [], []
    for teacher in read_teacher_list(path):
        loaded = load_source(teacher.source, trust=trust, preprocessing=teacher.preprocessing)
        member = loaded.classifier
        names = teacher.class_names or class_names
        if len(names) != member.num_classes:
            raise UserError(
                f"expected {member.num_classes} classes for {teacher.name} in {path}, one per output, got "
                f"{len(names)}; list them in its order, with - for outputs that are none of ours"
            )
        with naming(teacher.name):
            check_outputs(member, f"teacher {teacher.name}")
            check_parity(loaded, teacher.name)
        _say(loaded.notes)
        members.append(member)
        columns.append(class_indices(names, class_names, path))
    untaught = sorted(set(range(len(class_names))) - {label for classes in columns for label in classes})
    if untaught:
        raise UserError(
            f"expected a teacher for every class in {path}, got none for {class_names[untaught[0]]!r} "
            f"({len(untaught)} of {len(class_names)}); add one, or drop the class"
        )
    return Ensemble(members, columns, len(class_names)).eval().requires_grad_(False)


def _load_fitting(
    source: str, class_names: Sequence[str], *, trust: bool, preprocessing: PreprocessingConfig
) -> Classifier:
    """The teacher, with as many outputs as there are classes."""
    loaded = load_source(source, trust=trust, preprocessing=preprocessing)
    classifier = loaded.classifier
    with naming(source):
        check_outputs(classifier, "teacher")  # one image now, rather than an error in the middle of a run
        check_parity(loaded, source)
    _say(loaded.notes)
    if classifier.num_classes != len(class_names):
        number = classifier.num_classes
        keep_classes(classifier, source, class_names)
        # The embedded world has a list of some of its classes, which nobody takes for all of them by mistake.
        if source != "pictograms":
            _say([f"the teacher {source} knows {number} classes, of which the run has {len(class_names)}"])
    return classifier


def keep_classes(classifier: Classifier, source: str, class_names: Sequence[str]) -> None:
    """Leave a classifier the outputs of a run's classes alone, in their order.

    Args:
        classifier: a teacher, or the embedded judge, which is changed.
        source: of the teacher whose names its outputs have.
        class_names: of the run's classes.

    Raises:
        UserError: the source carries no names of the outputs, or a class is none of them.
    """
    expected = f"expected a class list with {classifier.num_classes} names, one per output of the teacher"
    try:
        labels = ClassLabels(names_of(classes_of_teacher(source)))
    except UserError:
        raise UserError(
            f"{expected}, got {len(class_names)}; make `classes` and `teacher` fit each other: of a teacher that "
            "carries names, some of them would do"
        ) from None
    found = {name: labels.find(name) for name in class_names}
    outputs = [output for output in found.values() if output is not None]
    if len(set(outputs)) < len(class_names):
        odd = next((repr(name) for name, output in found.items() if output is None), "one of them twice")
        raise UserError(
            f"{expected}, or some of the names that it carries, got {len(class_names)} with {odd}; "
            '`classes = "teacher"` takes all that it carries'
        )
    keep_outputs(classifier, outputs)


def _say(notes: Sequence[str]) -> None:
    # A worker process opens the teacher again, of which its driver has said this already.
    for note in notes if multiprocessing.parent_process() is None else ():
        warn(note)


def weights_digest(classifier: Classifier) -> str:
    """A digest of a classifier's weights and preprocessing: which teacher guided these images."""
    # The preprocessing counts: with another mean or size it is another teacher. An ensemble's members have one each.
    preprocessings = [module.preprocess for module in classifier.modules() if isinstance(module, Classifier)]
    digest = hashlib.sha256(repr(preprocessings).encode())
    _add_weights(digest, classifier)
    return digest.hexdigest()[:16]


def part_digests(classifier: Classifier) -> dict[str, str]:
    """Digests of what makes a classifier answer as it does, by name: weights, preprocessing, network.

    Of several they are each one's own, numbered from 1, with the classes that its outputs are.
    """
    if isinstance(classifier, Ensemble):
        digests: dict[str, str] = {}
        for number, member in enumerate(classifier.members, 1):
            own = part_digests(member) | {"classes": _digest_of(classifier.columns(number - 1))}
            digests |= {f"{number} {name}": digest for name, digest in own.items()}
        return digests
    weights = hashlib.sha256()
    _add_weights(weights, classifier)
    network = {name: classifier.config[name] for name in NETWORK if name in classifier.config}
    return {
        "weights": weights.hexdigest(),
        "preprocessing": _digest_of(to_config(classifier.preprocess)),
        **({"network": _digest_of(network)} if network else {}),
    }


def _digest_of(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _add_weights(digest: Any, classifier: Classifier) -> None:
    for name, tensor in sorted(classifier.state_dict().items()):  # sorted, whatever order modules were made in
        digest.update(name.encode())
        # As bytes, since numpy knows no bfloat16; a view, since a copy takes as long as the digest.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
