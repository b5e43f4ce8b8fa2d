"""How many icons the embedded world ships, by their role and domain: a table of docs/pictograms.md."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow.parquet as pq

from prismkd.assets import asset

STYLES = {
    "id": "filled",
    "outline": "lines",
    "duotone": "two tones",
    "color": "several colors, emoji among them",
    "sketch": "by hand",
    "pixel": "in large pixels",
    "recolored": "those of `id` in two random colors",
}  # of the test's domains


def icons_table(_: dict[str, Any]) -> str:
    """Icons, families and classes of every shipped set of images; per class the fewest and the most."""
    header = ["images", "style", "icons", "families", "classes", "fewest of a class", "most of a class"]
    real, test = (pq.read_table(asset(f"{name}.parquet"), columns=["label", "domain", "family"]).to_pylist()
                  for name in ("real", "test"))  # fmt: skip
    sets = {"teacher": ("filled", real)} | {
        f"test, `{domain}`": (style, [row for row in test if row["domain"] == domain])
        for domain, style in STYLES.items()
    }
    lines = ["| --- | --- |" + " ---: |" * (len(header) - 2)]
    for name, (style, rows) in sets.items():
        of_class = Counter(row["label"] for row in rows).values()
        families = {row["family"] for row in rows}
        counts = (len(rows), len(families), len(of_class), min(of_class), max(of_class))
        lines.append(f"| {name} | {style} | {' | '.join(f'{count:,}' for count in counts)} |")
    return "\n".join([f"| {' | '.join(header)} |", *lines])
