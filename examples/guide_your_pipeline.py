"""Guide a diffusers pipeline of your own with a classifier of your own, and see what it did.

Usage: python examples/guide_your_pipeline.py [FOLDER] [--images 8] [--calibration 96]

Here the pipeline is the embedded one, which draws icons of 64 pixels on a CPU. With yours it is the same:
    pipe = DiffusionPipeline.from_pretrained("stable-diffusion-v1-5/stable-diffusion-v1-5", dtype=torch.float16)
    teacher = prismkd.load_teacher("timm:resnet50", "imagenet-1k")
    eda = prismkd.EDA(pipe.to("cuda"), teacher, decoder="madebyollin/taesd")
"""

import argparse
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from torchvision.utils import save_image

import prismkd
from prismkd.assets import asset


def main(folder: Path, num_images: int, num_calibration: int) -> None:
    """Draw the same prompts and seeds without and with guidance, side by side."""
    pipe = DiffusionPipeline.from_pretrained(asset("generator"))
    pipe.set_progress_bar_config(disable=True)
    teacher = prismkd.load_teacher("pictograms", classes="pictograms-24")
    plan = prismkd.plan("pictograms-24", template="an icon of a {name}")
    prompts, labels, seeds = zip(*((plan[i].text, plan[i].label, plan[i].seed) for i in range(num_images)), strict=True)
    settings = {"num_inference_steps": 8, "guidance_scale": 3.0}

    eda = prismkd.EDA(pipe, teacher, guidance=prismkd.GuidanceConfig(num_calibration_images=num_calibration))
    broad = [plan[i] for i in range(num_calibration)]
    eda.calibrate([p.text for p in broad], [p.label for p in broad], **settings)
    guided = eda(prompts, labels, seeds, **settings)

    off = prismkd.EDA(pipe, teacher, guidance=prismkd.GuidanceConfig(strength=0.0))
    unguided = off(prompts, labels, seeds, **settings)
    print(f"mean energy {float(eda.energies(unguided).mean()):.2f} -> {float(eda.energies(guided).mean()):.2f}")
    print(f"edits per image: {eda.last.num_edits.tolist()} of {eda.last.num_band_steps} guided steps")
    save_image(torch.cat([unguided, guided]), folder / "guided.png", nrow=num_images)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path())
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--calibration", type=int, default=96)
    arguments = parser.parse_args()
    main(arguments.folder, arguments.images, arguments.calibration)
