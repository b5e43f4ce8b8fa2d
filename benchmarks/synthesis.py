"""What the engine costs beside the drawing: throughput, scaling, memory and the time to find out what is there.

Usage: python -m benchmarks.synthesis [--part engine] [--part options] [--part processes] [--part memory] [--part scan]
       python -m benchmarks.publish

Every figure is a ratio or a difference within one run on one machine. It writes ``benchmarks/results/synthesis.json``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.publish import RESULTS, ROOT, write_results
from benchmarks.stand_in import OpenStandIns, prepared
from prismkd.synthesis.workers import Policy, Pool

NUM_PAIRS, NUM_BATCHES = 5, 4  # of 48 images
PROCESS_SHARDS, PROCESS_SHARD_SIZE = 16, 48
MEMORY_SIZES, MEMORY_SHARD_SIZE = (10_000, 100_000, 1_000_000), 1_000  # images
SCANNED_SHARDS = 10_000
POLICY = Policy(max_tries=3, timeout=900, start_timeout=1800)


def measure_engine() -> dict[str, Any]:
    """Drawing to a verified shard on the disk, over the bare pipeline's images in memory, without and with guidance."""
    from benchmarks.embedded import embedded_session
    from prismkd.synthesis.synthesizer import Synthesizer, run_shard

    session = embedded_session()
    plan, size = session.plan("plain", 0), session.config.generator.batch_size
    indices = range(NUM_BATCHES * size)
    batches = [[plan[i] for i in indices[start : start + size]] for start in range(0, len(indices), size)]
    measured = {}
    for name, guidance in (("unguided", None), ("guided", session.config.guidance)):
        calibration = session.calibrate(guidance) if guidance else None
        synthesizer = Synthesizer(session.generator, session.teacher, guidance, calibration)
        pairs = []
        for _ in range(NUM_PAIRS):
            start = time.perf_counter()
            for batch in batches:
                synthesizer.draw(batch)
            bare = time.perf_counter() - start
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                run_shard(folder, 0, plan, indices, synthesizer, "benchmark", lambda count: None)
                pairs.append((bare, time.perf_counter() - start))
        ratios = [bare / to_disk for bare, to_disk in pairs]
        measured[name] = {"ratio": median(ratios), "ratios": ratios, "images": len(indices),
                          "images_per_second": len(indices) / median(to_disk for _, to_disk in pairs)}  # fmt: skip
    return measured


# --- PyTorch's options -------------------------------------------------------------------------------------------


def measure_options() -> dict[str, Any]:
    """What PyTorch offers for speed, each over what prismkd does by default on this device, without guidance."""
    from benchmarks.embedded import embedded_session
    from prismkd.config import GeneratorConfig
    from prismkd.generators import load_generator

    plan = embedded_session().plan("plain", 0)
    prompts = [plan[i] for i in range(NUM_BATCHES * GeneratorConfig.batch_size // 2)]

    def seconds(generator: Any) -> float:
        start, size = time.perf_counter(), generator.config.batch_size
        for first in range(0, len(prompts), size):
            batch = prompts[first : first + size]
            generator.sample([prompt.text for prompt in batch], [prompt.seed for prompt in batch])
        return time.perf_counter() - start

    default, measured = load_generator(GeneratorConfig()), {}
    seconds(default)
    for name, (config, change_pipeline) in _options().items():
        generator = load_generator(config)
        change_pipeline(generator.pipeline)
        seconds(generator)  # compiles
        ratios = [seconds(default) / seconds(generator) for _ in range(NUM_PAIRS)]
        measured[name] = {"ratio": median(ratios), "ratios": ratios}
    return measured


def _options() -> dict[str, tuple[Any, Callable[[Any], None]]]:
    """Each option as a generator's configuration, and a change of the loaded pipeline."""
    import torch
    from diffusers.models.attention_processor import AttnProcessor2_0

    from prismkd.config import GeneratorConfig

    def unchanged(pipeline: Any) -> None:
        pass

    def channels_last(pipeline: Any) -> None:
        for model in (pipeline.transformer, pipeline.vae):
            model.to(memory_format=torch.channels_last)

    def fused_attention(pipeline: Any) -> None:
        pipeline.transformer.set_attn_processor(AttnProcessor2_0())

    return {
        "channels-last": (GeneratorConfig(), channels_last),
        "fused attention": (GeneratorConfig(), fused_attention),
        "bfloat16": (GeneratorConfig(dtype="bfloat16"), unchanged),
        "torch.compile": (GeneratorConfig(compile=True), unchanged),
    }


# --- worker processes --------------------------------------------------------------------------------------------


def measure_processes() -> dict[str, Any]:
    """Two worker processes with one thread each over one, once their models are loaded."""
    from benchmarks.embedded import SUBSET
    from prismkd.config import SynthesisConfig
    from prismkd.progress import silent
    from prismkd.runs.drawing import claim_datasets
    from prismkd.runs.open import open_run
    from prismkd.runs.planning import write_plans
    from prismkd.runs.workers import OpenShards
    from prismkd.shards import drop_shard

    synthesis = SynthesisConfig(images_per_class=2 * PROCESS_SHARDS, shard_size=PROCESS_SHARD_SIZE)
    config = replace(SUBSET, methods=("plain",), synthesis=synthesis)
    speeds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(config, Path(folder) / "run", "benchmark", silent)
        write_plans(run)
        claim_datasets(run)
        opened = OpenShards(run.directory, 0, "plain", num_threads=1, trust=False)
        for _ in range(3):
            for num_workers, of_workers in speeds.items():
                of_workers.append(_images_per_second(opened, num_workers))
                for shard in range(PROCESS_SHARDS):
                    drop_shard(run.drawn[0].storage, shard)
    one, two = (median(speeds[num_workers]) for num_workers in (1, 2))
    return {"ratio": two / one, "images_per_second": {"one": one, "two": two}, "all": speeds}


def _images_per_second(opened: Any, num_workers: int) -> float:
    """The speed of so many worker processes while all of them are at work."""
    from prismkd.synthesis.workers.process import ProcessWorker

    times = list[float]()

    def note_time(count: int) -> None:
        times.append(time.perf_counter())

    pool = Pool([partial(ProcessWorker, opened, "cpu")] * num_workers, POLICY, print)
    pool.run(range(PROCESS_SHARDS), note_time)
    # From the first batch of the worker that came last, to the last batch but those that others end with alone.
    return PROCESS_SHARD_SIZE * (len(times) - 2 * num_workers) / (times[-num_workers] - times[num_workers])


# --- with stand-ins for images -----------------------------------------------------------------------------------


def measure_memory() -> dict[str, Any]:
    """The peak memory of a whole run with stand-ins for images, each size in a process of its own."""
    rows = []
    for size in MEMORY_SIZES:
        command = [sys.executable, "-m", "benchmarks.synthesis", "--stand-ins", str(size)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout))
    peaks = [row["peak_megabytes"] for row in rows]
    return {"rows": rows, "growth_megabytes": max(peaks) - peaks[0]}


def draw_stand_ins(num_images: int) -> None:
    """Draw so many stand-ins, and print the peak memory of this process and the speed, as JSON."""
    from prismkd.shards import scan
    from prismkd.synthesis.workers.inline import InlineWorker

    with tempfile.TemporaryDirectory() as folder:
        shards = prepared(folder, num_images, MEMORY_SHARD_SIZE)
        start = time.perf_counter()
        unit = OpenStandIns(folder)("cpu")
        Pool([lambda: InlineWorker(unit, lambda count: None)], POLICY, print, pause=0).run(shards, lambda count: None)
        seconds = time.perf_counter() - start
        assert sum(record.count for record in scan(folder).records.values()) == num_images
    print(json.dumps({"images": num_images, "peak_megabytes": _peak_megabytes(),
                      "images_per_second": num_images / seconds}))  # fmt: skip


def _peak_megabytes() -> float:
    """The peak memory of this process; getrusage's would be inherited from the parent."""
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert peak is not None
    return int(peak[1]) / 1024


def measure_scan() -> dict[str, Any]:
    """Seconds to find out what is there, for a resumed run of many shards."""
    from prismkd.shards import scan

    with tempfile.TemporaryDirectory() as folder:
        shards = prepared(folder, SCANNED_SHARDS, 1)
        unit = OpenStandIns(folder)("cpu")
        for shard in shards:
            unit(shard, lambda count: None)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            assert len(scan(folder).records) == SCANNED_SHARDS
            times.append(time.perf_counter() - start)
    return {"shards": SCANNED_SHARDS, "seconds": median(times), "all": times}


MEASURES = {
    "engine": measure_engine,
    "options": measure_options,
    "processes": measure_processes,
    "memory": measure_memory,
    "scan": measure_scan,
}


def main() -> None:
    """Measure the parts that are asked for, and record them with those that were recorded before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=MEASURES, action="append", help="default: all")
    parser.add_argument("--stand-ins", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stand_ins:
        draw_stand_ins(arguments.stand_ins)
        return
    path = RESULTS / "synthesis.json"
    recorded = json.loads(path.read_text()) if path.is_file() else {}
    for part in arguments.part or MEASURES:
        recorded[part] = MEASURES[part]()
        write_results("synthesis", "python -m benchmarks.synthesis", [0], recorded)
        print(part, json.dumps(recorded[part]), flush=True)


if __name__ == "__main__":
    main()
