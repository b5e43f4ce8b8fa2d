"""The figures of docs/eda.md, docs/dpe.md, docs/beyond.md and docs/adaptation.md from the recorded results.

Usage: python -m benchmarks.figures      (needs the extra: pip install -e '.[build]')

It reads ``benchmarks/results`` and writes ``docs/images/*.svg``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from statistics import mean, stdev
from typing import Any

import matplotlib

from benchmarks.publish import RESULTS, ROOT
from benchmarks.tables import Row, Rows, by_kind, mean_shifted

matplotlib.use("svg")
from matplotlib import pyplot as plt

IMAGES = ROOT / "docs" / "images"
COLORS = {"plain": "#7a7f87", "more": "#b98a2e", "filter": "#5b8c5a", "guided": "#2f5bb7"}
NAMES = {"plain": "plain", "more": "more (equal seconds)", "filter": "filter (equal seconds)", "guided": "guided"}
Quantity = Callable[[Row], float]


def over_seeds(rows: Rows, quantity: Quantity) -> tuple[float, float]:
    """Mean and standard deviation (0 of a single seed)."""
    values = [quantity(row) for row in rows]
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def sweep_figure(rows: Rows) -> None:
    """Strength against student and images, one panel a quantity."""
    arms = ["plain", *sorted({r["arm"] for r in rows if r["arm"].startswith("strength")})]
    strengths = [0.0, *[float(arm.split()[1]) for arm in arms[1:]]]
    panels: dict[str, Quantity] = {
        "student top-1, id": lambda r: r["top1"]["id"],
        "teacher agreement": lambda r: r["teacher_agreement"],
        "judge top-1": lambda r: r["judge_top1"],
        "precision": lambda r: r["precision"],
        "recall": lambda r: r["recall"],
        "Vendi per class": lambda r: r["vendi"],
    }
    figure, axes = plt.subplots(2, 3, figsize=(9, 4.6), layout="constrained")
    for axis, (title, quantity) in zip(axes.flat, panels.items(), strict=True):
        points = [over_seeds([r for r in rows if r["arm"] == arm], quantity) for arm in arms]
        axis.errorbar(strengths, [p[0] for p in points], [p[1] for p in points], color=COLORS["guided"], marker="o",
                      markersize=4, capsize=3)  # fmt: skip
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("strength", fontsize=9)
    save(figure, "eda-sweep")


def curve_figure(rows: Rows) -> None:
    """Student accuracy over images per class (left), and over the time that the images cost (right)."""
    panels: dict[str, Quantity] = {
        "student top-1, id": lambda r: r["top1"]["id"],
        "student top-1, shifted": mean_shifted,
    }
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained", sharex="col", sharey="row")
    for (by_number, by_seconds), (title, quantity) in zip(axes, panels.items(), strict=True):
        for arm in COLORS:
            sizes, seconds, points = _curve_of(rows, arm, quantity)
            # more and filter are defined by seconds; plain, at the price of its own images, is what more is
            if arm in ("plain", "guided"):
                _line(by_number, arm, sizes, points)
            if arm != "plain":
                _line(by_seconds, arm, seconds, points)
        by_number.set_ylabel(title)
    for axis, label in zip(axes[1], ("images per class", "seconds of sampling, calibration included"), strict=True):
        axis.set_xlabel(label)
    for axis in axes.flat:
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda x, _: f"{x:g}"))
    for axis in axes[0]:
        axis.legend(frameon=False, fontsize=9)
    save(figure, "eda-curve")


def _curve_of(rows: Rows, arm: str, quantity: Quantity) -> tuple[list[int], list[float], list[tuple[float, float]]]:
    """An arm's sizes in images per class, their seconds of sampling, and the quantity's mean and deviation at each."""
    price = min(row["price"] for row in rows)  # seconds per plain image of the seed that nothing disturbed
    num_classes = rows[0]["images"] / rows[0]["images_per_class"]
    of_arm = [r for r in rows if r["arm"] == arm]
    sizes = sorted({r["images_per_class"] for r in of_arm})
    points = [over_seeds([r for r in of_arm if r["images_per_class"] == n], quantity) for n in sizes]
    seconds = [price * num_classes * mean(r["cost"] for r in of_arm if r["images_per_class"] == n) for n in sizes]
    return sizes, seconds, points


def _line(axis: Any, arm: str, places: list[Any], points: list[tuple[float, float]]) -> None:
    """Means as a line, with a band of one standard deviation where there are several seeds."""
    axis.plot(places, [m for m, _ in points], color=COLORS[arm], marker="o", markersize=4, label=NAMES[arm])
    spread = [(m, s or math.nan) for m, s in points]
    low, high = [m - s for m, s in spread], [m + s for m, s in spread]
    axis.fill_between(places, low, high, color=COLORS[arm], alpha=0.15, linewidth=0)


def survival_figure(rows: Rows) -> None:
    """The energy gain after every treatment, by the teacher and by the judge, with and without the safeguards."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    treatments = [r["treatment"] for r in rows[0]["guided"] if r["viewer"] == "teacher"]
    width = 0.8 / len(rows)
    for axis, viewer in zip(axes, ("teacher", "judge"), strict=True):
        for number, row in enumerate(rows):
            gains = [r["label_gain"] for r in row["guided"] if r["viewer"] == viewer]
            places = [i + (number - (len(rows) - 1) / 2) * width for i in range(len(treatments))]
            axis.bar(places, gains, width * 0.9, label=row["arm"])
        axis.set_xticks(range(len(treatments)), treatments, fontsize=9)
        axis.set_title(f"by the {viewer}", fontsize=10)
        axis.axhline(0, color="black", linewidth=0.6)
    axes[0].set_ylabel("gain in log p(y | x), nats")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(rows), frameon=False, fontsize=8)
    save(figure, "eda-survival")


def steps_figure(rows: Rows) -> None:
    """DPE's steps, each added to the one before, without and with guidance."""
    steps = list(dict.fromkeys(r["step"] for r in rows))
    panels: dict[str, Quantity] = {
        "student top-1, id": lambda r: r["top1"]["id"],
        "student top-1, shifted": mean_shifted,
        "recall": lambda r: r["recall"],
        "Vendi per class": lambda r: r["vendi"],
    }
    figure, axes = plt.subplots(1, 4, figsize=(11, 2.9), layout="constrained")
    for axis, (title, quantity) in zip(axes, panels.items(), strict=True):
        for guided, name in ((False, "plain"), (True, "guided")):
            by_step = {step: [r for r in rows if (r["guided"], r["step"]) == (guided, step)] for step in steps}
            measured = [step for step in steps if by_step[step]]
            points = [over_seeds(by_step[step], quantity) for step in measured]
            axis.errorbar([steps.index(s) for s in measured], [p[0] for p in points], [p[1] for p in points],
                          color=COLORS[name], marker="o", markersize=4, capsize=3,
                          label="with EDA" if guided else "without")  # fmt: skip
        axis.set_xticks(range(len(steps)), [s if s == "plain" else f"+ {s}" for s in steps], rotation=35, ha="right")
        axis.set_title(title, fontsize=10)
    axes[0].legend(frameon=False, fontsize=8)
    save(figure, "dpe-steps")


def compute_figure(data: Row) -> None:
    """Student accuracy over the seconds that everything has cost, a line per kind of images and labels."""
    panels: dict[str, Quantity] = {
        "student top-1, id": lambda r: r["top1"]["id"],
        "student top-1, shifted": mean_shifted,
    }
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
    for axis, (title, quantity) in zip(axes, panels.items(), strict=True):
        for name, rows in by_kind(data["rows"]).items():
            seconds = sorted({r["seconds"] for r in rows})
            points = [over_seeds([r for r in rows if r["seconds"] == spent], quantity) for spent in seconds]
            axis.errorbar(seconds, [p[0] for p in points], [p[1] for p in points], marker="o", markersize=4,
                          capsize=2, linewidth=1.2, label=name.replace("**", ""))  # fmt: skip
        axis.axhline(quantity({"top1": data["teacher"]}), color="black", linewidth=0.8, linestyle=":", label="teacher")
        axis.set_title(title, fontsize=10)
        _log_scale(axis, "CPU seconds, all preparation included")
        axis.set_xticks([250 * 2**step for step in range(5)])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    save(figure, "beyond-compute")


def adapter_figure(prices: Row) -> None:
    """Seconds of drawing over the number of images: an adapter pays once, guidance for every image."""
    images, numbers = {name: mean(seconds) for name, seconds in prices["images"].items()}, [2**n for n in range(9, 18)]
    figure, axis = plt.subplots(figsize=(5.4, 3.2), layout="constrained")
    for name, before, price, color in (
        ("guided by EDA", 0.0, images["prism"], COLORS["guided"]),
        ("adapter, trained first", prices["adapter"], images["adapted"], COLORS["more"]),
        ("unguided", 0.0, images["dpe"], COLORS["plain"]),
    ):
        axis.plot(numbers, [(before + number * price) / 3600 for number in numbers], color=color, label=name)
    _log_scale(axis, "images")
    axis.set_yscale("log", base=2)
    axis.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda y, _: f"{y:g}"))
    axis.set_ylabel("CPU hours")
    axis.legend(frameon=False, fontsize=8)
    save(figure, "adaptation-pays")


def _log_scale(axis: Any, label: str) -> None:
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axis.set_xlabel(label, fontsize=9)


def save(figure: Any, name: str) -> None:
    """Write ``docs/images/NAME.svg``, without a date, so that the same results give the same file."""
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    figure.savefig(IMAGES / f"{name}.svg", facecolor="white", metadata={"Date": None})
    plt.close(figure)


WHOLE = ""  # in place of a part: a figure of several parts
FIGURES: dict[str, dict[str, Callable[[Any], None]]] = {
    "eda": {"sweep": sweep_figure, "curve": curve_figure, "survival": survival_figure},
    "dpe": {"steps": steps_figure},
    "beyond": {WHOLE: compute_figure, "prices": adapter_figure},
}


def main() -> None:
    """Draw every figure whose rows are recorded."""
    matplotlib.rcParams["svg.hashsalt"] = "prismkd"
    for name, figures in FIGURES.items():
        path = RESULTS / f"{name}.json"
        data = json.loads(path.read_text()) if path.is_file() else {}
        for part, draw in figures.items():
            found = data if part == WHOLE else data.get(part)
            if found:
                draw(found)


if __name__ == "__main__":
    main()
