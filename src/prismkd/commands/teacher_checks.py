"""Is this teacher what it seems? Outputs, preprocessing, gradients, speed and memory, before any image is drawn."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from prismkd.classifiers import Classifier, Ensemble, count_parameters, load_source, load_teacher
from prismkd.classifiers.classifier import check_outputs
from prismkd.classifiers.loaded import AS_IT_IS, LoadedClassifier
from prismkd.classifiers.parity import measure_parity
from prismkd.classifiers.preprocessing import probe_images
from prismkd.classifiers.sources import keep_classes
from prismkd.config import PreprocessingConfig
from prismkd.errors import UserError
from prismkd.evaluation.rows import Row
from prismkd.evaluation.students import TestImages, evaluate_student
from prismkd.guidance.energy import free_energy

NUM_PROBES, SPEED_BATCH, SPEED_SECONDS = 8, 16, 1.0
ANY_SIDE = 64  # pixels of what a teacher is shown that takes images of any size, as the embedded world's icons have


@dataclass(frozen=True)
class Check:
    """One finding: ``status`` is ok, warning or failed."""

    name: str
    status: str
    text: str

    def to_dict(self) -> dict[str, str]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Examined:
    """A teacher and what was found of it."""

    teacher: Classifier
    checks: list[Check]


def examine(
    source: str, class_names: list[str] | None, device: torch.device, *, trust: bool = False,
    preprocessing: PreprocessingConfig = AS_IT_IS,
) -> Examined:  # fmt: skip
    """All checks of a teacher that need no image of its classes.

    Args:
        source: as the setting ``teacher``.
        class_names: of the run's classes; None where no list was named.
        device: where speed and memory are measured.
        trust: whether programs may be opened.
        preprocessing: as the setting ``teacher_preprocessing``.

    Raises:
        UserError: it can't be loaded.
    """
    if source.endswith(".toml"):
        ensemble = load_teacher(source, class_names or [], trust=trust)
        assert isinstance(ensemble, Ensemble)
        checks = [Check("teachers", "ok", f"{len(ensemble.members)} for {ensemble.num_classes} classes")]
        for number, member in enumerate(ensemble.members):
            known = int((ensemble.known[number] > 0).sum())
            checks.append(Check(f"teacher {number}", "ok", f"{known} classes; {_size(member)}"))
        return Examined(ensemble, [*checks, *_behavior(ensemble, device)])
    loaded = load_source(source, trust=trust, preprocessing=preprocessing)
    teacher = loaded.classifier
    parity = _parity(loaded, is_set=preprocessing != AS_IT_IS)  # of all outputs, as the library has them
    size, outputs = _size(teacher), _outputs(teacher, source, class_names)
    return Examined(teacher, [
        Check("network", "ok", size),
        outputs,
        Check("preprocessing", "ok", teacher.preprocess.describe()),
        *(Check("note", "warning", note) for note in loaded.notes),
        parity,
        *_behavior(teacher, device),
    ])  # fmt: skip


def accuracy(teacher: Classifier, images: TestImages, device: torch.device, restrict_below: float = 0.0) -> list[Check]:
    """The teacher's top-1 on labeled test images, and its top-5 among 6 classes or more, of every domain.

    Args:
        teacher: examined.
        images: the test images.
        device: where the teacher looks at them.
        restrict_below: as the setting of evaluation.
    """
    placed = copy.deepcopy(teacher).to(device)
    rows = evaluate_student(placed, None, images, "teacher", 0, restrict_below=restrict_below).rows
    by_domain: dict[str, list[Row]] = {}
    for row in rows:
        if row.metric in ("top1", "top5"):
            by_domain.setdefault(row.domain, []).append(row)
    return [
        Check(f"accuracy on {domain}", "ok", f"{', '.join(map(_in_words, found))} ({found[0].n} images)")
        for domain, found in by_domain.items()
    ]


def _in_words(row: Row) -> str:
    """A share with its interval, such as ``top-1 88.3 % (86.1 to 90.2)``."""
    interval = f" ({100 * row.ci95[0]:.1f} to {100 * row.ci95[1]:.1f})" if row.ci95 else ""
    return f"{row.metric.replace('top', 'top-')} {100 * row.value:.1f} %{interval}"


def _size(teacher: Classifier) -> str:
    megabytes = sum(t.numel() * t.element_size() for t in teacher.state_dict().values()) / 2**20
    return f"{type(teacher.network).__name__}, {count_parameters(teacher):,} parameters, {megabytes:.1f} MiB"


def _outputs(teacher: Classifier, source: str, class_names: list[str] | None) -> Check:
    """Whether the outputs are those of the run's classes; a teacher that knows more of them keeps these alone."""
    check_outputs(teacher, "teacher")
    if class_names is None:
        return Check("outputs", "warning", f"{teacher.num_classes}; name the class list with --classes to compare")
    names = ", ".join(class_names[:3]) + (" ..." if len(class_names) > 3 else "")
    found = f"{teacher.num_classes} for {len(class_names)} classes ({names})"
    if len(class_names) == teacher.num_classes:
        return Check("outputs", "ok", found)
    try:
        keep_classes(teacher, source, class_names)
    except UserError:
        return Check("outputs", "failed", f"{found}; one name per output is needed, in its order, or names of some")
    return Check("outputs", "ok", f"{found}, which are some of its own")


def _parity(loaded: LoadedClassifier, *, is_set: bool) -> Check:
    """Logits after our preprocessing beside those after the library's own."""
    name = "preprocessing parity"
    parity = measure_parity(loaded, NUM_PROBES)
    if parity is not None:
        return Check(name, "ok" if parity.holds else "failed", parity.describe())
    whose = "you set it" if is_set else "the folder describes it itself"
    return Check(name, "ok", f"{whose}; no library's transform to compare with")


def _behavior(teacher: Classifier, device: torch.device) -> list[Check]:
    images = probe_images(NUM_PROBES, _native_size(teacher))
    return [_independence(teacher, images), _gradient(teacher, images), *_speed(teacher, device)]


def _native_size(teacher: Classifier) -> tuple[int, int]:
    """Of images that pass the preprocessing as they are, or nearly so."""
    first = teacher.members[0] if isinstance(teacher, Ensemble) else teacher
    resize = first.preprocess.resize
    return (resize, resize) if isinstance(resize, int) else resize or first.preprocess.crop or (ANY_SIDE, ANY_SIDE)


@torch.no_grad()
def _independence(teacher: Classifier, images: Tensor) -> Check:
    """An image's logits depend neither on the others of its batch nor on the call."""
    together = teacher(images)
    alone = torch.cat([teacher(image[None]) for image in images])
    difference = float((together - alone).abs().max() / together.std().clamp(min=1e-6))
    repeated = torch.equal(teacher(images), together)
    if difference > 1e-2:
        return Check(
            "evaluation mode",
            "failed",
            "an image's logits depend on the others of its batch; call .eval() before saving",
        )
    return Check(
        "evaluation mode",
        "ok" if repeated else "warning",
        "deterministic" if repeated else "two calls differ: is there dropout?",
    )


def _gradient(teacher: Classifier, images: Tensor) -> Check:
    """Guidance needs the energy's gradient with respect to the image."""
    images = images.clone().requires_grad_()
    try:
        energy = free_energy(teacher(images)).sum()
        (gradient,) = torch.autograd.grad(energy, images)
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:120]
        return Check(
            "gradient", "failed", f"none reaches the image ({reason}); guidance needs a differentiable teacher"
        )
    sizes = gradient.flatten(1).norm(dim=1)
    if not bool(gradient.isfinite().all()):
        return Check("gradient", "failed", "not finite; use float32 weights")
    if float(sizes.min()) == 0:
        return Check(
            "gradient", "failed", f"zero for {int((sizes == 0).sum())} of {len(sizes)} images; guidance can't act"
        )
    covered = float((gradient != 0).float().mean())
    return Check(
        "gradient",
        "ok",
        f"reaches {covered:.0%} of the pixels, norm {float(sizes.median()):.2g} (median of {len(sizes)})",
    )


def _speed(teacher: Classifier, device: torch.device) -> list[Check]:
    """Images per second without and with the gradient, and the memory that it takes where the device counts it."""
    placed = copy.deepcopy(teacher).to(device)
    images = probe_images(NUM_PROBES, _native_size(teacher)).repeat(SPEED_BATCH // NUM_PROBES, 1, 1, 1).to(device)

    def forward() -> None:
        with torch.no_grad():
            placed(images)

    def backward() -> None:
        given = images.clone().requires_grad_()
        torch.autograd.grad(free_energy(placed(given)).sum(), given)

    counts = device.type == "cuda"
    if counts:
        torch.cuda.reset_peak_memory_stats(device)
    try:
        plain, guided = _per_second(forward, device), _per_second(backward, device)
    except RuntimeError as error:
        return [Check("throughput", "failed", str(error).splitlines()[0][:120])]
    how = f"{device}, batches of {len(images)}, {images.shape[-2]} x {images.shape[-1]} pixels"
    checks = [Check("throughput", "ok", f"{plain:.0f} images/s, {guided:.0f} with the gradient ({how})")]
    if counts:
        megabytes = torch.cuda.max_memory_allocated(device) / 2**20
        checks.append(Check("memory", "ok", f"{megabytes:.0f} MiB at most, with the gradient"))
    return checks


def _per_second(work: Callable[[], None], device: torch.device) -> float:
    work()
    count, start = 0, time.perf_counter()
    while count < 2 or time.perf_counter() - start < SPEED_SECONDS:
        work()
        count += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return count * SPEED_BATCH / (time.perf_counter() - start)


def verdict(checks: list[Check]) -> None:
    """Raise UserError where a check failed."""
    failed = [check for check in checks if check.status == "failed"]
    if failed:
        raise UserError(f"expected a teacher that passes every check, got {len(failed)} failed: "
                        f"{', '.join(check.name for check in failed)}; see above")  # fmt: skip
