"""Measure a classifier on test images: top-1, top-5, calibration error, agreement with a teacher, per domain.

Usage: python examples/evaluate_student.py                                     (the embedded teacher and judge)
       python examples/evaluate_student.py STUDENT TEST CLASSES [NAME=TEST ...]
       python examples/evaluate_student.py my-student test/ imagenet-1k sketch=imagenet-sketch/

STUDENT is a folder (config.json, model.safetensors), timm:NAME@FILE or torchvision:NAME@FILE. TEST is a folder of class
folders or of domain folders with class folders, webdataset shards, Parquet files, or a split list.
"""

import json
import sys

import prismkd


def embedded() -> prismkd.Scores:
    """The judge of the embedded world as the student of its teacher."""
    world = prismkd.Session(prismkd.Config(classes="pictograms-24"))
    return prismkd.evaluate(world.judge, world.test, classes="pictograms-24", teacher=world.teacher)


def main(student: str, test: str, classes: str, *shifted: str) -> prismkd.Scores:
    """A student of yours."""
    further = dict(entry.split("=", 1) for entry in shifted)
    return prismkd.evaluate(prismkd.load_teacher(student, classes), test, classes=classes, shifted=further)


if __name__ == "__main__":
    scores = main(*sys.argv[1:]) if len(sys.argv) > 3 else embedded()
    print(scores)
    print(json.dumps(scores.to_dict()["id"]["top1"]))  # value, n and ci95, as plain data
