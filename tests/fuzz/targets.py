"""The readers: for each family of inputs how a valid one is made, what is changed in it, and who reads it.

Every input has to give a value, or one of the family's refusals: a ``UserError`` of one line.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from PIL import Image

from prismkd.errors import UserError
from tests.fuzz.mutations import (
    TEXTS,
    VALUES,
    Case,
    Files,
    by_suffix,
    cases,
    contents_of,
    damaged,
    edited,
    one_file,
    to_json,
    to_toml,
)

CLASSES = ["anchor", "bell", "cat"]
SIDE = 16


@dataclass(frozen=True)
class Family:
    """Inputs of one kind.

    Attributes:
        make: writes a valid input into an empty folder.
        read: reads it as commands do.
        mutate: the files of a valid input to a strategy of changed ones.
        refusals: what ``read`` may raise.
        slow: whether reading takes tens of milliseconds, so that few inputs are tried in the tests.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    mutate: Callable[[Files], SearchStrategy[Case]] = by_suffix
    refusals: tuple[type[Exception], ...] = (UserError,)
    slow: bool = False


def only(*suffixes: str) -> Callable[[Files], SearchStrategy[Case]]:
    """Changes of the files with these suffixes alone."""
    return lambda base: by_suffix({name: contents for name, contents in base.items() if name.endswith(suffixes)})


def in_turn(*readers: Callable[[], object]) -> None:
    """Each reader, whatever those before it refuse; raises the first refusal at the end."""
    refusals = []
    for reader in readers:
        try:
            reader()
        except UserError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


# --- settings and words ----------------------------------------------------------------------------------------------


def make_config(folder: Path) -> None:
    from prismkd.config import Config

    (folder / "config.toml").write_bytes(to_toml(asdict(Config())))


def read_config(folder: Path) -> None:
    from prismkd.config.load import load_config

    load_config(folder / "config.toml")


def make_words(folder: Path) -> None:
    make_config(folder)
    (folder / "words.json").write_text('["run", "--config", "config.toml", "--out", "out", "--seeds", "1", "2"]')


def read_words(folder: Path) -> None:
    """What a command line becomes; asking for help is an answer."""
    from prismkd.commands.parsing import parse

    command, *words = json.loads((folder / "words.json").read_text())
    with contextlib.chdir(folder), contextlib.suppress(SystemExit):
        parse(arguments_of(command), command, words)


def arguments_of(command: str) -> Any:
    return import_module(f"prismkd.commands.{command.replace('-', '_')}").Arguments


@st.composite
def command_lines(draw: DrawFn) -> Case:
    from prismkd.cli import COMMANDS

    command = draw(st.sampled_from(sorted(COMMANDS)))
    words = [command]
    if draw(st.booleans()):
        words += draw(st.sampled_from((["--config", "config.toml"], ["--config=nosuch.toml"], ["--out", "out"], ["x"])))
    for _ in range(draw(st.integers(0, 4))):
        words += _flag(draw, flags(command))
    return {"words.json": json.dumps(words).encode()}


def _flag(draw: DrawFn, known: list[str]) -> list[str]:
    values = draw(st.lists(st.one_of(st.sampled_from(TEXTS), VALUES.map(str), st.just("--")), max_size=2))
    values = [value for value in values if not value.startswith("--tyro")]  # which write completions for a shell
    flag = draw(st.sampled_from(known)) if draw(st.integers(0, 9)) else "--" + draw(st.text(max_size=6))
    joined = bool(values) and draw(st.integers(0, 4)) == 0
    return [f"{flag}={values[0]}", *values[1:]] if joined else [flag, *values]


@cache
def flags(command: str) -> list[str]:
    from prismkd.commands.parsing import flags_of

    return sorted(flags_of(arguments_of(command)))


# --- classes, teacher lists, split lists and answers -----------------------------------------------------------------


def make_classes(folder: Path) -> None:
    rows = [{"name": "crane", "definition": "a bird", "polysemous": True, "synonyms": ["bird"], "styles": ["photo"]},
            {"name": "tench", "synset": "n01440764"}, {"name": "bell"}]  # fmt: skip
    (folder / "names.txt").write_text("crane\ntench\nbell\n")
    (folder / "synsets.txt").write_text("n01440764 tench, Tinca tinca\nn02110341 dalmatian\n")
    (folder / "table.csv").write_text("name,definition,polysemous,synonyms\ncrane,a bird,true,a|b\ntench,,,\n")
    (folder / "table.tsv").write_text("name\tsynset\ncrane\tn02012849\ntench\tn01440764\n")
    (folder / "rows.toml").write_bytes(to_toml({"classes": rows}))
    (folder / "rows.json").write_text(json.dumps(rows))
    (folder / "config.json").write_text(json.dumps({"id2label": {"0": "crane", "1": "tench"}, "num_classes": 2}))


def read_classes(folder: Path) -> None:
    from prismkd.classes import load_classes
    from prismkd.classes.lists import classes_of_teacher

    for path in folder.iterdir():
        if path.name == "config.json":
            classes_of_teacher(str(folder))
        else:
            load_classes(str(path))


def make_teacher_list(folder: Path) -> None:
    teachers = [
        {"source": "first", "classes": ["anchor", "-", "bell"], "preprocessing": {"resize": [64, 64]}},
        {"source": "timm:resnet18@weights.pth", "classes": ["cat"]},
    ]
    (folder / "teachers.toml").write_bytes(to_toml({"teacher": teachers}))
    (folder / "first").mkdir()
    (folder / "first" / "config.json").write_text(json.dumps({"id2label": {"0": "anchor", "1": "x", "2": "bell"}}))


def read_teacher_list(folder: Path) -> None:
    from prismkd.classes.teacher_list import class_indices, classes_of_teachers, read_teacher_list

    path = folder / "teachers.toml"
    for teacher in read_teacher_list(path):
        class_indices(teacher.class_names, CLASSES, path)
    classes_of_teachers(path)


def make_answer(folder: Path) -> None:
    reply = {"senses": [{"gloss": "a large wading bird", "contents": ["a crane in a marsh", "two cranes at dawn"]},
                        {"gloss": "a machine that lifts loads", "contents": ["a crane at a harbor"]}]}  # fmt: skip
    (folder / "reply.json").write_text(json.dumps(reply))
    message = {"role": "assistant", "content": json.dumps(reply)}
    (folder / "body.json").write_text(json.dumps({"id": "1", "choices": [{"index": 0, "message": message}]}))
    (folder / "cache.json").write_text(json.dumps({"name": "crane", **reply}))


def read_answer(folder: Path) -> None:
    """The body of a response, the model's text in it, and an answer that was kept."""
    from prismkd.prompts import language_model
    from prismkd.prompts.suggestions import read_senses

    language_model._load(folder / "cache.json")
    replies = [path.read_bytes().decode(errors="replace") for path in folder.glob("reply.json")]
    replies += [language_model._message(path.read_bytes()) for path in folder.glob("body.json")]
    for reply in replies:
        read_senses(reply, "crane", 12)


def answer_refusals() -> tuple[type[Exception], ...]:
    from prismkd.prompts.language_model import _ServerError
    from prismkd.prompts.suggestions import ContentError

    return UserError, ContentError, _ServerError


# --- labeled images --------------------------------------------------------------------------------------------------


def picture(format: str, mode: str = "RGB", **options: Any) -> bytes:
    """An image of few pixels in a format."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, format=format, **options)
    return file.getvalue()


def animation() -> bytes:
    frames = [Image.new("P", (SIDE, SIDE), color) for color in range(3)]
    file = io.BytesIO()
    frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:], duration=40)
    return file.getvalue()


def make_pictures(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "a.png": picture("PNG"), "b.png": picture("PNG", "RGBA"), "c.png": picture("PNG", "P"),
        "d.png": picture("PNG", "I;16"), "e.jpg": picture("JPEG", exif=exif), "f.webp": picture("WEBP"),
        "g.gif": animation(), "h.tif": picture("TIFF"), "i.bmp": picture("BMP"), "j.ppm": picture("PPM"),
        "k.avif": picture("AVIF"), "l.jpg": picture("JPEG", "CMYK"), "m.webp": picture("WEBP", "RGBA", lossless=True),
    }  # fmt: skip
    for name, contents in files.items():
        (folder / name).write_bytes(contents)


def read_pictures(folder: Path) -> None:
    """As ``predict`` reads files, and as the training does."""
    from prismkd.data.decode import open_picture
    from prismkd.data.geometry import Geometry
    from prismkd.delivery.image_files import UnreadableImageError, read_image

    for path in sorted(folder.iterdir()):
        with contextlib.suppress(UnreadableImageError):
            read_image(path, 3, Geometry.square(8))
            read_image(path, 1, Geometry.square(8))
            with path.open("rb") as file:
                open_picture(file, "RGB")


def class_labels() -> Any:
    from prismkd.classes.matching import ClassLabels

    return ClassLabels([[name] for name in CLASSES])


def read_all_images(source: Path) -> None:
    """Every image of a test set, as the evaluation takes them, and its digest."""
    from prismkd.data import load_labeled_images

    images = load_labeled_images(source, class_labels(), usual_size=8)
    for _ in images.batches():
        pass
    images.fingerprint()


def make_class_folders(folder: Path) -> None:
    for name in CLASSES:
        for domain in ("sketch", "photo"):
            path = folder / domain / name
            path.mkdir(parents=True)
            (path / "0.png").write_bytes(picture("PNG"))
            (path / "1.jpg").write_bytes(picture("JPEG", "L"))


def make_split_list(folder: Path) -> None:
    make_class_folders(folder)
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    (folder / "test.txt").write_text("".join(f"{path} {CLASSES.index(path.split('/')[1])}\n" for path in paths))


def make_webdataset(folder: Path) -> None:
    from tests.fuzz.mutations import _tar

    members = []
    for place, name in enumerate(CLASSES):
        suffix, contents = ("png", picture("PNG")) if place % 2 else ("jpg", picture("JPEG"))
        members += [(f"{place:03d}.{suffix}", b"0", contents), (f"{place:03d}.cls", b"0", name.encode())]
    (folder / "test.tar").write_bytes(_tar(members))


def make_tables(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"image": [picture("PNG")] * 3, "label": [0, 1, 2], "domain": ["id", "id", "sketch"]})
    info = {"info": {"features": {"label": {"names": CLASSES, "_type": "ClassLabel"}}}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), folder / "test.parquet")
    saved = folder / "saved"
    saved.mkdir()
    with pa.OSFile(str(saved / "data.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    (saved / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    (saved / "dataset_info.json").write_text(json.dumps({"features": info["info"]["features"]}))


def read_tables(folder: Path) -> None:
    in_turn(lambda: read_all_images(folder / "test.parquet"), lambda: read_all_images(folder / "saved"))


@st.composite
def parquet_files(draw: DrawFn) -> bytes:
    """A sound file with columns of other types than a test set has, and other metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    info = {"info": {"features": {"label": {"names": CLASSES, "_type": "ClassLabel"}}}}
    cell = st.one_of(
        st.none(), st.just(picture("PNG")), st.binary(max_size=8),
        st.fixed_dictionaries({"bytes": st.none() | st.just(picture("PNG")), "path": st.sampled_from((None, *TEXTS))}),
    )  # fmt: skip
    columns = {"image": st.lists(cell, min_size=2, max_size=2), "label": st.lists(VALUES, min_size=2, max_size=2),
               "domain": st.lists(VALUES, min_size=2, max_size=2)}  # fmt: skip
    sound: dict[str, list[Any]] = {"image": [picture("PNG")] * 2, "label": [0, 1], "domain": ["id", "id"]}
    for name in draw(st.lists(st.sampled_from(sorted(columns)), min_size=0, max_size=2, unique=True)):
        sound[draw(st.sampled_from((name, name, name.upper())))] = draw(columns[name])
    metadata = draw(st.one_of(st.just(info), edited(info), VALUES))
    file = io.BytesIO()
    try:
        table = pa.table(sound).replace_schema_metadata({"huggingface": to_json(metadata)})
        pq.write_table(table, file)
    except Exception:  # cells of which no column can be made
        return b""
    return file.getvalue()


def mutate_tables(base: Files) -> SearchStrategy[Case]:
    return by_suffix(base) | cases({"test.parquet": parquet_files()})


# --- shards of drawn images ------------------------------------------------------------------------------------------


def make_shards(folder: Path) -> None:
    from prismkd.shards import Manifest, Sample, claim, write_shard
    from prismkd.shards.samples import PNG

    manifest = Manifest({"generator": {}, "teacher": {}}, (4,), 2, tuple(CLASSES), PNG)
    claim(folder, manifest)
    random = np.random.default_rng(0)
    for shard in range(2):
        samples = [
            Sample(2 * shard + place, random.integers(0, 256, (8, 8), dtype=np.uint8), place, {"prompt": "a bell"},
                   random.normal(size=3))
            for place in range(2)
        ]  # fmt: skip
        write_shard(folder, shard, samples, manifest.plan_hash)


def read_shards(folder: Path) -> None:
    """As ``verify`` reads them, ``export``, and the training, which keeps images in memory or in the tars."""
    from prismkd.distillation.tar_images import open_images, read_logits
    from prismkd.shards import inspect, read_samples
    from prismkd.shards.card import timm_info
    from prismkd.shards.reading import finished

    in_turn(
        lambda: inspect(folder),
        lambda: finished(folder),
        lambda: timm_info(*finished(folder)),
        lambda: list(read_samples(folder)),
        lambda: read_logits(folder),
        lambda: open_images(folder, 1e9, 0),
        lambda: _through_tars(*open_images(folder, 0, 0)),
    )


def _through_tars(images: Any, labels: Any) -> None:
    import torch

    images[torch.arange(len(labels))]


def mutate_shards(base: Files) -> SearchStrategy[Case]:
    """Tars, ledger and manifest changed; in most cases the ledger's record is made to fit the changed tar."""
    return st.tuples(by_suffix(base), st.integers(0, 3)).map(lambda found: _with_records(base, *found))


def _with_records(base: Files, case: Case, number: int) -> Case:
    import hashlib

    from prismkd.shards import ledger

    fitting: Case = dict(case)
    for name, contents in case.items():
        record = f"ledger/{name.removesuffix('.tar')}.json"
        if name.endswith(".tar") and contents is not None and number and record in base:
            fields = json.loads(base[record])
            changed = {**fields, "sha256": hashlib.sha256(contents).hexdigest(), "bytes": len(contents)}
            changed.pop("checksum", None)
            known = {key: value for key, value in changed.items() if key in ledger.ShardRecord.__dataclass_fields__}
            fitting[record] = ledger._to_json(ledger.ShardRecord(**known))
    return fitting


# --- networks --------------------------------------------------------------------------------------------------------


def seeded(make: Callable[[], Any]) -> Any:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


def make_own_teacher(folder: Path) -> None:
    from prismkd.classifiers import save_classifier
    from prismkd.classifiers.networks import new_network

    network = seeded(lambda: new_network("small-resnet-4", len(CLASSES), in_channels=3))
    config = {"architecture": "small-resnet-4", "num_classes": len(CLASSES), "in_channels": 3, "input_size": SIDE,
              "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "id2label": dict(enumerate(CLASSES))}  # fmt: skip
    save_classifier(folder, network, config)


def make_timm_teacher(folder: Path) -> None:
    import timm
    from timm.models import save_for_hf

    network = seeded(lambda: timm.create_model("test_efficientnet", num_classes=len(CLASSES)))
    save_for_hf(network, str(folder), model_config={"label_names": CLASSES, "model_args": {}}, safe_serialization=True)


def make_transformers_teacher(folder: Path) -> None:
    import transformers as hf

    config = hf.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=16,
                          patch_size=8, id2label=dict(enumerate(CLASSES)),
                          label2id={name: place for place, name in enumerate(CLASSES)})  # fmt: skip
    seeded(lambda: hf.ViTForImageClassification(config)).save_pretrained(folder)
    hf.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)


def read_teacher(folder: Path) -> None:
    from prismkd.classifiers import load_teacher

    load_teacher(str(folder), CLASSES)


def make_checkpoints(folder: Path) -> None:
    """Weights in both formats, and the checkpoint of a training that was interrupted."""
    import torch
    from safetensors.torch import save

    from prismkd.distillation.state import State, StudentWithProjection

    network = seeded(small_network)
    weights = network.state_dict()
    (folder / "weights.safetensors").write_bytes(save(weights))
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}, "best": 0.5}
    torch.save(wrapped, folder / "weights.pth")
    State(StudentWithProjection(network), recipe(), torch.device("cpu")).save(folder / "checkpoint.pt")


def small_network() -> Any:
    from torch import nn

    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))


def recipe() -> Any:
    from prismkd.config import DistillationConfig

    return DistillationConfig(num_steps=1, batch_size=2, hard_label_weight=1.0, mixup=0.0, augmentation="none")


def read_checkpoints(folder: Path) -> None:
    """As weights to start from, and as a training that goes on."""
    from prismkd.classifiers.checkpoint import read_state_dict
    from prismkd.distillation.student import start_from

    network = seeded(small_network)
    for name in ("weights.safetensors", "weights.pth"):
        path = folder / name
        in_turn(lambda path=path: start_from(network, read_state_dict(path), str(path), say=lambda _: None))
    go_on(folder / "checkpoint.pt")


def go_on(checkpoint: Path) -> None:
    import torch

    from prismkd.distillation import TrainingSet, train

    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    data = TrainingSet(images, torch.tensor([0, 1, 2, 0]))
    train(seeded(small_network), None, data, recipe(), seed=0, checkpoint=checkpoint)


def mutate_checkpoints(base: Files) -> SearchStrategy[Case]:
    pickled = {name: st.one_of(*[saved_again(contents)] * 3, damaged(contents))
               for name, contents in base.items() if not name.endswith(".safetensors")}  # fmt: skip
    weights = {name: contents_of(name, contents) for name, contents in base.items() if name not in pickled}
    return cases({**pickled, **weights})


def saved_again(contents: bytes) -> SearchStrategy[bytes]:
    """What a checkpoint holds, with parts replaced, by tensors of other shapes and types too."""
    import torch

    tensors = [torch.zeros(0), torch.zeros(3), torch.zeros(2, 2), torch.full((2, 1, 3, 3), torch.nan), torch.zeros(()),
               torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.complex64), torch.zeros(2).to_sparse(),
               torch.zeros(2, 1, 3, 3, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.bool)]  # fmt: skip
    held = torch.load(io.BytesIO(contents), weights_only=True)
    return edited(held, st.sampled_from(tensors) | VALUES).map(saved)


def saved(held: Any) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save(held, file)
    return file.getvalue()


# --- a student at work -----------------------------------------------------------------------------------------------


def make_students(folder: Path) -> None:
    """A student of weights, one of a graph alone, and an image."""
    from onnx import TensorProto, helper

    for name in ("weights", "graph"):
        (folder / name).mkdir()
        make_own_teacher(folder / name)
    (folder / "graph" / "model.safetensors").unlink()
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
    returned = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["means"]),
        helper.make_node("Flatten", ["means"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "student", [given], [returned])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "graph" / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "image.png").write_bytes(picture("PNG"))


def read_students(folder: Path) -> None:
    in_turn(lambda: predictions(folder / "weights", folder), lambda: predictions(folder / "graph", folder))


def predictions(student: Path, folder: Path) -> None:
    from prismkd.delivery.predict import load_student, predict_files

    list(predict_files(load_student(student, "prism", None), [folder / "image.png"], 2))


# --- generators ------------------------------------------------------------------------------------------------------


def make_generator(folder: Path) -> None:
    from tests.generators.tiny_pipelines import build

    pipeline, _ = build("sd-DDIM")
    pipeline.save_pretrained(folder, safe_serialization=True)


def read_generator(folder: Path) -> None:
    from prismkd.config import GeneratorConfig
    from prismkd.generators import load_generator

    load_generator(GeneratorConfig(source=str(folder), device="cpu", num_inference_steps=2))


def make_tokenizers(folder: Path) -> None:
    """What counts a prompt's tokens before a pipeline is opened: in one file, and as CLIP has it."""
    from tests.generators.tiny_pipelines import tokenizer

    for name, kind in (("one", "StableDiffusionPipeline"), ("two", "PixArtAlphaPipeline")):
        (folder / name).mkdir()
        (folder / name / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    tokenizer().save_pretrained(folder / "one" / "tokenizer")
    clip = folder / "two" / "tokenizer"
    clip.mkdir()
    words = ["<|startoftext|>", "<|endoftext|>", "a", "b", "a</w>", "b</w>", "ab", "ab</w>"]
    (clip / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (clip / "merges.txt").write_text("#version: 0.2\na b\na b</w>\n")
    (clip / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77}))


def read_tokenizers(folder: Path) -> None:
    import prismkd
    from prismkd.prompts.length import too_long

    plan = prismkd.plan(["bell", "ship"], seed=0)
    in_turn(*(lambda name=name: too_long(plan, 4, folder / name, "") for name in ("one", "two")))


# --- the records of a run --------------------------------------------------------------------------------------------

TINY = """
classes = "classes.txt"
teacher = "teacher"
methods = ["plain", "prism"]
[prompts]
num_probes = 1
num_content_probes = 0
[generator]
num_inference_steps = 4
batch_size = 8
[guidance]
num_calibration_images = 8
num_views = 1
[synthesis]
images_per_class = 2
shard_size = 6
[distillation]
architecture = "small-resnet-4"
num_steps = 2
batch_size = 4
[evaluation]
source = "test"
num_held_out = 6
"""


def make_run(folder: Path) -> None:
    """A finished run of three classes; two families read it, and it takes seconds."""
    import shutil

    shutil.copytree(finished_run(), folder, dirs_exist_ok=True)


@cache
def finished_run() -> Path:
    """The folder of a run of a teacher that has learned nothing, made once in this process."""
    import atexit
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    write_run(folder)
    return folder


def write_run(folder: Path) -> None:
    import torch

    from prismkd.classifiers import save_classifier
    from prismkd.classifiers.networks import new_network
    from prismkd.cli import main

    network = seeded(lambda: new_network("small-resnet-4", len(CLASSES)))
    with torch.no_grad():
        network.head.bias.zero_()
    save_classifier(folder / "teacher", network, {"architecture": "small-resnet-4", "num_classes": len(CLASSES),
                                                  "in_channels": 1})  # fmt: skip
    for name in CLASSES:
        (folder / "test" / name).mkdir(parents=True)
        for number in range(2):
            (folder / "test" / name / f"{number}.png").write_bytes(picture("PNG", "L"))
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    (folder / "run.toml").write_text(TINY)
    with contextlib.chdir(folder):
        if main(["run", "--config", "run.toml", "--out", "out"]):
            raise RuntimeError("the run that is to be fuzzed did not finish")


def read_records(folder: Path) -> None:
    """As the commands that only look at a run read it, and as its stages take up what is decided."""
    from prismkd.commands.evaluate import print_students
    from prismkd.commands.preview import preview
    from prismkd.commands.senses import print_senses
    from prismkd.commands.status import print_status
    from prismkd.records.directory import commands_of, read_record, recorded_config
    from prismkd.records.status import status_of

    out = Path("out")
    with contextlib.chdir(folder):
        in_turn(
            lambda: commands_of(read_record(out)),
            lambda: print_status(status_of(out)),
            lambda: preview(recorded_config(out), 0, out),
            lambda: take_up(out),
            *([lambda: print_senses(out)] if (out / "senses.json").is_file() else []),
            *([lambda: print_students(out)] if (out / "metrics.json").is_file() else []),
        )


def read_results(folder: Path) -> None:
    """As a report shows a run, a comparison weighs it, and a student leaves it."""
    from prismkd.records.comparison import compare
    from prismkd.report import write_report

    out = Path("out")
    with contextlib.chdir(folder):
        in_turn(lambda: write_report(out), lambda: compare([out], ["plain", "prism"]), lambda: export(out))


def take_up(out: Path) -> None:
    """What a run has decided, as its next stage takes it up; what is missing would be decided anew."""
    from prismkd.progress import silent
    from prismkd.records.directory import recorded_config
    from prismkd.runs.dataset import DrawnImages
    from prismkd.runs.run import Run

    run = Run(recorded_config(out), silent, directory=out)
    readers: list[Callable[[], object]] = [
        lambda name=name: getattr(run, name)
        for name in ("senses", "contents", "calibration") if (out / f"{name}.json").is_file()
    ]  # fmt: skip
    if (out / "candidates.json").is_file():
        readers.append(run.candidates)
    for dataset in run.datasets:
        if isinstance(dataset, DrawnImages):
            readers += [lambda dataset=dataset: dataset.final_plan[0], lambda dataset=dataset: dataset.manifest]
            readers.append(dataset.energies)
    in_turn(*readers)


def export(out: Path) -> None:
    """The student of a run, with its model card."""
    import shutil

    from prismkd.delivery.export_student import export_student
    from prismkd.progress import silent

    shutil.rmtree("student", ignore_errors=True)
    export_student(out, "prism", None, "safetensors", Path("student"), silent)


def mutate_records(base: Files) -> SearchStrategy[Case]:
    """Each kind of record is as likely, whether a run has one of them or many."""
    records: dict[str, list[str]] = {}
    for name in base:
        if name.startswith("out/") and name.endswith(".json"):
            kind = "ledger" if "/ledger/" in name else name.rpartition("/")[2]
            records.setdefault(kind, []).append(name)
    kinds = [by_suffix({name: base[name] for name in names}) for names in records.values()]
    return st.one_of(kinds)


FAMILIES = {
    "config": Family(make_config, read_config),
    "words": Family(make_words, read_words, lambda _: command_lines()),
    "classes": Family(make_classes, read_classes, one_file),
    "teacher-lists": Family(make_teacher_list, read_teacher_list),
    "answers": Family(make_answer, read_answer, one_file, refusals=answer_refusals()),
    "pictures": Family(make_pictures, read_pictures, one_file),
    "class-folders": Family(make_class_folders, read_all_images),
    "split-lists": Family(make_split_list, lambda folder: read_all_images(folder / "test.txt"), only(".txt")),
    "webdataset": Family(make_webdataset, read_all_images),
    "tables": Family(make_tables, read_tables, mutate_tables),
    "shards": Family(make_shards, read_shards, mutate_shards),
    "checkpoints": Family(make_checkpoints, read_checkpoints, mutate_checkpoints),
    "students": Family(make_students, read_students),
    "own-teachers": Family(make_own_teacher, read_teacher),
    "timm-teachers": Family(make_timm_teacher, read_teacher, slow=True),
    "transformers-teachers": Family(make_transformers_teacher, read_teacher, slow=True),
    "tokenizers": Family(make_tokenizers, read_tokenizers),
    "generators": Family(make_generator, read_generator, slow=True),
    "records": Family(make_run, read_records, mutate_records, slow=True),
    "results": Family(make_run, read_results, mutate_records, slow=True),
}
