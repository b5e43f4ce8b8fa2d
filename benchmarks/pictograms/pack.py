"""Pack the trained generator into the package, as a diffusers pipeline folder in half precision.

Usage: python -m benchmarks.pictograms.pack [--cache DIR] [--out DIR]

It needs the caches of ``autoencoder.py``, ``text_encoder.py`` and ``denoiser.py``, and writes the pipeline's folder, by
default ``src/prismkd/assets/pictograms/generator``.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DPMSolverMultistepScheduler, PixArtAlphaPipeline
from transformers import BertModel, BertTokenizerFast

from benchmarks.pictograms.build import ASSETS, CACHE
from benchmarks.pictograms.denoiser import new_denoiser


def main() -> None:
    """Load the parts from the cache, assemble the pipeline, save it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--out", type=Path, default=ASSETS / "generator")
    args = parser.parse_args()
    transformer = new_denoiser()
    checkpoint = torch.load(args.cache / "denoiser.pt", weights_only=True)
    transformer.load_state_dict(checkpoint["ema"])
    pipeline = PixArtAlphaPipeline(
        tokenizer=BertTokenizerFast.from_pretrained(args.cache / "tokenizer"),
        text_encoder=BertModel.from_pretrained(args.cache / "text_encoder"),
        vae=AutoencoderKL.from_pretrained(args.cache / "vae"),
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0, final_sigmas_type="zero"
        ),
    ).to(torch.float16)
    shutil.rmtree(args.out, ignore_errors=True)  # files of an earlier pipeline would be shipped too
    pipeline.save_pretrained(args.out, safe_serialization=True)
    tiny = args.cache / "tiny_vae"
    if tiny.is_dir():
        AutoencoderTiny.from_pretrained(tiny).half().save_pretrained(args.out / "tiny_vae", safe_serialization=True)
    for config in args.out.rglob("config.json"):  # where a part was loaded from is nobody's business
        data = {key: value for key, value in json.loads(config.read_text()).items() if key != "_name_or_path"}
        if "dtype" in data:  # the weights are halved on the disk alone: all parts compute in one precision
            data["dtype"] = "float32"
        config.write_text(json.dumps(data, indent=2) + "\n")
    size = sum(file.stat().st_size for file in args.out.rglob("*") if file.is_file())
    print(f"{args.out}: {size / 2**20:.1f} MiB, denoiser after {checkpoint['step']:,} steps")


if __name__ == "__main__":
    main()
