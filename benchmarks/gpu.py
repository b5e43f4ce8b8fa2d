"""What prismkd costs on one GPU, and whether its images are right there: one command that ends by itself.

Usage: python -m benchmarks.gpu [--minutes 5.5] [--out FILE] [--part sd-1.5 sdxl ...] [--tiny]

Nothing is downloaded: Stable Diffusion 1.5, SDXL and DiT-XL are drawn with random weights in their true shapes, the
embedded generator with its own. Every part has the seconds that it needs at least and those that it gets at most; one
for which too few are left is skipped with the reason. The results are written after each part, so that none is lost.
All times are taken in turns within one process, and each is recorded beside the medians.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch

from benchmarks.on_gpu.correctness import embedded, machine, marked_tests
from benchmarks.on_gpu.drawing import compiled, measure_shape
from benchmarks.on_gpu.scale import Found, Scale, free_memory, full_scale, tiny_scale
from benchmarks.on_gpu.training import distillation
from benchmarks.on_gpu.workers import workers
from benchmarks.publish import RESULTS, head_commit
from prismkd.errors import UserError


@dataclass(frozen=True)
class GpuBench:
    """Guided drawing, distillation, two workers and correctness on one GPU, within a given time."""

    minutes: float = 5.5
    """When everything has ended, the imports apart."""
    out: Path = RESULTS / "gpu.json"
    """Where the results go."""
    part: tuple[str, ...] = ()
    """Only these parts; their results replace those that are in the file. Empty: all, and a new file."""
    tiny: bool = False
    """Everything in miniature on the CPU, to see that it runs."""


@dataclass(frozen=True)
class Part:
    """One part of the benchmark.

    Attributes:
        measure: fills what it finds into a dictionary, and starts no further round after the given time.
        needs: seconds below which it isn't begun.
        gets: seconds after which it is stopped.
    """

    measure: Callable[[Scale, Found, float], None]
    needs: float
    gets: float


PARTS = {
    "machine": Part(machine, 0, 30),
    "sd-1.5": Part(partial(measure_shape, "sd-1.5"), 25, 80),
    "sdxl": Part(partial(measure_shape, "sdxl"), 25, 80),
    "dit-xl": Part(partial(measure_shape, "dit-xl"), 15, 35),
    "distillation": Part(distillation, 20, 40),
    "compile": Part(compiled, 60, 120),  # before what is known of one GPU already
    "workers": Part(workers, 30, 50),
    "embedded": Part(embedded, 10, 25),
    "tests": Part(marked_tests, 5, 45),
}


class OutOfTimeError(BaseException):
    """A part has used its seconds up; no handler of ordinary errors may swallow it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in the main thread after ``seconds``."""

    def stop(number: int, frame: object) -> None:
        raise OutOfTimeError(f"{seconds:.0f} s are over")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measure_part(part: Part, scale: Scale, left: float) -> Found:
    """What a part finds in the ``left`` seconds, or why it found nothing."""
    if left < part.needs:
        return {"skipped": f"needs {part.needs:.0f} s, {max(left, 0):.0f} s are left"}
    found: Found = {}
    start, limit = time.monotonic(), min(part.gets, max(left, 1.0))
    try:
        with time_limit(limit):
            torch.manual_seed(0)
            part.measure(scale, found, start + 0.8 * limit)
    except OutOfTimeError as stop:
        found["stopped"] = str(stop)
    except Exception:  # whatever it is, the other parts go on
        found["error"] = traceback.format_exc()
    return {**found, "part_seconds": time.monotonic() - start}


def measure(settings: GpuBench, scale: Scale, parts: dict[str, Part]) -> Found:
    """All chosen parts in their order; returns what is in the file, too."""
    start, names = time.monotonic(), chosen(settings, parts)
    results = new_results(settings, scale)
    for place, name in enumerate(names):
        left = 60 * settings.minutes - (time.monotonic() - start)
        found = results["parts"][name] = measure_part(parts[name], scale, left)
        write(settings.out, results)
        elapsed = time.monotonic() - start
        print(f"{name}: {outcome(found)} ({elapsed:.0f} s in all)", flush=True)
        if "skipped" not in found and not free_memory(scale.device) and names[place + 1 :]:
            command = restart_command(settings, names[place + 1 :], settings.minutes - elapsed / 60)
            print(f"{scale.device} no longer answers; going on in a new process", flush=True)
            os.execv(command[0], command)
    return results


def chosen(settings: GpuBench, parts: dict[str, Part]) -> tuple[str, ...]:
    """The parts that are asked for.

    Raises:
        UserError: there is none of that name.
    """
    unknown = [name for name in settings.part if name not in parts]
    if unknown:
        raise UserError(f"expected --part among {', '.join(parts)}, got {', '.join(unknown)}; choose of these")
    return settings.part or tuple(parts)


def new_results(settings: GpuBench, scale: Scale) -> Found:
    """What made the results, on what, when and at which commit; with the file's parts where only some are asked for."""
    device = scale.device
    words = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    try:
        commit = head_commit()
    except (OSError, subprocess.CalledProcessError):  # a copy without its history
        commit = ""
    old = json.loads(settings.out.read_text())["parts"] if settings.part and settings.out.is_file() else {}
    return {"schema": 1, "command": "python -m benchmarks.gpu" + " --tiny" * settings.tiny, "seeds": [0],
            "hardware": f"{words}, torch {torch.__version__}", "date": datetime.now(UTC).date().isoformat(),
            "commit": commit, "steps": scale.num_steps, "parts": old}  # fmt: skip


def write(path: Path, results: Found) -> None:
    """Replace the file at once, so that a kill leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(results, indent=1) + "\n")
    new.replace(path)


def outcome(found: Found) -> str:
    """A part's end in a few words."""
    if "skipped" in found:
        return f"skipped, {found['skipped']}"
    if "error" in found:
        return f"failed after {found['part_seconds']:.1f} s: {found['error'].strip().splitlines()[-1]}"
    return f"{'stopped' if 'stopped' in found else 'done'} after {found['part_seconds']:.1f} s"


def restart_command(settings: GpuBench, names: Sequence[str], minutes: float) -> list[str]:
    """The command that measures the remaining parts and adds them to the same file."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--minutes", f"{minutes:.3f}", "--out", str(settings.out)]
    return [*command, *(["--tiny"] if settings.tiny else []), "--part", *names]


def main(arguments: list[str]) -> None:
    """Run the benchmark with what follows its name on the command line.

    Raises:
        UserError: no GPU, or no part of that name.
    """
    import tyro

    settings = tyro.cli(GpuBench, args=arguments, prog="python -m benchmarks.gpu")
    measure(settings, tiny_scale() if settings.tiny else full_scale(), PARTS)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
