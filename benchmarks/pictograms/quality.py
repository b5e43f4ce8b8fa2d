"""How good the embedded generator is, by an outside judge: class names alone, and the sense spelled out.

Usage: python -m benchmarks.pictograms.quality [--images-per-class 20]
       python -m benchmarks.pictograms.quality --sheet

Every finished cell is a file in ``runs/generator-HASH``, the hash being that of all settings; the same command
continues where it was stopped. It writes ``benchmarks/results/generator.json``, of which ``python -m
benchmarks.publish`` makes the pages, and a sheet of all classes for them, ``docs/images/pictograms-classes.webp``; with
``--sheet`` the sheet alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from benchmarks.cells import Cells, folder_of
from benchmarks.embedded import judge_of
from benchmarks.pictograms.pictures import SIZE
from benchmarks.publish import ROOT, write_results
from prismkd import Config, Session
from prismkd.classifiers import predict
from prismkd.config.seeds import derive
from prismkd.distillation import to_bytes
from prismkd.evaluation.images import evaluate_images
from prismkd.prompts.dpe import template_plan
from prismkd.prompts.senses import Sense, names_alone, unjudged_senses
from prismkd.synthesis.synthesizer import Synthesizer, quantized

SEEDS = (0, 1, 2)
SHEET = ROOT / "docs" / "images" / "pictograms-classes.webp"
SHEET_COLUMNS, SHEET_IMAGES, TEXT_HEIGHT, GAP = 6, 4, 16, 8  # classes side by side, images of each, pixels


def wordings(session: Session) -> dict[str, list[Sense]]:
    """What is asked for, class by class."""
    return {"name": names_alone(session.classes), "sense": unjudged_senses(session.classes, {}, 0)}


def draw(session: Session, senses: list[Sense], seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Images and labels of the first ``count`` prompts."""
    plan = template_plan(senses, seed, session.prompts.template)
    prompts = [plan[index] for index in range(count)]
    images = quantized(Synthesizer(session.generator, session.teacher).draw_all(prompts))
    return images, torch.tensor([prompt.label for prompt in prompts])


def measure(session: Session, method: str, seed: int, images_per_class: int) -> dict[str, Any]:
    """One wording and seed: metrics beside the real test images, the judge's top-1 of every class, and the seconds."""
    senses, num_classes = wordings(session)[method], len(session.classes)
    _ = session.generator  # is loaded here, which is no part of drawing
    start = time.monotonic()
    # The plan's seed is derived: these are to be other images than those of a run
    images, labels = draw(session, senses, derive(seed, "quality"), images_per_class * num_classes)
    timing = {"stage": "synthesize", "method": method, "seed": seed, "seconds": round(time.monotonic() - start, 2),
              "images": len(images)}  # fmt: skip
    judge, nearest_k = judge_of(session), session.config.evaluation.nearest_k
    rows = evaluate_images(images, labels, session.teacher, judge, session.test, nearest_k, method, seed)
    right = (predict(judge, images).argmax(1) == labels).float()
    per_class = [
        {"method": method, "seed": seed, "class": item.name, "judge_top1": round(float(right[labels == k].mean()), 5)}
        for k, item in enumerate(session.classes)
    ]
    return {"results": [row.to_dict() for row in rows], "timings": [timing], "per_class": per_class,
            "judge_top1": float(right.mean())}  # fmt: skip


def measure_judge(session: Session) -> dict[str, Any]:
    """The judge on real test icons."""
    results = []
    for domain in ("id", "outline"):
        real = session.test.domain(domain)
        value = float((predict(judge_of(session), real.images).argmax(1) == real.labels).float().mean())
        results.append({"method": "real", "seed": 0, "domain": domain, "metric": "judge_top1", "value": round(value, 5),
                        "n": len(real.labels), "ci95": None})  # fmt: skip
    return {"results": results, "timings": [], "per_class": []}


def sheet(session: Session) -> Image.Image:
    """Some images of every class, from plain prompts of seed 0, under its name."""
    num_classes = len(session.classes)
    images, _ = draw(session, names_alone(session.classes), 0, SHEET_IMAGES * num_classes)
    pixels = to_bytes(images).permute(0, 2, 3, 1).numpy()
    num_rows = -(-num_classes // SHEET_COLUMNS)
    width, height = SHEET_IMAGES * SIZE + GAP, SIZE + TEXT_HEIGHT + GAP
    page = Image.new("RGB", (SHEET_COLUMNS * width + GAP, num_rows * height + GAP), "white")
    write, font = ImageDraw.Draw(page), ImageFont.load_default(TEXT_HEIGHT - 3)
    for number, item in enumerate(session.classes):
        row, column = divmod(number, SHEET_COLUMNS)
        left, top = GAP + column * width, GAP + row * height
        write.text((left, top), item.name, "black", font)
        of_class = np.concatenate(list(pixels[number::num_classes]), axis=1)
        page.paste(Image.fromarray(of_class), (left, top + TEXT_HEIGHT))
    return page


def main() -> None:
    """Draw images of both wordings, let the judge measure them beside the real test images, and record the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images-per-class", type=int, default=20)
    parser.add_argument("--sheet", action="store_true", help="draw the sheet of all classes alone")
    arguments = parser.parse_args()
    session, count = Session(Config()), arguments.images_per_class
    sheet(session).save(SHEET, quality=60, method=6)  # below 400 kB
    if arguments.sheet:
        return
    cells = Cells(folder_of("generator", session, count))
    found = [cells.get(f"{method} {seed}", partial(measure, session, method, seed, count))
             for seed in SEEDS for method in wordings(session)]  # fmt: skip
    found.append(cells.get("judge", partial(measure_judge, session)))
    data = {part: [row for cell in found for row in cell[part]] for part in ("results", "timings", "per_class")}
    command = " ".join(["python -m benchmarks.pictograms.quality", *sys.argv[1:]])
    write_results("generator", command, SEEDS, {**data, "classes": [item.name for item in session.classes]})


if __name__ == "__main__":
    main()
