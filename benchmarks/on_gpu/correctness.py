"""Whether images are right on the device, the tests that need one, and what it is."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.embedded import embedded_session
from benchmarks.on_gpu.scale import Found, Scale
from benchmarks.on_gpu.turns import UNGUIDED, Draws, time_in_turns
from benchmarks.publish import ROOT
from prismkd import Session, __version__
from prismkd.guidance.energy import free_energy
from prismkd.prompts import Prompt
from prismkd.synthesis.synthesizer import Synthesizer, quantized

PACKAGES = ("torchvision", "diffusers", "transformers", "accelerate", "timm", "numpy", "triton")


def embedded(scale: Scale, found: Found, until: float) -> None:
    """The embedded generator on the device: what must hold of guided images does, and how fast they are drawn."""
    for dtype in scale.dtypes:
        config = replace(scale.config, generator=replace(scale.config.generator, dtype=dtype))
        session, rows = embedded_session(config=config), found.setdefault(dtype, {})
        check_images(session, scale.num_checked, rows)
        plan, size = session.plan("plain", 0), config.generator.batch_size
        batch = [plan[i] for i in range(size)]
        drawers = {name: session.synthesizer("prism" if name == "guided" else "plain") for name in (UNGUIDED, "guided")}
        draws: Draws = {name: partial(draw_embedded, drawer, batch) for name, drawer in drawers.items()}
        time_in_turns(rows.setdefault(f"batch {size}", {}), draws, size, scale, until)


def draw_embedded(drawer: Synthesizer, batch: list[Prompt], num_steps: int) -> object:
    """One batch; the steps are the generator's own."""
    return drawer.draw(batch)


def check_images(session: Session, count: int, found: Found) -> None:
    """Facts about ``count`` images; their differences are of values in [0, 1], where 1/255 is a level of 8 bits."""
    guidance, targets, plan = session.config.guidance, session.calibration, session.plan("plain", 0)
    plain, guided = session.synthesizer("plain"), session.synthesizer("prism")
    without = Synthesizer(session.generator, session.teacher, replace(guidance, strength=0.0), targets)
    prompts = [plan[i] for i in range(count)]
    drawers = {UNGUIDED: plain, "guided": guided}
    images = {name: drawer.draw_all(prompts) for name, drawer in drawers.items()}
    again = {name: drawer.draw_all(prompts) for name, drawer in drawers.items()}
    energies = {name: energies_of(plain, value) for name, value in images.items()}
    found["finite"] = all(bool(value.isfinite().all()) for value in images.values())
    found["mean_energy"] = {name: float(value.mean()) for name, value in energies.items()}
    found["guided_is_lower"] = found["mean_energy"]["guided"] < found["mean_energy"][UNGUIDED]
    found["share_lower"] = float((energies["guided"] < energies[UNGUIDED]).float().mean())
    found["strength_0_equals_unguided"] = torch.equal(without.draw_all(prompts), images[UNGUIDED])
    found["drawn_again"] = {name: difference(again[name], images[name]) for name in images}
    places = sorted({0, min(7, count - 1), count - 1})
    found["drawn_alone"] = {
        name: difference(torch.cat([drawer.draw([prompts[i]])[0] for i in places]), images[name][places])
        for name, drawer in drawers.items()
    }


@torch.no_grad()
def energies_of(drawer: Synthesizer, images: Tensor) -> Tensor:
    """The teacher's free energies (n,) of images as they are stored."""
    return free_energy(drawer.teacher_on_device(quantized(images).to(drawer.generator.device))).cpu()


def difference(images: Tensor, others: Tensor) -> Found:
    """The largest and the mean difference of two sets of images, and the share of their 8-bit values that differ."""
    apart = (images - others).abs()
    stored = quantized(images) != quantized(others)
    return {"largest": float(apart.max()), "mean": float(apart.mean()), "share_in_8_bits": float(stored.float().mean())}


def marked_tests(scale: Scale, found: Found, until: float) -> None:
    """The outcome of the tests that need a GPU."""
    mark = ".".join(["pytest", "mark", "gpu"])
    files = [str(path) for path in sorted(scale.tests.rglob("*.py")) if mark in path.read_text()]
    found["files"] = [Path(path).name for path in files]
    if not files:
        found["outcome"] = "no tests are marked gpu"
        return
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-rA", *files]  # the configuration has one -q
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=max(1.0, until - time.monotonic()))
    lines = done.stdout.strip().splitlines()
    found |= {"exit_code": done.returncode, "outcome": lines[-1] if lines else "", "output": done.stdout[-8000:]}


def machine(scale: Scale, found: Found, until: float) -> None:
    """What all of this ran on."""
    found |= {"python": platform.python_version(), "system": platform.platform(), "cpus": os.cpu_count(),
              "prismkd": __version__, "torch": torch.__version__, "cuda": torch.version.cuda,
              "versions": {name: _version(name) for name in PACKAGES}}  # fmt: skip
    if scale.device.type == "cuda":
        properties = torch.cuda.get_device_properties(scale.device)
        found |= {"gpu": properties.name, "gpu_memory_gib": properties.total_memory / 2**30,
                  "capability": list(torch.cuda.get_device_capability(scale.device)),
                  "cudnn": torch.backends.cudnn.version()}  # fmt: skip
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        found["driver"] = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
