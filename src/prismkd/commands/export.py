"""``prismkd export``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from prismkd.commands.opening import stay_offline_for
from prismkd.commands.tables import show
from prismkd.config.ranges import Between, OneOf
from prismkd.config.seeds import MAX_SEED
from prismkd.errors import UserError
from prismkd.progress import bars

IMAGES, STUDENTS = ("imagefolder", "hf", "webdataset"), ("safetensors", "onnx", "student")


@dataclass(frozen=True)
class Arguments:
    """A finished data set in another layout, images keeping their bytes; or a student, with its model card."""

    out: str
    """The run's folder, or a folder or URL of shards."""
    to: Annotated[str, OneOf(IMAGES + STUDENTS)]
    """Images: imagefolder (a folder per class), hf (Parquet for Hugging Face datasets) or webdataset (shards, for timm
    too). A student: safetensors (its weights), onnx (a graph that is checked in onnxruntime) or student (both)."""
    dest: str
    """A new folder; for images also a URL."""
    method: str = "prism"
    """Which of the run's methods."""
    seed: Annotated[int | None, Between(0, MAX_SEED)] = None
    """Which of its seeds; default: the first."""
    trust: bool = False
    """Trust whoever made the run: its record may name a place outside of its folder for the images."""


def export(arguments: Arguments) -> None:
    """Write the copy, and print where it is."""
    if arguments.to in STUDENTS:
        _export_student(arguments)
    else:
        _export_images(arguments)


def _export_images(arguments: Arguments) -> None:
    from prismkd.commands.datasets import one_dataset
    from prismkd.records.directory import lasting
    from prismkd.shards import read_manifest
    from prismkd.shards.export import export

    source = one_dataset(arguments.out, arguments.method, arguments.seed, trust=arguments.trust)
    manifest = read_manifest(source)
    with bars(f"export to {arguments.to}", manifest.num_images if manifest else 0) as progress:
        count = export(source, arguments.to, lasting(arguments.dest), progress)
    show(f"{count:,} images in {arguments.dest}")
    if arguments.to != "imagefolder" and "://" not in arguments.dest:
        show(f"next: `prismkd push-to-hub {arguments.dest} --repo ORG/NAME` shows what it would send")


def _export_student(arguments: Arguments) -> None:
    if "://" in arguments.dest:
        raise UserError(f"expected a folder for a student, got {arguments.dest}; export, then `prismkd push-to-hub`")
    from prismkd.records.directory import check_recorded_storage, run_folder

    run, destination = run_folder(arguments.out), Path(arguments.dest)
    check_recorded_storage(run, trust=arguments.trust)
    stay_offline_for(run, trust=arguments.trust)
    from prismkd.delivery.export_student import export_student

    parity = export_student(run, arguments.method, arguments.seed, arguments.to, destination, bars)
    files = sorted(path.name for path in destination.iterdir())
    show(f"student of {arguments.method} in {destination}: {', '.join(files)}")
    if parity is not None:
        show(str(parity))
    show(f"next: `prismkd predict {destination} IMAGES`, or `prismkd push-to-hub {destination} --repo ORG/NAME`")
