"""The tables of the pages: each a function of one recorded result (a file in ``benchmarks/results``) to Markdown.

``TABLES``, at the end, has them by the name that a page uses. A row of a result is a dictionary; rows of one setting
differ in their seed, and a cell shows their mean and standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import mean, stdev
from typing import Any

from benchmarks.pictograms.counts import icons_table

Row = dict[str, Any]
Rows = list[Row]

METHOD_NAMES = {
    "name": "class name alone",
    "sense": "sense spelled out",
    "teacher": "teacher",
    "real": "student on the real data",
    "plain": "plain prompts",
    "more": "more (plain, PRISM's seconds)",
    "eda": "EDA only",
    "dpe": "DPE only",
    "prism": "**PRISM** (EDA + DPE)",
    "adapted": "adapted (adapter + DPE)",
    "adapted-prism": "adapted PRISM (adapter + EDA + DPE)",
    "prism-rounds": "PRISM in two rounds",
    "adapted-prism-rounds": "adapted PRISM in two rounds",
}
HARDEST = 6  # classes that are named
IMAGE_METRICS = ("judge_top1", "teacher_agreement", "precision", "recall", "density", "coverage", "vendi")


# --- what tables are made of -------------------------------------------------------------------------------------


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column left, the others right."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *lines])


def over_seeds(values: Sequence[float]) -> str:
    """Mean, and the standard deviation where there are several."""
    spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread}"


def grouped(rows: Rows, *keys: str) -> dict[tuple[Any, ...], Rows]:
    """Rows by their values of ``keys``, in the order in which these first occur."""
    groups: dict[tuple[Any, ...], Rows] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def top1_on(domain: str) -> Callable[[Row], float]:
    """A row's top-1 on a domain."""
    return lambda row: row["top1"][domain]


def mean_shifted(row: Row) -> float:
    """A row's mean top-1 over the shifted domains."""
    return mean(value for domain, value in row["top1"].items() if domain != "id")


def value_of(metric: str) -> Callable[[Row], float]:
    """A row's value of a metric."""
    return lambda row: row[metric]


def cells(rows: Rows, quantities: Sequence[Callable[[Row], float]]) -> list[str]:
    """Each quantity over the seeds of ``rows``."""
    return [over_seeds([quantity(row) for row in rows]) for quantity in quantities]


def provenance(data: Row) -> str:
    """Where the figures come from: command, seeds, hardware, date and commit."""
    seeds = f"seeds {', '.join(map(str, data['seeds']))}, " if data["seeds"] else ""
    spread = "; mean ± standard deviation over seeds" if len(data["seeds"]) > 1 else ""
    return (f"`{data['command']}`, {seeds}{data['hardware']}, {data['date']}, "
            f"commit `{data['commit'][:10]}`{spread}.")  # fmt: skip


# --- runs of prismkd: docs/pictograms.md and the README ----------------------------------------------------------


def student_table(data: Row) -> str:
    """Students' top-1: methods by domains."""
    results = data["results"]
    domains = list(dict.fromkeys(r["domain"] for r in results if r["metric"] == "top1"))
    methods = [m for m in METHOD_NAMES if any(r["method"] == m for r in results)]
    lines = [[METHOD_NAMES[m], *[_result(results, m, domain, "top1") for domain in domains]] for m in methods]
    return table(["top-1 of the student on", *domains], lines)


def image_table(data: Row) -> str:
    """The image sets: methods by metrics."""
    results = data["results"]
    methods = [m for m in METHOD_NAMES if any(r["method"] == m and r["domain"] == "images" for r in results)]
    lines = [[METHOD_NAMES[m], *[_result(results, m, "images", k) for k in IMAGE_METRICS]] for m in methods]
    return table(["images of", *[k.replace("_", " ") for k in IMAGE_METRICS]], lines)


def _result(results: Rows, method: str, domain: str, metric: str) -> str:
    values = [r["value"] for r in results if (r["method"], r["domain"], r["metric"]) == (method, domain, metric)]
    return over_seeds(values) if values else ""


def sampling_table(data: Row) -> str:
    """Images and sampling seconds, mean over seeds."""
    lines = []
    for method in METHOD_NAMES:
        timings = [t for t in data["timings"] if t["method"] == method and t["stage"] == "synthesize"]
        if timings:
            seconds, images = mean(t["seconds"] for t in timings), mean(t["images"] for t in timings)
            lines.append([METHOD_NAMES[method], f"{images:.0f}", f"{seconds:.0f}", f"{images / seconds:.1f}"])
    for stage in ("senses", "contents", "calibration"):
        for t in data["timings"]:
            if t["stage"] == stage:
                lines.append([f"{stage}, once per run", str(t["images"]), f"{t['seconds']:.0f}", ""])
    return table(["sampling", "images", "seconds", "images per second"], lines)


def quarters_table(data: Row) -> str:
    """The judge's top-1 by quarters of the classes, which are sorted by their own over all seeds; and the speed."""
    lines = []
    for (method,), rows in grouped(data["per_class"], "method").items():
        of_class = {name: mean(r["judge_top1"] for r in of_name) for (name,), of_name in grouped(rows, "class").items()}
        names = sorted(of_class, key=lambda name: of_class[name])
        bounds = [round(quarter * len(names) / 4) for quarter in range(5)]
        by_seed = [{r["class"]: r["judge_top1"] for r in of_seed} for of_seed in grouped(rows, "seed").values()]
        quarters = [over_seeds([mean(top1[name] for name in names[first:last]) for top1 in by_seed])
                    for first, last in pairwise(bounds)]  # fmt: skip
        timings = [t for t in data["timings"] if t["method"] == method]
        speed = sum(t["images"] for t in timings) / sum(t["seconds"] for t in timings)
        hardest = ", ".join(f"{name} {of_class[name]:.2f}" for name in names[:HARDEST])
        lines.append([METHOD_NAMES[method], *quarters, f"{speed:.1f}", hardest])
    header = ["judge top1 by quarter of the classes", "hardest", "second", "third", "easiest", "images per second",
              "hardest classes"]  # fmt: skip
    return table(header, lines)


def sheet_of_classes(data: Row) -> str:
    """The sheet that is drawn together with the results."""
    return f"![Images of {len(data['classes'])} classes](images/pictograms-classes.webp)"


def guidance_knobs_table(data: Row) -> str:
    """Knobs of guidance, its energy or its style, each varied alone; the chosen value in bold."""
    quantities = ("agreement", "agreement_harsh", "energy", "vendi")
    return _knobs(data["rows"], {name: name.replace("_harsh", " on harsh views") for name in quantities})


def student_knobs_table(data: Row) -> str:
    """Knobs of the student, each varied alone; the chosen value in bold."""
    return _knobs(data["rows"], {})


def _knobs(rows: Rows, quantities: dict[str, str]) -> str:
    """A line per value with its fidelity, and further quantities by their names."""
    error, lines = standard_error(rows), []
    for (knob,), of_knob in grouped(rows, "knob").items():
        chosen = chosen_value(of_knob, error)
        for (value,), of_value in grouped(of_knob, "value").items():
            text = f"**{as_text(value)}**" if value == chosen else as_text(value)
            lines.append([knob.replace("_", " "), text, *cells(of_value, [*map(value_of, ("fidelity", *quantities))])])
    return table(["knob", "value", f"fidelity (standard error {error:.4f})", *quantities.values()], lines)


def as_text(value: float | str) -> str:
    """A knob's value: a number without needless zeros, or a name."""
    return value if isinstance(value, str) else f"{value:g}"


def chosen_value(rows: Rows, error: float) -> float | str:
    """The value of a knob with the highest fidelity; of those within one standard error of it, the first."""
    means = _mean_fidelity(rows, "value")
    return next(value for value, fidelity in means.items() if fidelity >= max(means.values()) - error)


def standard_error(rows: Rows) -> float:
    """Of a value's mean fidelity, from what seeds and values don't explain of it, over all knobs."""
    squares, freedom, num_seeds = 0.0, 0, len({r["seed"] for r in rows})
    for of_knob in grouped(rows, "knob").values():
        # Images of one seed share their noise over the values, so what a seed has more of in all of them is no error
        of_value, of_seed = _mean_fidelity(of_knob, "value"), _mean_fidelity(of_knob, "seed")
        overall = mean(of_value.values())
        squares += sum((r["fidelity"] - of_value[r["value"]] - of_seed[r["seed"]] + overall) ** 2 for r in of_knob)
        freedom += (len(of_value) - 1) * (len(of_seed) - 1)
    return (squares / freedom / num_seeds) ** 0.5


def _mean_fidelity(rows: Rows, key: str) -> dict[Any, float]:
    """By the values of ``key``."""
    return {value: mean(r["fidelity"] for r in group) for (value,), group in grouped(rows, key).items()}


# --- EDA: docs/eda.md --------------------------------------------------------------------------------------------


def sweep_table(data: Row) -> str:
    """EDA's arms at the same number of images: the student, then the images."""
    columns = {
        "student id": top1_on("id"),
        "student shifted": mean_shifted,
        "teacher agreement": value_of("teacher_agreement"),
        "judge top1": value_of("judge_top1"),
        "energy": value_of("energy"),
        "precision": value_of("precision"),
        "recall": value_of("recall"),
        "Vendi": value_of("vendi"),
    }
    arms = grouped(data["sweep"], "arm")
    return table(["guidance", *columns], [[arm, *cells(rows, [*columns.values()])] for (arm,), rows in arms.items()])


def guidance_options_table(data: Row) -> str:
    """The default with each further option alone: the student, the images, and the seconds of one."""
    columns = {
        "student id": top1_on("id"),
        "student shifted": mean_shifted,
        "teacher agreement": value_of("teacher_agreement"),
        "energy": value_of("energy"),
        "judge top1": value_of("judge_top1"),
        "precision": value_of("precision"),
        "recall": value_of("recall"),
    }
    lines = []
    for (arm,), rows in grouped(data["options"], "arm").items():
        seconds = rows[0]["seconds_per_image"]
        lines.append([arm, *cells(rows, [*columns.values()]), f"{seconds:.4f}"])
    return table(["guidance", *columns, "seconds per image"], lines)


def curve_table(data: Row) -> str:
    """Student top-1 over images per class, ID / shifted; more and filter at the guided images' seconds."""
    rows = data["curve"]
    sizes = sorted({r["images_per_class"] for r in rows})
    lines = []
    for domain, top1 in {"id": top1_on("id"), "shifted": mean_shifted}.items():
        for (arm,), of_arm in grouped(rows, "arm").items():
            by_size = grouped(of_arm, "images_per_class")
            lines.append([f"{domain}: {arm}", *[over_seeds([top1(r) for r in by_size[(size,)]]) for size in sizes]])
    return table(["student, images per class", *map(str, sizes)], lines)


def teachers_table(data: Row) -> str:
    """Plain and guided with other teachers."""
    quantities = [top1_on("id"), mean_shifted, value_of("teacher_agreement"), value_of("judge_top1")]
    settings = grouped(data["teachers"], "teacher", "arm")
    lines = [[f"{teacher}: {arm}", *cells(rows, quantities)] for (teacher, arm), rows in settings.items()]
    return table(["teacher and guidance", "student id", "student shifted", "teacher agreement", "judge top1"], lines)


def survival_table(data: Row) -> str:
    """Gains in nats of log p(y | x) after every treatment, teacher / judge."""
    rows = data["survival"]
    treatments = list(dict.fromkeys(r["treatment"] for r in rows[0]["guided"]))

    def line(name: str, gains: Rows) -> list[str]:
        gain = {(r["treatment"], r["viewer"]): r["label_gain"] for r in gains}
        return [name, *[f"{gain[t, 'teacher']:+.2f} / {gain[t, 'judge']:+.2f}" for t in treatments]]

    lines = [line(row["arm"], row["guided"]) for row in rows]
    lines.append(line("negative control", rows[0]["ascending"]))
    return table(["gain, teacher / judge", *treatments], lines)


def cost_of_guidance_table(data: Row) -> str:
    """FLOPs and seconds of guidance relative to none."""
    lines = []
    for r in data["rows"]:
        if r["gradient"] == "none":
            continue
        seconds = "" if r["seconds_ratio"] is None else f"{r['seconds_ratio']:.2f}"
        share = "" if r["guided_share"] is None else f"{r['guided_share']:.2f}"
        lines.append([r["shape"], r["gradient"], r["decoder"], share, f"{r['flops_ratio']:.3f}", seconds])
    return table(["shape", "gradient through", "decoder", "share guided", "FLOPs ratio", "seconds ratio"], lines)


UNGUIDED = "unguided"
GPU_SHAPES = {"sd-1.5": "SD 1.5 at 512", "sdxl": "SDXL at 1024", "dit-xl": "DiT-XL/2 at 256"}


def gpu_drawing_table(data: Row) -> str:
    """Images per second on a GPU, and what guidance costs beside its FLOPs; the shapes' weights are random."""
    groups = [(shape, size, ways) for part, shape in GPU_SHAPES.items() for size, ways in data["parts"][part].items()]
    groups += [("SD 1.5 at 512, compiled", size, ways) for size, ways in data["parts"]["compile"].items()]
    lines = []
    for shape, size, ways in groups:
        if not isinstance(ways, dict) or UNGUIDED not in ways:  # pieces of a step, or a part that was stopped
            continue
        layout, _, batch = size.rpartition("batch ")
        plain, tiny = ways[UNGUIDED], ways["x0, tiny decoder"]
        others = [ways.get(way, {}).get("seconds_ratio") for way in ("check only", "x0, full decoder")]
        ratios = ["" if ratio is None else f"{ratio:.2f}" for ratio in others]
        lines.append([shape + (", channels-last" if layout else ""), batch, f"{plain['images_per_second']:.2f}",
                      f"{tiny['images_per_second']:.2f}", f"{tiny['seconds_ratio']:.2f}",
                      f"{tiny['flops_ratio']:.3f}" if "flops_ratio" in tiny else "", *ratios,
                      f"{tiny['memory_gib']:.1f}"])  # fmt: skip
    header = ["shape, 20 steps", "batch", "images/s unguided", "guided, worst case", "ratio", "FLOPs ratio",
              "none needs it", "full decoder", "GiB"]  # fmt: skip
    return table(header, lines)


def gpu_rest_table(data: Row) -> str:
    """Training beside a bare loop, and two workers on one GPU beside one."""
    parts, lines = data["parts"], []
    for size, row in parts["distillation"].items():
        if size.startswith("batch"):
            speeds = row["images_per_second"]
            lines.append([f"ResNet-50 to ResNet-18 at 224, {size}: images/s, and the share of a bare loop's",
                          f"{speeds['loop']:,.0f}, {row['share_of_bare']:.2f}"])  # fmt: skip
    workers = parts["workers"]
    lines.append(["two workers on one GPU over one, the embedded generator", f"{workers['two_over_one']:.2f}"])
    lines.append(["shards whose bytes differ between workers", str(sum(workers["different_shards"].values()))])
    return table(["what", "measured"], lines)


def costs_table(data: Row) -> str:
    """What the shipped recipes will cost on one GPU; speeds that no measured shape stands behind have a tilde."""

    def pair(values: dict[str, float], form: str) -> str:
        return " / ".join(format(value, form) for value in values.values())

    lines = []
    for r in data["rows"]:
        mark = "" if r["measured_as"] else "~"
        lines.append([f"`{r['recipe']}`", r["generator"], f"{r['images']:,}",
                      f"{r['unguided_tflops']:.1f} / {r['unguided_tflops'] + r['guidance_tflops']:.1f}",
                      f"{mark}{pair(r['images_per_second'], '.2f')}", f"{mark}{pair(r['drawing_hours'], ',.1f')}",
                      r["student"], f"{r['training_hours']:.2f}", pair(r["gigabytes"], ".1f"),
                      f"{mark}{pair(r['dollars'], ',.1f')}"])  # fmt: skip
    header = ["recipe", "generator", "images", "TFLOPs an image", "images/s", "GPU hours", "student", "its hours",
              "GB of images / cache", "dollars"]  # fmt: skip
    return table(header, lines)


def costs_rates_table(data: Row) -> str:
    """The speeds behind the costs, as shares of the GPU's peak."""
    rates, peak = data["rates"], data["peak_tflops"]

    def share(tflops: float) -> str:
        return f"{tflops:.0f} ({tflops / peak:.0%})"

    lines = [
        [GPU_SHAPES[name], share(tflops), *[share(of_decoder) for of_decoder in rates["guidance"][name].values()]]
        for name, tflops in rates["sampling"].items()
    ]
    lines.append(["training a ResNet-18 from a ResNet-50", share(rates["training"]), "", ""])
    header = [
        "TFLOP/s, and the share of the peak",
        "unguided",
        *[f"guidance, {name} decoder" for name in ("tiny", "full")],
    ]
    return table(header, lines)


# --- DPE: docs/dpe.md --------------------------------------------------------------------------------------------


def steps_table(data: Row) -> str:
    """DPE's steps, each added to the one before: students per domain, then images; without and with guidance."""
    rows = data["steps"]
    domains = list(rows[0]["top1"])
    quantities = [*map(top1_on, domains), *map(value_of, ("judge_top1", "recall", "coverage", "vendi"))]
    lines = []
    for (guided, step), of_step in grouped(rows, "guided", "step").items():
        name = step if step == "plain" else f"+ {step}"
        lines.append([f"{'**EDA** ' if guided else ''}{name}", *cells(of_step, quantities)])
    return table(["prompts", *domains, "judge top1", "recall", "coverage", "Vendi"], lines)


def variants_table(data: Row) -> str:
    """One student of each variant of PRISM's prompts, per domain."""
    domains = list(data["variants"][0]["top1"])
    lines = [[row["variant"], *[f"{row['top1'][domain]:.3f}" for domain in domains], f"{mean_shifted(row):.3f}"]
             for row in data["variants"]]  # fmt: skip
    return table(["prompts", *domains, "mean shifted"], lines)


def checks_table(rows: Rows) -> str:
    """What the teacher said of each adapter's images while it was trained, and of guided ones without an adapter."""
    lines, names = [], ("energy", "agreement", "diversity")
    for row in rows:
        for check in row["checks"]:
            kept = " (kept)" if check["step"] == row["chosen_step"] else ""
            ended = ", ended" if row["stopped"] and check is row["checks"][-1] else ""
            figures = [f"{check[name]:.3f}" for name in names]
            lines.append([row["adapter"], f"{check['step']}{kept}{ended}", *figures])
    guided = rows[0]["guided"]
    lines.append(["no adapter, but EDA", "", *[f"{guided[name]:.3f}" for name in names]])
    return table(["adapter", "step", "energy", "teacher agrees", "Vendi (teacher's features)"], lines)


def beyond_table(data: Row) -> str:
    """Students and images of ``benchmarks.beyond`` at equal numbers of images and steps, those of the first row."""
    first, domains = data["rows"][0], list(data["rows"][0]["top1"])
    equal = [row for row in data["rows"] if _amounts(row) == _amounts(first)]
    quantities = [*map(top1_on, domains), mean_shifted, *map(value_of, ("judge_top1", "recall", "coverage"))]
    lines = [[name, *cells(found, quantities)] for name, found in by_kind(equal).items()]
    return table(["images, labels", *domains, "mean shifted", "judge top1", "recall", "coverage"], lines)


def differences_table(data: Row) -> str:
    """Differences to PRISM's students of the same number of images and steps, in points, paired by seed."""
    lines, names = [], list(by_kind(data["rows"]))
    for (per_class, steps), rows in grouped(data["rows"], "per_class", "num_steps").items():
        kinds = by_kind(rows)
        base = kinds.pop(names[0], [])
        for name, found in kinds.items():
            if base:
                pairs = list(zip(found, base, strict=True))
                lines.append(
                    [name, str(per_class), f"{steps:,}", _points(pairs, top1_on("id")), _points(pairs, mean_shifted)]
                )
    return table(["images, labels", "per class", "steps", "id", "mean shifted"], lines)


def _points(pairs: Sequence[tuple[Row, Row]], quantity: Callable[[Row], float]) -> str:
    differences = [100 * (quantity(row) - quantity(base)) for row, base in pairs]
    return f"{mean(differences):+.1f} ± {stdev(differences):.1f}"


def compute_table(data: Row) -> str:
    """Students of ``benchmarks.beyond`` over what they cost; the seconds are of one thread of a CPU."""
    kinds, lines = by_kind(data["rows"]), []
    quantities = [
        top1_on("id"),
        mean_shifted,
        *map(value_of, ("judge_top1", "precision", "recall", "coverage", "vendi")),
    ]
    several = {name: found for name, found in kinds.items() if len(set(map(_amounts, found))) > 1}
    for name, rows in several.items():
        for (per_class, steps, seconds), found in grouped(rows, "per_class", "num_steps", "seconds").items():
            lines.append([name, str(per_class), f"{steps:,}", f"{seconds:,.0f}", *cells(found, quantities)])
    teacher = {"top1": data["teacher"]}
    lines.append(["teacher", "", "", "", *cells([teacher], [top1_on("id"), mean_shifted]), *[""] * 5])
    head = [
        "images, labels",
        "per class",
        "steps",
        "seconds",
        "id",
        "mean shifted",
        "judge top1",
        "precision",
        "recall",
    ]
    return table([*head, "coverage", "Vendi"], lines)


RECIPES_SCALE = 3.0  # of classifier-free guidance, in the published recipe
WAYS = {  # to draw, by their names in prices
    "plain": "plain prompts",
    "dpe": "DPE, unguided",
    "prism": "DPE, guided (EDA)",
    "adapted": "DPE, adapted",
    "adapted-prism": "DPE, adapted and guided",
    "with a guide": "DPE, guided, with a student in the guidance",
}


def sampling_prices_table(data: Row) -> str:
    """CPU seconds per image of every way to draw, over those of unguided images of the same prompts."""
    images, lines = data["prices"]["images"], []
    for name, seconds in images.items():
        ratios = [own / base for own, base in zip(seconds, images["dpe"], strict=True)]
        lines.append(
            [WAYS[name], f"{mean(seconds):.3f}", f"{mean(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"]
        )
    return table(["images", "CPU seconds per image", "over unguided"], lines)


def by_kind(rows: Rows) -> dict[str, Rows]:
    """Rows of ``benchmarks.beyond`` by what they are called: everything but the amounts of images and steps."""
    found: dict[str, Rows] = {}
    for (method, by_agreement, scale), of_kind in grouped(rows, "method", "by_agreement", "guidance_scale").items():
        name = METHOD_NAMES[method] + (", labels by agreement" if by_agreement else "")
        found[name + (f", guidance scale {scale:g}" if scale != RECIPES_SCALE else "")] = of_kind
    return found


def _amounts(row: Row) -> tuple[int, int]:
    return row["per_class"], row["num_steps"]


def limits_table(data: Row) -> str:
    """Students of other numbers of images and steps, with other labels, widths and prompts."""
    rows, lines = data["rows"], []
    quantities = [value_of("fidelity"), top1_on("id"), mean_shifted]
    keys = ("method", "per_class", "num_steps", "weight", "other")
    for (method, per_class, num_steps, weight, other), found in grouped(rows, *keys).items():
        name = METHOD_NAMES[method] + (f", {other}" if other else "")
        number = str(per_class) if per_class else "53 real ones"
        lines.append([name, number, f"{num_steps:,}", f"{weight:g}", str(len(found)), *cells(found, quantities)])
    head = ["images", "per class", "steps", "label weight", "seeds", "fidelity", "id", "mean shifted"]
    return table(head, lines)


def adapted_survival_table(data: Row) -> str:
    """As ``survival_table``: the guided images, then each adapter's."""
    rows = data["survival"]
    arms = [{"arm": "guidance", "guided": rows[0]["guided"]}]
    arms += [{"arm": f"adapter, {row['adapter']}", "guided": row["adapted"]} for row in rows]
    treatments = list(dict.fromkeys(gain["treatment"] for gain in rows[0]["guided"]))
    lines = []
    for arm in arms:
        gain = {(row["treatment"], row["viewer"]): row["label_gain"] for row in arm["guided"]}
        top1 = {row["viewer"]: row["top1"] for row in arm["guided"] if row["treatment"] == "none"}
        lines.append([arm["arm"], *[f"{gain[t, 'teacher']:+.2f} / {gain[t, 'judge']:+.2f}" for t in treatments],
                      f"{top1['judge']:.3f}"])  # fmt: skip
    return table(["gain, teacher / judge", *treatments, "judge top1"], lines)


def senses_table(data: Row) -> str:
    """How often the judge recognizes the class in the images of each source's wording, and how often mostly."""
    sources = list(dict.fromkeys(source for r in data["senses"] for source in r["recognized"]))
    lines = []
    for source in sources:
        line = [source]
        for polysemous in (True, False):
            rows = [r for r in data["senses"] if r["polysemous"] == polysemous and source in r["recognized"]]
            shares = [[r["recognized"][source] for r in of_seed] for of_seed in grouped(rows, "seed").values()]
            mostly = mean(mean(share >= 0.5 for share in of_seed) for of_seed in shares)
            num_classes = len({r["class"] for r in rows})
            line += [over_seeds([mean(of_seed) for of_seed in shares]), f"{mostly * num_classes:.1f} of {num_classes}"]
        lines.append(line)
    header = ["wording from", "ambiguous: judge sees it", "mostly right", "others: judge sees it", "mostly right"]
    return table(header, lines)


# --- the engine: docs/synthesis.md -------------------------------------------------------------------------------


def faults_table(data: Row) -> str:
    """Kills per executor, and what they did."""
    columns = {
        "executor": "executor",
        "kills": "rounds",
        "of drivers": "drivers",
        "of workers": "workers",
        "data sets": "data_sets",
        "other bytes": "differing",
        "temporary files left": "leftovers",
        "findings": "findings",
    }
    return table([*columns], [[str(row[name]) for name in columns.values()] for row in data["rows"]])


def fault_matrix_table(data: Row) -> str:
    """Faults per stage, by their kind, and everything that should not have come of them."""
    kinds = {"SIGKILL": "SIGKILL", "SIGTERM": "SIGTERM", "no room": ("no room", "full disk"), "moved": "folder moved"}
    wrong = {
        "other bytes": "differing",
        "files left": "leftovers",
        "can't go on": "stuck",
        "wrong end": "wrong_endings",
        "processes left": "strays",
        "findings": "findings",
    }

    def line(name: str, rows: list[Row]) -> list[str]:
        struck = [sum(row["faults"] for row in rows if row["fault"].startswith(kind)) for kind in kinds.values()]
        return [name, *map(str, struck), *(str(sum(row[key] for row in rows)) for key in wrong.values())]

    rows = data["matrix"]
    lines = [line(name, of_stage) for (name,), of_stage in grouped(rows, "stage").items()]
    return table(["stage", *kinds, *wrong], [*lines, line("all", rows)])


def fuzz_table(data: Row) -> str:
    """Inputs per family, and what their readers did."""
    columns = {
        "family": "family",
        "inputs": "inputs",
        "read": "accepted",
        "refused in a line": "refused",
        "tracebacks": "traceback",
        "connected, wrote or ran elsewhere": "outside",
        "over 10 s": "hangs",
        "crashes": "crashes",
    }
    rows = [*data["rows"], {"family": "**all**", **data["total"]}]
    lines = [[row["family"], *(f"{row[name]:,}" for name in [*columns.values()][1:])] for row in rows]
    return table([*columns], lines)


def engine_table(data: Row) -> str:
    """What the engine costs beside the drawing."""
    engine, processes, memory, scan = (data[part] for part in ("engine", "processes", "memory", "scan"))
    one, two = (processes["images_per_second"][name] for name in ("one", "two"))
    peaks = ", ".join(f"{row['peak_megabytes']:.0f} MB at {row['images']:,}" for row in memory["rows"])
    measured = {
        "throughput over the bare pipeline, unguided": f"{engine['unguided']['ratio']:.3f}",
        "throughput over the bare pipeline, guided": f"{engine['guided']['ratio']:.3f}",
        "two processes over one, a thread each": f"{processes['ratio']:.2f} ({one:.1f} to {two:.1f} images/s)",
        "growth of the peak memory, images without a model": f"{memory['growth_megabytes']:.0f} MB ({peaks})",
        f"finding out what is there of {scan['shards']:,} shards": f"{scan['seconds']:.2f} s",
    }
    return table(["what", "measured"], [*measured.items()])


def options_table(data: Row) -> str:
    """What PyTorch's options bring over the default."""
    lines = [[name, f"{row['ratio']:.2f} ({min(row['ratios']):.2f} to {max(row['ratios']):.2f})"]
             for name, row in data["options"].items()]  # fmt: skip
    return table(["option", "throughput over the default"], lines)


# --- several teachers, few real images: docs/teachers.md and docs/distillation.md --------------------------------


def federated_table(data: Row) -> str:
    """Teachers alone, together, and their student; top-1 over all classes."""
    domains = list(dict.fromkeys(r["domain"] for r in data["rows"]))
    names = {"best single teacher": "the best teacher alone", "plain average": "plain average of the logits",
             "prism": "student, PRISM"}  # fmt: skip
    rows = grouped(data["rows"], "who", "domain")
    lines = [[text, *[cells(rows[who, domain], [value_of("top1")])[0] for domain in domains]]
             for who, text in names.items()]  # fmt: skip
    return table(["top-1 over all 24 classes", *domains], lines)


def choice_table(data: Row) -> str:
    """The federated settings that were tried: accuracy on the icons that no teacher saw."""
    names = {"images_per_class": "images per class", "id_share": "ID share", "architecture": "student"}
    rows = [dict.fromkeys(names, "") | row for row in data["rows"]]  # the average of the teachers has no settings
    lines = [[*map(str, key), *cells(of_setting, [value_of("accuracy")])]
             for key, of_setting in grouped(rows, "who", *names).items()]  # fmt: skip
    return table(["", *names.values(), "top-1"], lines)


def augmentation_table(data: Row) -> str:
    """Few real images with and without synthetic ones, taught by the teacher or by labels alone: top-1 per domain."""
    rows = data["rows"]
    domains = list(rows[0]["top1"])
    quantities = [*map(top1_on, domains), mean_shifted]
    lines = [[f"{loss}: {images}", *cells(of_setting, quantities)]
             for (loss, images), of_setting in grouped(rows, "loss", "images").items()]  # fmt: skip
    return table(["taught by, images", *domains, "mean shifted"], lines)


def norms_table(data: Row) -> str:
    """Students with shared and with auxiliary batch norms: top-1 per domain."""
    rows = data["rows"]
    domains = list(rows[0]["top1"])
    lines = [[norms, *cells(of_setting, [*map(top1_on, domains), mean_shifted])]
             for (norms,), of_setting in grouped(rows, "norms").items()]  # fmt: skip
    return table(["batch norms", *domains, "mean shifted"], lines)


# --- the training loop: docs/distillation.md ---------------------------------------------------------------------


def rehearsal_table(data: Row) -> str:
    """Every command of a run at true size: seconds, peak memory, and what a kill in its midst left."""
    lines = [[row["stage"], f"{row['seconds_until_kill']:.0f}{'' if row['killed_at_work'] else ' (was done)'}",
              f"{row['seconds']:.0f}", str(row["files_kept"] or ""), f"{row['gigabytes']:.1f}"]
             for row in data["stages"]]  # fmt: skip
    return table(["command", "killed after, s", "given again, s", "files kept", "GB of memory"], lines)


def rehearsal_adaptation_table(data: Row) -> str:
    """Adaptation at true size: what is adapted, and what its commands took."""
    lines = []
    for row in data["rows"]:
        stages = {stage["stage"]: stage for stage in row["stages"]}
        lines.append([f"{row['generator']} at {row['side']}", f"{row['denoiser_parameters'] / 1e6:,.0f}",
                      str(row["adapted_layers"]), f"{row['adapter_parameters'] / 1e6:.1f}",
                      *_seconds_and_memory(stages.get("adapt")),
                      *_seconds_and_memory(stages.get("synthesize"))])  # fmt: skip
    head = ["generator", "denoiser, M", "layers adapted", "adapter, M", "adapt, s", "GB", "7 images, s", "GB"]
    return table(head, lines)


def _seconds_and_memory(stage: Row | None) -> list[str]:
    """Of a command's whole work: of the second call, or of the first where the kill came too late."""
    if stage is None:
        return ["", ""]
    seconds = stage["seconds" if stage["killed_at_work"] else "seconds_until_kill"]
    return [f"{seconds:.0f}", f"{stage['gigabytes']:.1f}"]


def loop_table(data: Row) -> str:
    """The training loop over bare forward and backward on the same views."""
    lines = [
        [f"images from {source}", f"{row['ratio']:.3f} ({min(row['ratios']):.3f} to {max(row['ratios']):.3f})",
         f"{row['images_per_second']:.0f}"]
        for source, row in data["loop"].items()
    ]  # fmt: skip
    return table(["training loop", "throughput over a bare loop", "images per second"], lines)


def photos_table(row: Row) -> str:
    """Photographs: the cache's size and time, and the training loop over a bare one from it."""
    cache = f"{row['images']} of {row['drawn_side']} px, cached at {row['stored_side']} px"
    size = f"{row['cache_bytes'] / 1e6:.1f} MB, {row['cache_seconds']:.1f} s"
    ratio = f"{row['ratio']:.3f} ({min(row['ratios']):.3f} to {max(row['ratios']):.3f})"
    head = ["images", "size and building of the cache", f"loop at {row['seen_side']} px over a bare loop",
            "images per CPU second"]  # fmt: skip
    return table(head, [[cache, size, ratio, f"{row['images_per_cpu_second']:.2f}"]])


def stored_table(data: Row) -> str:
    """The fast mode beside the default: agreement and top-1 on ID, seconds."""
    lines = [[mode, *cells(rows, [value_of("agreement"), value_of("top1")]), f"{mean(r['seconds'] for r in rows):.1f}"]
             for (mode,), rows in grouped(data["stored"]["rows"], "mode").items()]  # fmt: skip
    return table(["teacher's logits", "agreement", "top-1", "seconds"], lines)


TABLES: dict[str, Callable[[Row], str]] = {
    "icons": icons_table,
    "students": student_table,
    "images": image_table,
    "cost": sampling_table,
    "quarters": quarters_table,
    "sheet": sheet_of_classes,
    "guidance_knobs": guidance_knobs_table,
    "energy_knobs": guidance_knobs_table,
    "student_knobs": student_knobs_table,
    "sweep": sweep_table,
    "guidance_options": guidance_options_table,
    "teachers": teachers_table,
    "curve": curve_table,
    "survival": survival_table,
    "guidance": cost_of_guidance_table,
    "gpu": gpu_drawing_table,
    "gpu_rest": gpu_rest_table,
    "costs": costs_table,
    "rates": costs_rates_table,
    "steps": steps_table,
    "senses": senses_table,
    "variants": variants_table,
    "adapters": lambda data: checks_table(data["adapters"]),
    "collapse": lambda data: checks_table(data["collapse"]),
    "beyond": beyond_table,
    "differences": differences_table,
    "compute": compute_table,
    "sampling": sampling_prices_table,
    "limits": limits_table,
    "adapted_survival": adapted_survival_table,
    "faults": faults_table,
    "matrix": fault_matrix_table,
    "fuzz": fuzz_table,
    "engine": engine_table,
    "options": options_table,
    "federated": federated_table,
    "choice": choice_table,
    "augmentation": augmentation_table,
    "norms": norms_table,
    "loop": loop_table,
    "stored": stored_table,
    "photos": photos_table,
    "rehearsal": rehearsal_table,
    "rehearsal_adaptation": rehearsal_adaptation_table,
    "provenance": provenance,
}
# Of results that are measured part by part: the part that a table shows
PARTS = {
    "quarters": "per_class",
    "sheet": "per_class",
    "sweep": "sweep",
    "guidance_options": "options",
    "curve": "curve",
    "teachers": "teachers",
    "survival": "survival",
    "steps": "steps",
    "senses": "senses",
    "variants": "variants",
    "compute": "teacher",
    "sampling": "prices",
    "adapters": "adapters",
    "collapse": "collapse",
    "adapted_survival": "survival",
    "loop": "loop",
    "stored": "stored",
}
