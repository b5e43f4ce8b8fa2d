"""How good the embedded generator is, by an outside judge: class names alone, and the sense spelled out.

Usage: python -m benchmarks.pictograms.quality [--images-per-class 20]

Writes ``benchmarks/results/generator.json``; ``python -m benchmarks.publish`` makes the pages from it.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from benchmarks.publish import write_results
from prismkd.assets import asset
from prismkd.classes import load_classes
from prismkd.classes.lists import names_of
from prismkd.classes.matching import ClassLabels
from prismkd.classifiers import load_classifier
from prismkd.config import Config
from prismkd.config.seeds import derive
from prismkd.data import load_labeled_images
from prismkd.evaluation.images import evaluate_images
from prismkd.generators import load_generator
from prismkd.prompts import PromptPlan
from prismkd.prompts.dpe import template_plan, with_defaults
from prismkd.prompts.senses import Sense, names_alone, unjudged_senses
from prismkd.synthesis.synthesizer import Synthesizer

SEEDS = (0, 1, 2)


def draw(synthesizer: Synthesizer, plan: PromptPlan, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of the first ``count`` prompts."""
    prompts = [plan[index] for index in range(count)]
    return synthesizer.draw_all(prompts), torch.tensor([prompt.label for prompt in prompts])


def main() -> None:
    """Draw images of both wordings, let the judge measure them beside the real test images, and record the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images-per-class", type=int, default=20)
    count = parser.parse_args().images_per_class
    config, classes = Config(), load_classes("pictograms")
    judge, teacher = load_classifier(asset("judge")), load_classifier(asset("teacher"))
    test = load_labeled_images(asset("test.parquet"), ClassLabels(names_of(classes)))
    synthesizer = Synthesizer(load_generator(config.generator), teacher)
    wordings: dict[str, list[Sense]] = {"name": names_alone(classes), "sense": unjudged_senses(classes, {}, 0)}
    template = with_defaults(config.prompts, config.generator.source).template
    results, timings = [], []
    for seed in SEEDS:  # the plans' seeds are derived: these are to be other images than those of a run
        for method, senses in wordings.items():
            plan = template_plan(senses, derive(seed, "quality"), template)
            start = time.monotonic()
            images, labels = draw(synthesizer, plan, count * len(classes))
            timings.append({"stage": "synthesize", "method": method, "seed": seed,
                            "seconds": round(time.monotonic() - start, 2), "images": len(images)})  # fmt: skip
            rows = evaluate_images(images, labels, teacher, judge, test, config.evaluation.nearest_k, method, seed)
            results += [row.to_dict() for row in rows]
            print(method, seed, [(row.metric, round(row.value, 3)) for row in rows], flush=True)
    for domain in ("id", "outline"):
        real = test.domain(domain)
        value = (judge(real.images).argmax(1) == real.labels).float().mean().item()
        results.append({"method": "real", "seed": 0, "domain": domain, "metric": "judge_top1", "value": round(value, 5),
                        "n": len(real.labels), "ci95": None})  # fmt: skip
    command = " ".join(["python -m benchmarks.pictograms.quality", *sys.argv[1:]])
    data = {"results": results, "timings": timings, "classes": [item.name for item in classes]}
    write_results("generator", command, SEEDS, data)


if __name__ == "__main__":
    main()
