"""The prompts stage of a run: senses, contents and plans, each decided once, recorded, and found again on resuming."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from math import ceil

import numpy as np
from PIL import Image

from prismkd.config import METHODS
from prismkd.records.directory import read_json, write_json
from prismkd.errors import UserError
from prismkd.prompts.judge import Dropped, judge_contents, judge_pilot, judge_senses
from prismkd.prompts import Prompt, PromptPlan, diversified_plan, plain_plan
from prismkd.prompts.dpe import contents_from_rows, contents_of_classes
from prismkd.prompts.language_model import ask_about
from prismkd.prompts.senses import Sense, given_senses, senses_from_rows, senses_to_rows
from prismkd.prompts.suggestions import SenseSuggestion
from prismkd.runs.run import Run
from prismkd.shards import Sample, is_committed, read_samples, write_shard
from prismkd.synthesis.synthesizer import Synthesizer
from prismkd.errors import warn

PROBE_SIDE = 96  # pixels; probes are kept to be looked at
EXAMPLES_PER_CLASS = 3


def prompts(run: Run) -> None:
    """Choose senses and contents once per run, and write each method's plan."""
    num_images = run.config.synthesis.images_per_class * len(run.classes)
    for seed, method in run.jobs:
        path = run.folder(seed, method) / "prompts.json"
        if method == "real" or (path.is_file() and read_json(path)["num_images"] >= num_images):
            continue
        plan = load_plan(run, seed, method) if path.is_file() else _plan(run, seed, method)
        shown = min(EXAMPLES_PER_CLASS * len(run.classes), pilot_size(run, method, num_images) or num_images)
        write_json(path, {"plan": plan.to_dict(), "plan_hash": plan.hash(), "num_images": num_images,
                          "examples": [asdict(plan[i]) for i in range(shown)]})  # fmt: skip


def _plan(run: Run, seed: int, method: str) -> PromptPlan:
    config = run.config.prompts
    if not METHODS[method].diversified:
        return plain_plan(run.classes, seed, config.template)
    chosen = senses(run)
    return diversified_plan(run.classes, chosen, contents(run, chosen), config, seed)


def load_plan(run: Run, seed: int, method: str) -> PromptPlan:
    """The plan that the prompts stage wrote."""
    path = run.folder(seed, method) / "prompts.json"
    if not path.is_file():
        raise UserError(f"expected {path}, found none; run `prismkd prompts` first")
    return PromptPlan.from_dict(read_json(path)["plan"])


# --- senses ----------------------------------------------------------------------------------------------------------


def senses(run: Run) -> list[Sense]:
    """Every class's sense; the teacher judges the wordings unless ``prompts.num_probes`` is 0."""
    path, config = run.directory / "senses.json", run.config.prompts
    if path.is_file():
        return senses_from_rows(read_json(path)["senses"], path)
    start, drawn = time.monotonic(), list[Prompt]()
    found = _candidates(run)
    if config.num_probes:
        found = judge_senses(found, config, partial(_draw_probes, run, drawn))
        _warn_of_lost(found)
    write_json(path, {"seconds": time.monotonic() - start, "images": len(drawn), "senses": senses_to_rows(found)})
    return found


def _candidates(run: Run) -> list[Sense]:
    """Every class's wordings, none judged; kept, since a language model may answer otherwise the next time."""
    path = run.directory / "candidates.json"
    if not path.is_file():
        found = given_senses(run.classes, _suggestions(run), run.config.prompts.max_senses)
        write_json(path, {"senses": senses_to_rows(found)})
    return senses_from_rows(read_json(path)["senses"], path)


def _suggestions(run: Run) -> Mapping[str, Sequence[SenseSuggestion]]:
    """A language model's senses, where one is named; classes without an answer get none."""
    config, names = run.config.prompts.language_model, [item.name for item in run.classes]
    if not config.url:
        return {}
    with run.track("language model", len(names)) as progress:
        answers = ask_about(names, config, run.directory / "language-model", progress)
    problems = {name: answer.problem for name, answer in answers.items() if answer.problem}
    for name, problem in list(problems.items())[:3]:
        warn(f"the language model gave nothing for {name!r}: {problem}; the built-in contents serve")
    if len(problems) > 3:
        warn(f"the language model gave nothing for {len(problems)} of {len(names)} classes in all")
    return {name: answer.senses for name, answer in answers.items()}


def _warn_of_lost(found: Sequence[Sense]) -> None:
    lost = [sense.class_name for sense in found if sense.lost]
    if lost:
        warn(
            f"the teacher takes no probe image for {', '.join(lost[:5])}"
            + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
            + "; a definition or a synset in the class list may help (start a new --out then)"
        )


# --- contents --------------------------------------------------------------------------------------------------------


def contents(run: Run, chosen: Sequence[Sense]) -> list[list[str]]:
    """Every class's contents, without those that lose the class."""
    path, config = run.directory / "contents.json", run.config.prompts
    if path.is_file():
        return contents_from_rows(read_json(path)["contents"], len(chosen), path)
    start, drawn = time.monotonic(), list[Prompt]()
    found, dropped = contents_of_classes(chosen, config), list[Dropped]()
    if config.num_content_probes and config.content:
        found, dropped = judge_contents(chosen, found, config, run.generator.text_features, partial(_draw_probes, run, drawn))
    write_json(path, {"seconds": time.monotonic() - start, "images": len(drawn), "contents": found,
                      "dropped": [asdict(row) for row in dropped]})  # fmt: skip
    return found


# --- probes ----------------------------------------------------------------------------------------------------------


def _draw_probes(run: Run, drawn: list[Prompt], name: str, wanted: list[Prompt]) -> Iterator[Sample]:
    """Unguided images of ``wanted``, kept small in shards so that they can be looked at and a crash loses few.

    What was asked for is added to ``drawn``.
    """
    drawn += wanted
    folder, size = run.directory / "probes" / name, run.config.synthesis.shard_size
    identity = [[p.text for p in wanted], asdict(run.config.generator), run.config.teacher]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    synthesizer = Synthesizer(run.generator, run.teacher)
    with run.track(f"{name} (teacher as judge)", len(wanted)) as progress:
        for shard, start in enumerate(range(0, len(wanted), size)):
            batch = wanted[start : start + size]
            if is_committed(folder, shard, digest):
                progress(len(batch))
            else:
                write_shard(folder, shard, map(_shrunk, synthesizer.samples(batch, progress)), digest)
    return read_samples(folder)


def _shrunk(sample: Sample) -> Sample:
    picture = Image.fromarray(sample.image)
    picture.thumbnail((PROBE_SIDE, PROBE_SIDE), Image.Resampling.LANCZOS)
    return replace(sample, image=np.asarray(picture))


# --- adaptive allocation ---------------------------------------------------------------------------------------------


def pilot_size(run: Run, method: str, count: int) -> int:
    """Images of a method before coverage decides: whole rounds over the classes; 0 where nothing adapts.

    Raises:
        UserError: there are too few images per class for a pilot and a rest.
    """
    share, num_classes = run.config.prompts.pilot_share, len(run.classes)
    if not share or not METHODS[method].diversified:
        return 0
    if count < 2 * num_classes:
        raise UserError(
            f"expected at least two images per class for prompts.pilot_share, got {count} of {num_classes} classes; "
            "raise synthesis.images_per_class or set pilot_share to 0"
        )
    return min(max(1, round(share * count / num_classes)), count // num_classes - 1) * num_classes


def allocated_plan(run: Run, seed: int, method: str, plan: PromptPlan, pilot: int) -> PromptPlan:
    """The plan whose classes and styles after the pilot follow from the pilot's images, decided once."""
    path = run.folder(seed, method) / "allocation.json"
    if not path.is_file():
        start = time.monotonic()
        images = run.images(seed, method)
        shards = range(ceil(pilot / run.config.synthesis.shard_size))
        samples = (sample for sample in read_samples(images, shards) if sample.index < pilot)
        viewer = Synthesizer(run.generator, run.teacher).viewer
        found = judge_pilot(viewer, run.generator.device, plan, samples)
        write_json(path, {"pilot": pilot, **asdict(found), "seconds": time.monotonic() - start})
    data = read_json(path)
    return plan.allocated(pilot, data["class_shares"], data["style_factors"])
