"""Ways of drawing, timed in turns within one process, so that drift of the machine's speed cancels."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from benchmarks.cost.seconds import time_once
from benchmarks.on_gpu.scale import Found, Scale, free_memory

Draws = dict[str, Callable[[int], object]]  # ways of drawing, each a function of the number of steps
UNGUIDED = "unguided"


def time_in_turns(rows: Found, draws: Draws, num_images: int, scale: Scale, until: float) -> None:
    """Time every way of drawing once per round, in alternating order, after a shorter round that isn't timed.

    What fails is recorded and left out. There is one timed round at least, and none that would end after ``until``.
    """
    for name in draws:
        rows[name] = {"all_seconds": []}
    try:
        for turn in range(scale.num_rounds + 1):
            start = time.monotonic()
            for name in list(draws) if turn % 2 else list(draws)[::-1]:
                if "error" not in rows[name]:
                    _take_turn(rows[name], draws[name], turn, scale)
            now = time.monotonic()
            if turn and now + (now - start) > until:
                break
    finally:
        _summarize(rows, list(draws), num_images)


def _take_turn(row: Found, draw: Callable[[int], object], turn: int, scale: Scale) -> None:
    work = partial(draw, scale.num_steps if turn else scale.num_warm_up_steps)
    try:
        seconds, memory = time_once(work)
    except Exception as error:  # memory that runs out, or a compiler's own errors: the other ways go on
        row["error"] = f"{type(error).__name__}: {error}"[:2000]
        row["traceback"] = traceback.format_exc()[-4000:]
    else:
        if turn:
            row["all_seconds"].append(seconds)
            row["memory_gib"] = memory
        else:
            row["warm_up_seconds"] = seconds
    if "error" in row:
        free_memory(scale.device)  # out of the handler, whose traceback holds the tensors


def _summarize(rows: Found, names: Sequence[str], num_images: int) -> None:
    base = rows.get(UNGUIDED, {}).get("all_seconds", [])
    for row in (rows[name] for name in names if rows[name]["all_seconds"]):
        row["seconds_per_image"] = median(row["all_seconds"]) / num_images
        row["images_per_second"] = 1 / row["seconds_per_image"]
        if base:  # a stopped round may have fewer
            row["seconds_ratio"] = median(own / other for own, other in zip(row["all_seconds"], base, strict=False))
