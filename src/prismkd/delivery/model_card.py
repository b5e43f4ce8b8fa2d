"""The model card of a delivered student: figures beside the teacher's, how it was made, and how it is used."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from prismkd import __version__
from prismkd.config import METHODS, Config
from prismkd.data.geometry import Geometry
from prismkd.delivery.graph import Parity
from prismkd.delivery.student_folder import GRAPH, WEIGHTS, timm_has_words
from prismkd.records.directory import STUDENT, dataset_folder, read_json, read_json_if_any, read_record, recorded_config
from prismkd.records.results import EVALUATION, load_run
from prismkd.records.scores import Result, score
from prismkd.records.shapes import ExampleTexts, TrainingLog
from prismkd.report.names import method_label, method_note
from prismkd.shards.card import escaped

NUM_PROMPTS = 3


def model_card(
    directory: Path, method: str, seed: int, delivered: dict[str, Any], files: Sequence[str], parity: Parity | None
) -> str:
    """``README.md`` of one student of a run; what comes from outside means nothing in Markdown or HTML.

    Args:
        directory: the run's.
        method: the student's.
        seed: the student's.
        delivered: the folder's configuration.
        files: what the folder holds, of weights and graph.
        parity: how the graph compares with the weights.
    """
    config = recorded_config(directory)
    rows = figures(directory, method, seed)
    head = _head(config, method, delivered, rows)
    title = f"{delivered['architecture']}: {len(delivered['id2label'])} classes, {method_label(method)}"
    parts = [
        f"# {escaped(title)}",
        _introduction(method, delivered),
        "## Figures",
        _figures(directory, config, method, seed, rows),
        *([f"Exported and compared: {parity}."] if parity else []),
        "## Use",
        _use(delivered, files),
        "## How it was made",
        _provenance(directory, config, method, seed),
        "## Classes",
        _table(["label", "class"], [[label, name] for label, name in delivered["id2label"].items()]),
        "## License",
        "prismkd adds no terms. What holds for these weights depends on the teacher that was imitated and on the "
        "text-to-image model whose images they learned from: check both, then name the license in this card's head.",
    ]
    return f"---\n{head.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


# --- figures -----------------------------------------------------------------------------------------------------


def figures(directory: Path, method: str, seed: int) -> list[Result]:
    """The rows of ``metrics.json`` on this student; none where it isn't evaluated, or was trained again since."""
    evaluated = (dataset_folder(directory, seed, method) / EVALUATION).is_file()
    if not evaluated or not (directory / "metrics.json").is_file():
        return []
    rows = load_run(directory).results
    return [row for row in rows if (row.method, row.seed) == (method, seed) and row.domain != "images"]


def _figures(directory: Path, config: Config, method: str, seed: int, rows: list[Result]) -> str:
    if not rows:
        return "Not measured: the student was exported before `prismkd evaluate`, or had nothing to be measured on."
    if not any(row.metric == "top1" for row in rows):
        return _figures_on_held_out(rows)
    run = load_run(directory)
    header = ["test domain", "images", f"top-1 of this student (seed {seed})", "95 % interval"]
    several = len(config.seeds) > 1
    if several:
        header.append(f"mean ± s.d., seeds {', '.join(map(str, config.seeds))}")
    header += ["teacher's top-1", "agreement with the teacher", "calibration error"]
    lines = []
    for row in rows:
        if row.metric == "top1":
            domain = row.domain
            interval = " to ".join(f"{bound:.3f}" for bound in row.ci95 or ())
            line = [domain, f"{row.n:,}", f"{row.value:.3f}", interval]
            line += [_mean(run.results, method, domain)] * several
            line += [_mean(run.results, "teacher", domain)]
            line += [_value(rows, domain, "agreement"), _value(rows, domain, "ece")]
            lines.append(line)
    source = Path(config.evaluation.source).name
    note = (
        f"Test images: {escaped(source)}; prismkd tunes nothing on them. Intervals are bootstrapped over them. "
        f"Measured with PyTorch on {escaped(str(run.metrics.get('hardware', '?')))}."
    )
    return f"{_table(header, lines)}\n\n{note}"


def _figures_on_held_out(rows: list[Result]) -> str:
    """Of a student of a run without test images."""
    lines = [
        [row.domain, f"{row.n:,}", f"{row.value:.3f}", " to ".join(f"{bound:.3f}" for bound in row.ci95 or ())]
        for row in rows if row.metric == "agreement"
    ]  # fmt: skip
    note = (
        "There were no test images, so nobody has measured an accuracy. The student was compared with its teacher on "
        "synthetic images that it did not learn from, of plain prompts and of diverse ones. Intervals are Wilson's."
    )
    header = ["images", "number", "agreement with the teacher", "95 % interval"]
    return f"{_table(header, lines)}\n\n{note}"


def _mean(results: list[Result], method: str, domain: str) -> str:
    top1 = score(results, method, domain)
    if top1 is None:
        return ""
    return f"{top1.mean:.3f}" + ("" if top1.spread is None else f" ± {top1.spread:.3f}")


def _value(rows: list[Result], domain: str, metric: str) -> str:
    return next((f"{row.value:.3f}" for row in rows if (row.domain, row.metric) == (domain, metric)), "")


# --- text --------------------------------------------------------------------------------------------------------


def _head(config: Config, method: str, delivered: dict[str, Any], rows: list[Result]) -> ModelCardData:
    """What the hub reads. No license: that is for the owner to say."""
    source = Path(config.evaluation.source).name
    results = [
        EvalResult(task_type="image-classification", dataset_type=source, dataset_name=f"{source}, {row.domain}",
                   dataset_config=row.domain, dataset_split="test", metric_type="accuracy",
                   metric_value=row.value)
        for row in rows if row.metric == "top1"
    ]  # fmt: skip
    return ModelCardData(
        library_name="timm" if "pretrained_cfg" in delivered else "prismkd",
        pipeline_tag="image-classification",
        tags=["image-classification", "knowledge-distillation", "prismkd", method],
        model_name=delivered["architecture"],
        eval_results=results or None,
    )


def _introduction(method: str, delivered: dict[str, Any]) -> str:
    side, color = delivered["input_size"], "gray" if delivered["in_channels"] == 1 else "color"
    learned = "the real training images, as a reference" if method == "real" else "synthetic images alone"
    return (
        f"A classifier of {color} images of {side} x {side} pixels, distilled from a teacher by prismkd {__version__} "
        f"with {learned} ({escaped(method_note(method))})."
    )


def _provenance(directory: Path, config: Config, method: str, seed: int) -> str:
    record = read_record(directory)
    log = read_json(dataset_folder(directory, seed, method) / STUDENT / "log.json", TrainingLog)
    recipe, energy, generator = config.distillation, config.guidance, config.generator
    rows = {
        "method": f"{method_label(method)} ({method_note(method)}), seed {seed}",
        "teacher": _public(config.teacher),
        "images": f"{log['images']:,}" + (" real" if method == "real" else " synthetic"),
        "distillation": f"{recipe.num_steps:,} steps of {recipe.batch_size} images, {recipe.optimizer} "
        f"{recipe.learning_rate:g}, temperature {recipe.temperature:g}, hard labels {recipe.hard_label_weight:g}"
        + (" and by the teacher's agreement" if recipe.weight_by_agreement else ""),
    }
    if method != "real":
        rows["generator"] = f"{_public(generator.source)} {generator.revision}".strip()
        rows["sampling"] = f"{generator.num_inference_steps} steps, guidance scale {generator.guidance_scale:g}"
        rows["prompts"] = _prompts(config, method)
    if METHODS[method].guided:
        rows["energy guidance"] = (
            f"{energy.energy}, strength {energy.strength:g}, log SNR {energy.log_snr_min:g} to {energy.log_snr_max:g}"
        )
    for number, prompt in enumerate(_examples(dataset_folder(directory, seed, method)), start=1):
        rows[f"prompt {number}"] = prompt
    rows["run"] = f"{_public(record['command'])}, begun {record['started'][:10]}, prismkd {record.get('version', '?')}"
    rows["exported"] = f"{datetime.now(UTC):%Y-%m-%d}, prismkd {__version__}"
    return _table(["", ""], [[key, value] for key, value in rows.items()])


def _prompts(config: Config, method: str) -> str:
    if not METHODS[method].diversified:
        return f'"{config.prompts.template}"'
    return f"diversified over {', '.join(config.prompts.domains)}; {config.prompts.id_share:.0%} in the first"


def _examples(folder: Path) -> list[str]:
    path = folder / "prompts.json"
    found = read_json_if_any(path, ExampleTexts)
    return [row["text"] for row in found["examples"][:NUM_PROMPTS]] if found else []


def _public(text: str) -> str:
    """Without the name of the user, which a home folder shows."""
    home = os.path.expanduser("~").rstrip("/")
    return text.replace(f"{home}/", "~/") if home else text


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *([escaped(cell) for cell in line] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


# --- use ---------------------------------------------------------------------------------------------------------


def _use(delivered: dict[str, Any], files: Sequence[str]) -> str:
    """Programs for each of the tools that can open the folder, to be run in it."""
    mode = "L" if delivered["in_channels"] == 1 else "RGB"
    geometry = Geometry.from_config(delivered) or Geometry.square(delivered["input_size"])
    parts = ["```bash\nprismkd predict . image.png\n```"]
    if GRAPH in files:
        steps = "\n".join(_steps(geometry))
        parts.append(f"```python\n{ONNX.format(mode=mode, steps=steps, axes=AXES[mode])}```")
    if WEIGHTS in files and "pretrained_cfg" in delivered and timm_has_words(geometry):
        parts.append(f"```python\n{TIMM.format(mode=mode)}```")
    normalized = {"mean": delivered["mean"], "std": delivered["std"]}
    parts.append(
        f"{_in_words(geometry)}, with Pillow in 8 bits, after photographs are turned upright by their EXIF "
        "orientation; `prismkd predict` also shows on white what is transparent. Values are in [0, 1]. "
        f"The graph normalizes by itself; the weights alone expect {json.dumps(normalized)} to be applied."
    )
    return "\n\n".join(parts)


def _in_words(geometry: Geometry) -> str:
    """What is done to an image, as a sentence without its end."""
    resize, crop = geometry.resize, geometry.crop
    middle = f"the middle {crop[1]} x {crop[0]} cut out" if crop else ""
    if resize is None:
        return f"Of images {middle}"
    if not isinstance(resize, int):
        cut = f", and {middle}" if crop and crop != resize else ""
        return f"Images of any shape are resized to {resize[1]} x {resize[0]} pixels ({geometry.interpolation}){cut}"
    return f"The shorter side is resized to {resize} pixels ({geometry.interpolation}) and {middle}"


def _steps(geometry: Geometry) -> list[str]:
    """The same as lines of Python, on a picture of Pillow."""
    resize, crop = geometry.resize, geometry.crop
    method, lines = f"Image.Resampling.{geometry.interpolation.upper()}", list[str]()
    if isinstance(resize, int):
        lines.append(f"size = tuple({resize} * length // min(image.size) for length in image.size)")
        lines.append(f"image = image.resize(size, {method})")
    elif resize:
        lines.append(f"image = image.resize(({resize[1]}, {resize[0]}), {method})")
    if crop and crop != resize:
        spares = [f"image.{name} - {side}" for name, side in (("width", crop[1]), ("height", crop[0]))]
        margins = [f"({spare}) // 2" if geometry.floor_crop else f"round(({spare}) / 2)" for spare in spares]
        lines.append(f"left, top = {', '.join(margins)}")
        lines.append(f"image = image.crop((left, top, left + {crop[1]}, top + {crop[0]}))")
    return lines


AXES = {"L": "[None, None]", "RGB": ".transpose(2, 0, 1)[None]"}
ONNX = """\
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

with open("config.json") as file:
    config = json.load(file)
image = ImageOps.exif_transpose(Image.open("image.png")).convert("{mode}")
{steps}
images = np.asarray(image, np.float32){axes} / 255
logits = onnxruntime.InferenceSession("model.onnx").run(None, {{"images": images}})[0]
print(config["id2label"][str(logits[0].argmax())])
"""
TIMM = """\
import timm
import torch
from PIL import Image, ImageOps

model = timm.create_model("local-dir:.", pretrained=True).eval()  # on the hub: "hf-hub:org/name"
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
with torch.no_grad():
    image = ImageOps.exif_transpose(Image.open("image.png")).convert("{mode}")
    logits = model(transform(image).unsqueeze(0))
print(model.pretrained_cfg["label_names"][logits.argmax()])
"""
