"""What the engine costs beside the drawing: throughput, scaling, memory and the time to find out what is there.

Usage: python -m benchmarks.synthesis [--part engine] [--part options] [--part processes] ...

Every figure is a ratio or a difference within one run on one machine. Results go to
``benchmarks/results/synthesis.json``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.publish import RESULTS, ROOT, write_results
from benchmarks.stand_in import OpenStandIns, prepared

PARTS = ("engine", "options", "processes", "memory", "scan")
NUM_PAIRS, NUM_BATCHES = 5, 4  # of 48 images
NUM_SHARDS = 16  # of 48 images, for the processes
MEMORY_SIZES, MEMORY_SHARD = (10_000, 100_000, 1_000_000), 1_000
SCANNED_SHARDS = 10_000


def engine() -> dict[str, Any]:
    """Drawing to a verified shard on the disk, over the bare pipeline's images in memory, without and with guidance."""
    from benchmarks.laboratory import Laboratory
    from prismkd.synthesis.synthesizer import Synthesizer, run_shard

    laboratory = Laboratory()
    plan, size = laboratory.plan(0), laboratory.config.generator.batch_size
    indices = range(NUM_BATCHES * size)
    batches = [[plan[i] for i in indices[at : at + size]] for at in range(0, len(indices), size)]
    found = {}
    for name, guidance in (("unguided", None), ("guided", laboratory.config.guidance)):
        targets = laboratory.calibration(guidance) if guidance else None
        synthesizer = Synthesizer(laboratory.generator, laboratory.teacher, guidance, targets)
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
        ratios = [bare / whole for bare, whole in pairs]
        found[name] = {"ratio": median(ratios), "ratios": ratios, "images": len(indices),
                       "images_per_second": len(indices) / median(whole for _, whole in pairs)}  # fmt: skip
    return found


def options() -> dict[str, Any]:
    """What PyTorch offers for speed, each over what prismkd does by default on this device, without guidance."""
    import torch
    from diffusers.models.attention_processor import AttnProcessor2_0

    from benchmarks.laboratory import Laboratory
    from prismkd.config import GeneratorConfig
    from prismkd.generators import load_generator

    plan = Laboratory().plan(0)
    prompts = [plan[i] for i in range(NUM_BATCHES * GeneratorConfig.batch_size // 2)]

    def channels_last(pipeline: Any) -> None:
        for model in (pipeline.transformer, pipeline.vae):
            model.to(memory_format=torch.channels_last)

    variants: dict[str, tuple[GeneratorConfig, Any]] = {
        "channels-last": (GeneratorConfig(), channels_last),
        "fused attention": (
            GeneratorConfig(), lambda pipeline: pipeline.transformer.set_attn_processor(AttnProcessor2_0())),
        "bfloat16": (GeneratorConfig(dtype="bfloat16"), lambda pipeline: None),
        "torch.compile": (GeneratorConfig(compile=True), lambda pipeline: None),
    }  # fmt: skip

    def seconds(generator: Any) -> float:
        start, size = time.perf_counter(), generator.config.batch_size
        for at in range(0, len(prompts), size):
            batch = prompts[at : at + size]
            generator.sample([prompt.text for prompt in batch], [prompt.seed for prompt in batch])
        return time.perf_counter() - start

    usual, found = load_generator(GeneratorConfig()), {}
    seconds(usual)
    for name, (config, change) in variants.items():
        generator = load_generator(config)
        change(generator.pipeline)
        seconds(generator)  # compiles
        ratios = [seconds(usual) / seconds(generator) for _ in range(NUM_PAIRS)]
        found[name] = {"ratio": median(ratios), "ratios": ratios}
    return found


def processes() -> dict[str, Any]:
    """Two worker processes with one thread each over one, once their models are loaded."""
    from prismkd.config import Config, SynthesisConfig
    from prismkd.progress import silent
    from prismkd.runs.drawing import claim_datasets
    from prismkd.runs.open import open_run
    from prismkd.runs.planning import write_plans
    from prismkd.runs.workers import OpenShards
    from prismkd.shards import drop_shard
    from prismkd.synthesis.workers import Policy, Pool
    from prismkd.synthesis.workers.process import ProcessWorker

    config = Config(methods=("plain",), synthesis=SynthesisConfig(images_per_class=2 * NUM_SHARDS, shard_size=48))
    speeds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(config, Path(folder) / "run", "benchmark", silent)
        write_plans(run)
        claim_datasets(run)
        opened = OpenShards(run.directory, 0, "plain", num_threads=1, trust=False)
        for _ in range(3):
            for number, found in speeds.items():
                times = list[float]()
                pool = Pool([partial(ProcessWorker, opened, "cpu")] * number, Policy(), print)
                pool.run(range(NUM_SHARDS), lambda count, times=times: times.append(time.perf_counter()))  # type: ignore[misc]
                # while all work: from the first batch of the last to come, to the last batch but the others' last ones
                found.append(48 * (len(times) - 2 * number) / (times[-number] - times[number]))
                for shard in range(NUM_SHARDS):
                    drop_shard(run.drawn[0].images, shard)
    one, two = (median(speeds[number]) for number in (1, 2))
    return {"ratio": two / one, "images_per_second": {"one": one, "two": two}, "all": speeds}


def memory() -> dict[str, Any]:
    """The peak memory of a whole run with stand-ins for images, each size in a process of its own."""
    rows = []
    for size in MEMORY_SIZES:
        command = [sys.executable, "-m", "benchmarks.synthesis", "--stand-ins", str(size)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout))
    peaks = [row["peak_megabytes"] for row in rows]
    return {"rows": rows, "growth_megabytes": max(peaks) - peaks[0]}


def draw_stand_ins(num_images: int) -> None:
    """Draw, and print the peak memory of this process."""
    from prismkd.shards import scan
    from prismkd.synthesis.workers import Policy, Pool
    from prismkd.synthesis.workers.inline import InlineWorker

    with tempfile.TemporaryDirectory() as folder:
        shards = prepared(folder, num_images, MEMORY_SHARD)
        start = time.perf_counter()
        unit = OpenStandIns(folder)("cpu")
        Pool([lambda: InlineWorker(unit, lambda count: None)], Policy(), print, pause=0).run(shards, lambda count: None)
        seconds = time.perf_counter() - start
        assert sum(record.count for record in scan(folder).records.values()) == num_images
    status = Path("/proc/self/status").read_text()  # getrusage's peak is inherited from the parent
    peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]
    print(json.dumps({"images": num_images, "peak_megabytes": peak, "images_per_second": num_images / seconds}))


def scanning() -> dict[str, Any]:
    """Seconds to find out what is there, for a resumed run of many shards."""
    from prismkd.shards import scan

    with tempfile.TemporaryDirectory() as folder:
        unit = OpenStandIns(folder)("cpu") if prepared(folder, SCANNED_SHARDS, 1) else None
        assert unit is not None
        for shard in range(SCANNED_SHARDS):
            unit(shard, lambda count: None)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            assert len(scan(folder).records) == SCANNED_SHARDS
            times.append(time.perf_counter() - start)
    return {"shards": SCANNED_SHARDS, "seconds": median(times), "all": times}


def main() -> None:
    """Measure the asked parts and record them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    parser.add_argument("--stand-ins", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stand_ins:
        draw_stand_ins(arguments.stand_ins)
        return
    path = RESULTS / "synthesis.json"
    recorded = json.loads(path.read_text()) if path.is_file() else {}
    measures = {"engine": engine, "options": options, "processes": processes, "memory": memory, "scan": scanning}
    for part in arguments.part or PARTS:
        recorded[part] = measures[part]()
        write_results("synthesis", "python -m benchmarks.synthesis", [0], recorded)
        print(part, json.dumps(recorded[part]), flush=True)


if __name__ == "__main__":
    main()
