"""The tables of the pages, each a function of one recorded result."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean, stdev
from typing import Any

Rows = list[dict[str, Any]]
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
}
IMAGE_METRICS = ("judge_top1", "teacher_agreement", "precision", "recall", "density", "coverage", "vendi")


def cell(results: list[dict[str, Any]], method: str, domain: str, metric: str, digits: int = 3) -> str:
    """The mean over seeds, with the standard deviation where there are several."""
    values = [r["value"] for r in results if (r["method"], r["domain"], r["metric"]) == (method, domain, metric)]
    if not values:
        return ""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, the first column left, the others right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def student_table(data: dict[str, Any]) -> str:
    """Students' top-1: methods by domains."""
    results = data["results"]
    domains = list(dict.fromkeys(r["domain"] for r in results if r["metric"] == "top1"))
    methods = [m for m in METHOD_NAMES if any(r["method"] == m for r in results)]
    rows = [[METHOD_NAMES[m], *[cell(results, m, d, "top1") for d in domains]] for m in methods]
    return table(["top-1 of the student on", *domains], rows)


def image_table(data: dict[str, Any]) -> str:
    """The image sets: methods by metrics."""
    results = data["results"]
    methods = [m for m in METHOD_NAMES if any(r["method"] == m and r["domain"] == "images" for r in results)]
    rows = [[METHOD_NAMES[m], *[cell(results, m, "images", k) for k in IMAGE_METRICS]] for m in methods]
    return table(["images of", *[k.replace("_", " ") for k in IMAGE_METRICS]], rows)


def cost_table(data: dict[str, Any]) -> str:
    """Images and sampling seconds, mean over seeds."""
    rows = []
    for method in METHOD_NAMES:
        timings = [t for t in data["timings"] if t["method"] == method and t["stage"] == "synthesize"]
        if timings:
            seconds, images = mean(t["seconds"] for t in timings), mean(t["images"] for t in timings)
            rows.append([METHOD_NAMES[method], f"{images:.0f}", f"{seconds:.0f}", f"{images / seconds:.1f}"])
    for stage in ("senses", "calibration"):
        for t in data["timings"]:
            if t["stage"] == stage:
                rows.append([f"{stage}, once per run", str(t["images"]), f"{t['seconds']:.0f}", ""])
    return table(["sampling", "images", "seconds", "images per second"], rows)


def knob_table(data: dict[str, Any]) -> str:
    """Settings of guidance and style by teacher-side quantities; the best fidelity of each kind of prompt in bold."""
    best = {kind: max(r["fidelity"] for r in data["rows"] if r["prompts"] == kind) for kind in ("plain", "DPE")}
    rows = []
    for r in data["rows"]:
        share = "" if r["id_share"] is None else f"{r['id_share']:.2f}"
        fidelity = f"{r['fidelity']:.3f}"
        fidelity = f"**{fidelity}**" if r["fidelity"] == best[r["prompts"]] else fidelity
        rows.append([r["prompts"], share, f"{r['strength']:.1f}", f"{r['agreement']:.3f}",
                     f"{r['agreement_harsh']:.3f}", f"{r['energy']:.2f}", f"{r['vendi']:.2f}", fidelity])  # fmt: skip
    header = ["prompts", "id share", "strength", "agreement", "on harsh views", "energy", "Vendi", "fidelity"]
    return table(header, rows)


def provenance(data: dict[str, Any]) -> str:
    """Where the figures come from."""
    seeds = f"seeds {', '.join(map(str, data['seeds']))}, " if data["seeds"] else ""
    spread = "; mean ± standard deviation over seeds" if len(data["seeds"]) > 1 else ""
    return (f"`{data['command']}`, {seeds}{data['hardware']}, {data['date']}, "
            f"commit `{data['commit'][:10]}`{spread}.")  # fmt: skip


def sweep_table(data: dict[str, Any]) -> str:
    """EDA's arms at the same number of images: the student, then the images."""
    columns: dict[str, Callable[[dict[str, Any]], float]] = {
        "student id": lambda r: r["top1"]["id"],
        "student shifted": shifted,
        "teacher agreement": lambda r: r["teacher_agreement"],
        "judge top1": lambda r: r["judge_top1"],
        "energy": lambda r: r["energy"],
        "precision": lambda r: r["precision"],
        "recall": lambda r: r["recall"],
        "Vendi": lambda r: r["vendi"],
    }
    rows = data["sweep"]
    arms = list(dict.fromkeys(r["arm"] for r in rows))
    lines = [[arm, *[over_seeds([f(r) for r in rows if r["arm"] == arm]) for f in columns.values()]] for arm in arms]
    return table(["guidance", *columns], lines)


def shifted(row: dict[str, Any]) -> float:
    """Mean top-1 over the shifted domains."""
    return mean(value for domain, value in row["top1"].items() if domain != "id")


def teachers_table(data: dict[str, Any]) -> str:
    """Plain and guided with other teachers."""
    rows = data["teachers"]
    lines = []
    for teacher, arm in dict.fromkeys((r["teacher"], r["arm"]) for r in rows):
        own = [r for r in rows if (r["teacher"], r["arm"]) == (teacher, arm)]
        values = [[r["top1"]["id"] for r in own], [shifted(r) for r in own], [r["teacher_agreement"] for r in own],
                  [r["judge_top1"] for r in own]]  # fmt: skip
        lines.append([f"{teacher}: {arm}", *map(over_seeds, values)])
    return table(["teacher and guidance", "student id", "student shifted", "teacher agreement", "judge top1"], lines)


def curve_table(data: dict[str, Any]) -> str:
    """Student top-1 over images per class, ID / shifted; more and filter at the guided images' seconds."""
    rows = data["curve"]
    sizes = sorted({r["images_per_class"] for r in rows})
    lines = []
    for domain, value in {"id": lambda r: r["top1"]["id"], "shifted": shifted}.items():
        for arm in dict.fromkeys(r["arm"] for r in rows):
            own = [r for r in rows if r["arm"] == arm]
            lines.append([f"{domain}: {arm}", *[over_seeds([value(r) for r in own if r["images_per_class"] == n])
                                                for n in sizes]])  # fmt: skip
    return table(["student, images per class", *map(str, sizes)], lines)


def survival_table(data: dict[str, Any]) -> str:
    """Gains in nats of log p(y | x) after every treatment, teacher / judge."""
    rows = data["survival"]
    treatments = list(dict.fromkeys(r["treatment"] for r in rows[0]["guided"]))
    lines = []
    for sign in ("guided", "ascending"):
        for row in rows if sign == "guided" else rows[:1]:
            found = {(r["treatment"], r["viewer"]): r["label_gain"] for r in row[sign]}
            cells = [f"{found[t, 'teacher']:+.2f} / {found[t, 'judge']:+.2f}" for t in treatments]
            lines.append([row["arm"] if sign == "guided" else "negative control", *cells])
    return table(["gain, teacher / judge", *treatments], lines)


def cost_of_guidance_table(data: dict[str, Any]) -> str:
    """FLOPs and seconds of guidance relative to none."""
    lines = []
    for r in data["rows"]:
        if r["gradient"] == "none":
            continue
        seconds = "" if r["seconds_ratio"] is None else f"{r['seconds_ratio']:.2f}"
        share = "" if r["guided_share"] is None else f"{r['guided_share']:.2f}"
        lines.append([r["shape"], r["gradient"], r["decoder"], share, f"{r['flops_ratio']:.3f}", seconds])
    return table(["shape", "gradient through", "decoder", "share guided", "FLOPs ratio", "seconds ratio"], lines)


def steps_table(data: dict[str, Any]) -> str:
    """DPE's steps, each added to the one before: students per domain, then images; without and with guidance."""
    rows = data["steps"]
    domains = list(rows[0]["top1"])
    lines = []
    for guided, step in dict.fromkeys((r["guided"], r["step"]) for r in rows):
        own = [r for r in rows if (r["guided"], r["step"]) == (guided, step)]
        name = step if step == "plain" else f"+ {step}"
        values = [[r["top1"][d] for r in own] for d in domains]
        values += [[r[m] for r in own] for m in ("judge_top1", "recall", "coverage", "vendi")]
        lines.append([f"{'**EDA** ' if guided else ''}{name}", *map(over_seeds, values)])
    return table(["prompts", *domains, "judge top1", "recall", "coverage", "Vendi"], lines)


def senses_table(data: dict[str, Any]) -> str:
    """How often the judge recognizes the class in the images of each source's wording, and how often mostly."""
    rows = data["senses"]
    sources = list(dict.fromkeys(source for r in rows for source in r["recognized"]))
    lines = []
    for source in sources:
        cells = []
        for polysemous in (True, False):
            own = [r for r in rows if r["polysemous"] == polysemous and source in r["recognized"]]
            seeds = sorted({r["seed"] for r in own})
            shares = [[r["recognized"][source] for r in own if r["seed"] == seed] for seed in seeds]
            right = mean(mean(value >= 0.5 for value in values) for values in shares)
            number = len({r["class"] for r in own})
            cells += [over_seeds([mean(values) for values in shares]), f"{right * number:.1f} of {number}"]
        lines.append([source, *cells])
    return table(
        ["wording from", "ambiguous: judge sees it", "mostly right", "others: judge sees it", "mostly right"], lines
    )


def over_seeds(values: list[float]) -> str:
    """Mean, and the standard deviation where there are several."""
    spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread}"


def faults_table(data: dict[str, Any]) -> str:
    """Kills per executor, and what they did."""
    lines = [
        [row["executor"], *(str(row[name]) for name in ("rounds", "drivers", "workers", "data_sets", "differing",
                                                        "leftovers", "findings"))]
        for row in data["rows"]
    ]  # fmt: skip
    header = [
        "executor",
        "kills",
        "of drivers",
        "of workers",
        "data sets",
        "other bytes",
        "temporary files left",
        "findings",
    ]
    return table(header, lines)


def engine_table(data: dict[str, Any]) -> str:
    """What the engine costs beside the drawing."""
    one, two = (data["processes"]["images_per_second"][name] for name in ("one", "two"))
    rows = data["memory"]["rows"]
    peaks = ", ".join(f"{row['peak_megabytes']:.0f} MB at {row['images']:,}" for row in rows)
    lines = [
        ["throughput over the bare pipeline, unguided", f"{data['engine']['unguided']['ratio']:.3f}"],
        ["throughput over the bare pipeline, guided", f"{data['engine']['guided']['ratio']:.3f}"],
        [
            "two processes over one, a thread each",
            f"{data['processes']['ratio']:.2f} ({one:.1f} to {two:.1f} images/s)",
        ],
        ["growth of the peak memory, images without a model", f"{data['memory']['growth_megabytes']:.0f} MB ({peaks})"],
        [f"finding out what is there of {data['scan']['shards']:,} shards", f"{data['scan']['seconds']:.2f} s"],
    ]
    return table(["what", "measured"], lines)


def options_table(data: dict[str, Any]) -> str:
    """What PyTorch's options bring over the default."""
    lines = [
        [name, f"{row['ratio']:.2f} ({min(row['ratios']):.2f} to {max(row['ratios']):.2f})"]
        for name, row in data["options"].items()
    ]
    return table(["option", "throughput over the default"], lines)


def federated_table(data: dict[str, Any]) -> str:
    """Teachers alone, together, and their students; top-1 over all classes."""
    rows, domains = data["rows"], ["id", "color", "duotone", "outline", "pixel", "sketch"]
    names = {"best single teacher": "the best teacher alone", "plain average": "plain average of the logits",
             "prism": "student, PRISM"}  # fmt: skip
    lines = [
        [
            text,
            *(over_seeds([r["top1"] for r in rows if r["who"] == who and r["domain"] == domain]) for domain in domains),
        ]
        for who, text in names.items()
    ]
    return table(["top-1 over all 24 classes", *domains], lines)


def choice_table(data: dict[str, Any]) -> str:
    """The federated settings that were tried: accuracy on the icons that no teacher saw."""
    names = {"images_per_class": "images per class", "id_share": "ID share", "architecture": "student"}
    lines = dict[tuple[str, ...], list[float]]()
    for row in data["rows"]:
        lines.setdefault((row["who"], *(str(row.get(name, "")) for name in names)), []).append(row["accuracy"])
    return table(["", *names.values(), "top-1"], [[*key, over_seeds(values)] for key, values in lines.items()])


def augmentation_table(data: dict[str, Any]) -> str:
    """Few real images with and without synthetic ones, taught by the teacher or by labels alone: top-1 per domain."""
    rows = data["rows"]
    domains = list(rows[0]["top1"])
    lines = []
    for loss, images in dict.fromkeys((r["loss"], r["images"]) for r in rows):
        own = [r for r in rows if (r["loss"], r["images"]) == (loss, images)]
        values = [[r["top1"][d] for r in own] for d in domains]
        lines.append([f"{loss}: {images}", *map(over_seeds, values), over_seeds([shifted(r) for r in own])])
    return table(["taught by, images", *domains, "mean shifted"], lines)


def loop_table(data: dict[str, Any]) -> str:
    """The training loop over bare forward and backward on the same views."""
    lines = [
        [f"images from {source}", f"{row['ratio']:.3f} ({min(row['ratios']):.3f} to {max(row['ratios']):.3f})",
         f"{row['images_per_second']:.0f}"]
        for source, row in data["loop"].items()
    ]  # fmt: skip
    return table(["training loop", "throughput over a bare loop", "images per second"], lines)


def stored_table(data: dict[str, Any]) -> str:
    """The fast mode beside the default: agreement and top-1 on ID, seconds."""
    rows = data["stored"]["rows"]
    lines = []
    for mode in dict.fromkeys(r["mode"] for r in rows):
        own = [r for r in rows if r["mode"] == mode]
        lines.append([mode, *[over_seeds([r[name] for r in own]) for name in ("agreement", "top1")],
                      f"{mean(r['seconds'] for r in own):.1f}"])  # fmt: skip
    return table(["teacher's logits", "agreement", "top-1", "seconds"], lines)


TABLES = {
    "students": student_table,
    "images": image_table,
    "cost": cost_table,
    "settings": knob_table,
    "sweep": sweep_table,
    "teachers": teachers_table,
    "curve": curve_table,
    "survival": survival_table,
    "guidance": cost_of_guidance_table,
    "steps": steps_table,
    "senses": senses_table,
    "faults": faults_table,
    "engine": engine_table,
    "options": options_table,
    "federated": federated_table,
    "choice": choice_table,
    "augmentation": augmentation_table,
    "loop": loop_table,
    "stored": stored_table,
    "provenance": provenance,
}
