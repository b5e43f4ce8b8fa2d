"""What the embedded classes bring along, where the settings leave it open: test images, real images and a judge."""

from __future__ import annotations

from dataclasses import replace

from prismkd.config.settings import Config

PICTOGRAMS = "pictograms"
EMBEDDED_CLASSES = (PICTOGRAMS, "pictograms-24")  # all of them, and those of the demo
AUTO = "auto"


def resolved(config: Config) -> Config:
    """The configuration with every ``auto`` of ``evaluation`` replaced by what it stands for.

    That is ``pictograms`` for the embedded classes, or some of them, whose test images, real images and judge come with
    the package, and none ("") for all others.
    """
    value = PICTOGRAMS if has_embedded_classes(config) else ""
    given = config.evaluation
    source, real, judge = (value if name == AUTO else name for name in (given.source, given.real, given.judge))
    return replace(config, evaluation=replace(given, source=source, real=real, judge=judge))


def has_embedded_classes(config: Config) -> bool:
    """Whether the classes are those of the embedded world, by its name or as its teacher's own."""
    named = config.teacher if config.classes == "teacher" else config.classes
    return named in EMBEDDED_CLASSES
