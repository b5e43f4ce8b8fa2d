"""Commands on runs and data sets that are there: how far they are, whether they are whole, copies, comparisons."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tyro

from prismkd.commands import console
from prismkd.delivery.student_folder import LAYOUTS
from prismkd.errors import UserError
from prismkd.records.directory import images_of, is_run, jobs_of, lasting, recorded_config, run_folder
from prismkd.records.status import status_of
from prismkd.shards import Finding, Storage, inspect, is_begun, read_manifest
from prismkd.shards.export import export, merge

Track = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
Arguments = TypeVar("Arguments")


@dataclass(frozen=True)
class StatusArguments:
    """How far a run is, from its ledgers; it may be running."""

    out: Path
    """The run's folder."""
    watch: float = 0.0
    """Show it again every so many seconds, until all is done."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class VerifyArguments:
    """Read every byte of a run's data sets, or of one data set, again."""

    out: str
    """The run's folder, or a folder or URL of shards."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class ExportArguments:
    """A finished data set in another layout, images keeping their bytes; or a student, with its model card."""

    out: str
    """The run's folder, or a folder or URL of shards."""
    to: Literal["imagefolder", "hf", "webdataset", "safetensors", "onnx", "student"]
    """Images: a folder per class, Parquet for Hugging Face datasets, or shards for webdataset and timm. Student: its
    weights, an ONNX graph that is checked in onnxruntime, or both."""
    dest: str
    """A new folder; for images also a URL."""
    method: str = "prism"
    """Which of the run's methods."""
    seed: int | None = None
    """Which of its seeds; default: the first."""


@dataclass(frozen=True)
class MergeArguments:
    """Several finished data sets of the same classes as one, numbered anew."""

    dest: str
    """A new folder or URL."""
    sources: Annotated[tuple[str, ...], tyro.conf.arg(name="from", metavar="FOLDER...")] = field(default=())
    """Folders of shards, such as runs/a/seed-0/prism/images."""


@dataclass(frozen=True)
class CompareArguments:
    """Two runs, or two methods of one, on the same test images: which is better, and could it be chance?"""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """One run's folder, or two: A, then B."""
    methods: tuple[str, ...] = ()
    """A's method and B's, or one for both; of one run two."""
    json: bool = False
    """Print JSON."""


def parse(kind: type[Arguments], command: str, arguments: list[str]) -> Arguments:
    """The command line as the dataclass ``kind``."""
    return tyro.cli(kind, args=arguments, prog=f"prismkd {command}")


def status(arguments: list[str], track: Track) -> None:
    """``prismkd status``."""
    asked = parse(StatusArguments, "status", arguments)
    while True:
        found = status_of(asked.out)
        if asked.json:
            print(json.dumps(found.to_dict(), indent=1))
        else:
            console.print_status(found)
        if not asked.watch or found.finished:
            return
        time.sleep(asked.watch)


def verify(arguments: list[str], track: Track) -> None:
    """``prismkd verify``."""
    asked = parse(VerifyArguments, "verify", arguments)
    findings = dict[str, list[Finding]]()
    counts = dict[str, int]()
    for images in _data_sets(asked.out):
        manifest = read_manifest(images)
        with track(f"reading {images.url}"[-60:], manifest.num_images if manifest else 0) as progress:
            findings[images.url], counts[images.url] = inspect(images, progress)
    if asked.json:
        rows = {
            url: {"images": counts[url], "findings": [vars(row) for row in found]} for url, found in findings.items()
        }
        print(json.dumps(rows, indent=1))
    else:
        console.print_findings(findings, counts)
    wrong = sum(finding.kind != "foreign" for found in findings.values() for finding in found)
    if wrong:
        drawn_here = _is_run(asked.out)
        mend = (
            f"mend them with `prismkd repair --out {asked.out}`" if drawn_here else "repair its run, or copy it again"
        )
        raise UserError(f"expected whole data sets in {asked.out}, got {wrong} findings; {mend}")


def export_(arguments: list[str], track: Track) -> None:
    """``prismkd export``."""
    asked = parse(ExportArguments, "export", arguments)
    if asked.to in LAYOUTS:
        _export_student(asked, track)
        return
    source = _one_data_set(asked.out, asked.method, asked.seed)
    manifest = read_manifest(source)
    with track(f"export to {asked.to}", manifest.num_images if manifest else 0) as progress:
        count = export(source, asked.to, lasting(asked.dest), progress)
    print(f"{count:,} images in {asked.dest}")


def _export_student(asked: ExportArguments, track: Track) -> None:
    if "://" in asked.dest:
        raise UserError(f"expected a folder for a student, got {asked.dest}; export, then `prismkd push-to-hub`")
    from prismkd.delivery.export_student import export_student

    parity = export_student(run_folder(asked.out), asked.method, asked.seed, asked.to, Path(asked.dest), track)
    files = sorted(path.name for path in Path(asked.dest).iterdir())
    print(f"student of {asked.method} in {asked.dest}: {', '.join(files)}")
    if parity is not None:
        print(parity)


def merge_(arguments: list[str], track: Track) -> None:
    """``prismkd merge``."""
    asked = parse(MergeArguments, "merge", arguments)
    sources = [Storage(source) for source in asked.sources]
    total = sum(manifest.num_images for source in sources if (manifest := read_manifest(source)))
    with track("merge", total) as progress:
        count = merge(sources, lasting(asked.dest), progress)
    print(f"{count:,} images in {asked.dest}")


def compare_(arguments: list[str], track: Track) -> None:
    """``prismkd compare``."""
    from prismkd.records.comparison import compare

    asked = parse(CompareArguments, "compare", arguments)
    found = compare(asked.runs, asked.methods)
    if asked.json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        console.print_comparison(found)


def _is_run(out: str) -> bool:
    """Whether it is a run's folder, not one of shards; a run is always on a disk."""
    return "://" not in out and is_run(Path(out))


def _data_sets(out: str) -> list[Storage]:
    """Those of a run that have been begun, or the folder itself."""
    if not _is_run(out):
        images = Storage(out)
        if not is_begun(images):
            raise UserError(f"expected a run's folder or one of shards, got {out}; check --out")
        return [images]
    folder = Path(out)
    config = recorded_config(folder)
    found = [images_of(config, folder, seed, method) for seed, method in jobs_of(config) if method != "real"]
    begun = [images for images in found if is_begun(images)]
    if not begun:
        raise UserError(f"expected data sets in {folder}, got none yet; run `prismkd synthesize` first")
    return begun


def _one_data_set(out: str, method: str, seed: int | None) -> Storage:
    if not _is_run(out):
        return Storage(out)
    folder = Path(out)
    config = recorded_config(folder)
    seed = config.seeds[0] if seed is None else seed
    jobs = [job for job in jobs_of(config) if job[1] != "real"]
    if (seed, method) not in jobs:
        known = ", ".join(f"--method {name} --seed {number}" for number, name in jobs)
        raise UserError(f"expected a data set of {folder}, got method {method} and seed {seed}; use one of {known}")
    return images_of(config, folder, seed, method)
