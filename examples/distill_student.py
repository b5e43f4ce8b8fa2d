"""Distil a teacher into a small student, on images that you have as arrays.

Usage: python examples/distill_student.py FOLDER [--steps 300]

The images are those of the embedded world, so that this runs offline in a minute; any (n, channels, height, width) as
uint8 or as float in [0, 1] will do, such as those that `prismkd.EDA` draws. Labels are optional.
"""

import argparse
from pathlib import Path

import prismkd


def main(folder: Path, num_steps: int) -> None:
    """Train a student, look at its log, save it, and load it again as a classifier."""
    world = prismkd.Session(prismkd.Config(classes="pictograms-24"))
    teacher, found = world.teacher, world.real

    student = prismkd.distill(
        teacher, found.images, found.labels, student="small-resnet-16", seed=0, num_steps=num_steps
    )
    print(f"loss {student.log.rows[-1]['loss']:.3f} after {num_steps} steps; warnings: {student.log.warnings()}")
    student.save(folder / "student")

    again = prismkd.load_teacher(str(folder / "student"), classes="pictograms-24")
    shown = (found.images[:200], found.labels[:200])
    print(prismkd.evaluate(again, shown, classes="pictograms-24", teacher=teacher))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    main(arguments.folder, arguments.steps)
