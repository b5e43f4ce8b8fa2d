"""Your own teacher, no data: a network, its class names and a generator are all that a run needs.

Usage: python examples/own_teacher.py FOLDER [--images 20] [--steps 200]

Network and generator are those of the embedded world, so that this runs offline in minutes. For photographs, give
`GeneratorConfig(source="stable-diffusion-v1-5/stable-diffusion-v1-5")`, an architecture of timm, and what your network
wants of an image, such as `prismkd.Preprocessing(3, 256, (224, 224), mean=..., std=...)`.
"""

import argparse
from pathlib import Path

import prismkd
from prismkd.classes import load_classes
from prismkd.config import EvaluationConfig, SynthesisConfig


def main(folder: Path, images_per_class: int, num_steps: int) -> None:
    """Write the class list, run all stages without a test image, and use the student."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [item.name for item in load_classes("pictograms-24")]
    (folder / "classes.txt").write_text("\n".join(names) + "\n")
    network = prismkd.load_teacher("pictograms", classes=names)  # any torch module of as many outputs will do

    config = prismkd.Config(
        classes=str(folder / "classes.txt"),
        methods=("eda",),  # "prism" has diversified prompts, too
        guidance=prismkd.GuidanceConfig(num_calibration_images=4 * images_per_class),
        synthesis=SynthesisConfig(images_per_class=images_per_class),
        distillation=prismkd.DistillationConfig(num_steps=num_steps),
        evaluation=EvaluationConfig(num_held_out=4 * images_per_class),  # drawn to compare student and teacher on
    )
    result = prismkd.run(config, folder / "run", teacher=network, preprocessing=prismkd.Preprocessing(3))

    for method, shares in result.agreement.items():  # on synthetic images that no student was trained on
        print(method, {domain: round(share, 3) for domain, share in shares.items()})
    print(f"student {result.student('eda').num_classes} classes; report {result.report}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    main(arguments.folder, arguments.images, arguments.steps)
