"""What the teacher says of unguided images: which sense of a class name it means, which contents keep the class, and
where its energies lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prismkd.config import GuidanceConfig
from prismkd.energy import free_energy
from prismkd.errors import UserError
from prismkd.generators import TextToImage
from prismkd.guidance import Calibration, calibrate
from prismkd.guidance.teacher_energy import TeacherEnergy
from prismkd.prompts import Prompt, PromptPlan
from prismkd.prompts.allocation import Allocation, allocate
from prismkd.prompts.content import compose
from prismkd.prompts.plan import image_seed
from prismkd.prompts.senses import Score, Sense
from prismkd.shards import Sample
from prismkd.synthesis import Progress, Synthesizer
from prismkd.teachers import Classifier

PROBE_SEED = 7_000_000  # far from the runs' own seeds
NUM_GRADIENT_PROBES = 48
CONTENT_MARGIN = 1.0  # nats of log probability that a content may lose against the plain form
PLAIN = "a {}"

Scores = Mapping[tuple[int, str], Score]  # by label and prompt


# --- senses and contents ---------------------------------------------------------------------------------------------


def sense_prompts(senses: Sequence[Sense], num_probes: int, phrase: str, seed: int = PROBE_SEED) -> list[Prompt]:
    """Probes of every wording, in a style's ``phrase``; probe i has the same noise for all of them."""
    texts = [[compose(phrase, PLAIN, w.text) for w in sense.wordings] for sense in senses]
    return _probes(senses, texts, num_probes, seed)


def content_prompts(
    senses: Sequence[Sense], contents: Sequence[Sequence[str]], num_probes: int, phrase: str
) -> list[Prompt]:
    """Probes of every content of every class, the plain form among them."""
    texts = [
        [compose(phrase, content, sense.text) for content in dict.fromkeys((PLAIN, *own))]
        for sense, own in zip(senses, contents, strict=True)
    ]
    return _probes(senses, texts, num_probes, PROBE_SEED)


def _probes(senses: Sequence[Sense], texts: Iterable[list[str]], num_probes: int, seed: int) -> list[Prompt]:
    wanted = [(label, text, probe) for label, own in enumerate(texts) for text in own for probe in range(num_probes)]
    return [
        Prompt(index, label, senses[label].class_name, text, "probe", image_seed(seed, probe))
        for index, (label, text, probe) in enumerate(wanted)
    ]


def scores_of(samples: Iterable[Sample]) -> dict[tuple[int, str], Score]:
    """What the teacher says of each prompt's probes, by label and prompt."""
    groups: dict[tuple[int, str], list[tuple[float, float, bool]]] = {}
    for sample in samples:
        row = sample.metadata
        said = (row["log_probability"], row["energy_after"], row["teacher_top1"] == sample.label)
        groups.setdefault((sample.label, row["prompt"]), []).append(said)
    return {key: _score(torch.tensor(rows, dtype=torch.float64)) for key, rows in groups.items()}


def _score(rows: Tensor) -> Score:
    """The means over probes, (n, 3) of log probability, energy and agreement."""
    mean = rows.mean(0).tolist()
    error = float(rows[:, 0].std() / math.sqrt(len(rows))) if len(rows) > 1 else 0.0
    return Score(mean[0], error, mean[1], mean[2])


def wording_score(scores: Scores, phrase: str) -> Callable[[int, str], Score]:
    """The score of a class's wording, as ``senses.choose`` asks for it; the lowest where every probe was broken."""
    lowest = Score(-math.inf, 0.0, math.inf, 0.0)
    return lambda label, text: scores.get((label, compose(phrase, PLAIN, text)), lowest)


@dataclass(frozen=True)
class Dropped:
    """A content that is not used, and why."""

    class_name: str
    content: str
    reason: str


def keep_contents(
    senses: Sequence[Sense], contents: Sequence[Sequence[str]], scores: Scores, phrase: str
) -> tuple[list[list[str]], list[Dropped]]:
    """Drop the contents whose probes the teacher takes for the class less surely than the plain form's, and than even.

    What could be chance, by the standard error of the difference, is kept.

    Args:
        senses: chosen, one per class.
        contents: of every class.
        scores: of ``content_prompts``; a content without a score is kept.
        phrase: the style that the probes had.
    """
    kept: list[list[str]] = []
    dropped = []
    for label, (sense, own) in enumerate(zip(senses, contents, strict=True)):
        score = {c: scores.get((label, compose(phrase, c, sense.text))) for c in (PLAIN, *own)}
        plain = score[PLAIN]
        least = min(plain.log_probability - CONTENT_MARGIN, math.log(0.5)) if plain else -math.inf
        noise = plain.error if plain else 0.0
        lost = {c: s for c, s in score.items()
                if s and c != PLAIN and s.log_probability + math.hypot(s.error, noise) < least}  # fmt: skip
        kept.append([c for c in own if c not in lost] or [PLAIN])
        for content, found in lost.items():
            reason = f"the teacher's log probability is {found.log_probability:.2f}, clearly below {least:.2f}"
            dropped.append(Dropped(sense.class_name, content, reason))
    return kept, dropped


def keep_near_contents(
    senses: Sequence[Sense], contents: Sequence[Sequence[str]], generator: TextToImage
) -> tuple[list[list[str]], list[Dropped]]:
    """Drop the contents that the generator's text encoder takes for another class."""
    names = generator.text_features([compose("{}", PLAIN, sense.text) for sense in senses])
    if names is None:
        return [list(own) for own in contents], []
    center = names.mean(0)
    names = F.normalize(names - center, dim=1)
    kept: list[list[str]] = []
    dropped = []
    for label, (sense, own) in enumerate(zip(senses, contents, strict=True)):
        features = generator.text_features([compose("{}", content, sense.text) for content in own])
        assert features is not None
        nearest = (F.normalize(features - center, dim=1) @ names.T).argmax(1).tolist()
        kept.append([c for c, found in zip(own, nearest, strict=True) if found == label or c == PLAIN] or [PLAIN])
        for content, found in zip(own, nearest, strict=True):
            if content not in kept[-1]:
                reason = f"the text encoder finds it nearer to {senses[found].class_name}"
                dropped.append(Dropped(sense.class_name, content, reason))
    return kept, dropped


# --- allocation ------------------------------------------------------------------------------------------------------


def pilot_allocation(teacher: Classifier, plan: PromptPlan, images: Tensor, indices: Sequence[int]) -> Allocation:
    """What a pilot says, in the teacher's features.

    Args:
        teacher: says which images are of their class.
        plan: that the pilot was drawn from.
        images: (n, channels, height, width) in [0, 1].
        indices: (n,) their places in the plan.
    """
    prompts, names = [plan[index] for index in indices], [style.name for style in plan.styles]
    batches = list(images.split(256))
    labels = np.array([prompt.label for prompt in prompts])
    styles = np.array([names.index(prompt.style) for prompt in prompts])
    features = predict_images(teacher.features, batches).flatten(1).double().numpy()
    accepted = predict_images(teacher, batches).argmax(1).numpy() == labels
    return allocate(features, labels, styles, accepted, len(plan.subjects), len(names))


# --- calibration -----------------------------------------------------------------------------------------------------


def draw_unguided(prompts: list[Prompt], synthesizer: Synthesizer, progress: Progress) -> list[Tensor]:
    """Images of ``prompts``, one tensor per batch, drawn without guidance."""
    plain = Synthesizer(synthesizer.generator, synthesizer.teacher)
    size = plain.generator.config.batch_size
    batches = []
    for start in range(0, len(prompts), size):
        batches.append(plain.draw(prompts[start : start + size])[0])
        progress(len(batches[-1]))
    return batches


@torch.no_grad()
def predict_images(network: Callable[[Tensor], Tensor], batches: list[Tensor]) -> Tensor:
    """Outputs (n, ...) of images in batches."""
    return torch.cat([network(images) for images in batches])


def _react_threshold(teacher: Classifier, batches: list[Tensor], quantile: float) -> float | None:
    """The quantile of the teacher's penultimate features on unguided images; None where ReAct is off."""
    if quantile >= 1:
        return None
    features = predict_images(teacher.features, batches).flatten().sort().values  # torch.quantile stops at 16 M values
    return float(features[round(quantile * (len(features) - 1))])


def run_calibration(
    plan: PromptPlan, synthesizer: Synthesizer, config: GuidanceConfig, progress: Progress
) -> tuple[Calibration, list[float]]:
    """Draw unguided images, measure energies on the way and at the end, and set the guidance's targets.

    Returns:
        The calibration, and the free energy of every image.

    Raises:
        UserError: the teacher's energies of unguided images aren't finite.
    """
    teacher = synthesizer.teacher
    prompts = [plan[index] for index in range(config.num_calibration_images)]
    batches = draw_unguided(prompts, synthesizer, progress)
    threshold = _react_threshold(teacher, batches, config.react_quantile)
    view = TeacherEnergy(teacher, Calibration([], 0.0, 0.0, [], react_threshold=threshold), config)
    logits = predict_images(view.logits, batches)
    energies = free_energy(logits, config.temperature)
    if not energies.isfinite().all():
        raise UserError(
            f"expected finite energies of unguided images, got {int((~energies.isfinite()).sum())} of {len(energies)} "
            "that aren't; check the teacher's weights, and use generator.dtype float32"
        )
    first = calibrate(energies, logits.argmax(1), torch.empty(0), teacher.num_classes)
    first = replace(first, react_threshold=threshold)
    gradients, latents = _probe_gradients(prompts, synthesizer, config, first)
    found = calibrate(energies, logits.argmax(1), gradients, teacher.num_classes)
    latent_rms = float(latents.max()) if len(latents) else 0.0
    return replace(found, latent_rms=latent_rms, react_threshold=threshold), energies.tolist()


def _probe_gradients(
    prompts: list[Prompt], synthesizer: Synthesizer, config: GuidanceConfig, calibration: Calibration
) -> tuple[Tensor, Tensor]:
    """The usual sizes of gradients and latents: a few samples, guided so weakly that nothing moves."""
    weakest = replace(config, strength=1e-9)
    probe = Synthesizer(synthesizer.generator, synthesizer.teacher, weakest, calibration)
    gradients, latents = [torch.empty(0)], [torch.empty(0)]
    size = synthesizer.generator.config.batch_size
    for start in range(0, min(NUM_GRADIENT_PROBES, len(prompts)), size):
        edit = probe.draw(prompts[start : start + size])[1]
        assert edit is not None
        gradients += [sizes.cpu() for sizes in edit.gradient_sizes]
        latents += [sizes.cpu() for sizes in edit.latent_sizes]
    return torch.cat(gradients), torch.cat(latents)
