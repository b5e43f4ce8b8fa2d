"""``prismkd verify``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prismkd.commands.tables import show
from prismkd.errors import UserError
from prismkd.progress import bars

if TYPE_CHECKING:
    from prismkd.shards import Finding

NUM_FINDINGS_SHOWN = 12


@dataclass(frozen=True)
class Arguments:
    """Read every byte of a run's data sets, or of one data set, again."""

    out: str
    """The run's folder, or a folder or URL of shards."""
    trust: bool = False
    """Trust whoever made the run: its record may name a place outside of its folder for the images."""
    json: bool = False
    """Print JSON."""


def verify(arguments: Arguments) -> None:
    """Print what is wrong with the images; anything but foreign files is an error."""
    from prismkd.commands.datasets import begun_datasets, names_a_run
    from prismkd.shards import inspect, read_manifest

    findings: dict[str, list[Finding]] = {}
    counts: dict[str, int] = {}
    for images in begun_datasets(arguments.out, trust=arguments.trust):
        manifest = read_manifest(images)
        with bars(f"reading {images.url}"[-60:], manifest.num_images if manifest else 0) as progress:
            findings[images.url], counts[images.url] = inspect(images, progress)
    if arguments.json:
        rows = {
            url: {"images": counts[url], "findings": [vars(row) for row in found]} for url, found in findings.items()
        }
        print(json.dumps(rows, indent=1))
    else:
        print_findings(findings, counts)
    wrong = sum(finding.kind != "foreign" for found in findings.values() for finding in found)
    if wrong:
        repair = f"repair them with `prismkd repair --out {arguments.out}`"
        remedy = repair if names_a_run(arguments.out) else "repair its run, or copy it again"
        raise UserError(f"expected whole data sets in {arguments.out}, got {wrong} findings; {remedy}")


def print_findings(findings: dict[str, list[Finding]], counts: dict[str, int]) -> None:
    """What is wrong with each data set."""
    for url, found in findings.items():
        kinds = {kind: sum(row.kind == kind for row in found) for kind in dict.fromkeys(row.kind for row in found)}
        verdict = ", ".join(f"{number} {kind}" for kind, number in kinds.items()) or "whole"
        show(f"{url}: {counts[url]:,} images read and right; {verdict}")
        for row in found[:NUM_FINDINGS_SHOWN]:
            show(f"  {row.kind}: {row.message}")
        if len(found) > NUM_FINDINGS_SHOWN:
            show(f"  and {len(found) - NUM_FINDINGS_SHOWN} more")
