"""The smallest world that has every stage: three classes, a teacher that was never trained, a handful of test icons.

What is drawn of it is worthless; what counts is that the same command gives the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path

from prismkd.assets import asset

CLASSES, SIDE = ("bell", "key", "mouse"), 64
IMAGES_OF_A_CLASS = {("test", "id"): 3, ("test", "sketch"): 2, ("real", "id"): 4}
SETTINGS = """
classes = "{folder}/classes.json"
teacher = "{folder}/teacher"
methods = ["plain", "prism"]
seeds = [0]
[prompts]
template = "an icon of a {{name}}"
num_probes = 2
num_content_probes = 1
pilot_share = 0.5
domains = ["icon", "sketch"]
[generator]
num_inference_steps = 4
batch_size = 4
[guidance]
num_calibration_images = 6
num_views = 1
[synthesis]
images_per_class = 4
shard_size = 4
[distillation]
architecture = "small-resnet-4"
num_steps = 6
batch_size = 4
[evaluation]
{evaluation}
nearest_k = 1
"""
MEASURED = 'source = "{folder}/test.parquet"\nreal = "{folder}/real.parquet"\njudge = "{folder}/teacher"\ncas = true'
UNMEASURED = 'source = ""\nreal = ""\njudge = ""\nnum_held_out = 6'


def make_world(folder: Path) -> None:
    """Write classes, teacher, test images, and the settings of two runs: ``run.toml``, and one without test images."""
    import torch

    from prismkd.classifiers import save_classifier
    from prismkd.classifiers.networks import new_network

    folder.mkdir()
    rows = [row for row in json.loads(asset("classes.json").read_text()) if row["name"] in CLASSES]
    (folder / "classes.json").write_text(json.dumps(rows))
    torch.manual_seed(0)
    network = new_network("small-resnet-4", len(rows), in_channels=3)
    network.train()
    for _ in range(3):
        network(torch.rand(8, 3, SIDE, SIDE))
    about = {"architecture": "small-resnet-4", "num_classes": len(rows), "in_channels": 3}
    save_classifier(folder / "teacher", network, about)
    for name in ("test", "real"):
        _write_icons(folder / f"{name}.parquet", name)
    _write_pictures(folder / "icons")
    for name, evaluation in (("run", MEASURED), ("unmeasured", UNMEASURED)):
        settings = SETTINGS.format(folder=folder, evaluation=evaluation.format(folder=folder))
        (folder / f"{name}.toml").write_text(settings)


def _write_pictures(folder: Path) -> None:
    """Two image files, for ``predict``."""
    from PIL import Image

    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (SIDE, SIDE), (100 * number,) * 3).save(folder / f"{number}.png")


def _write_icons(path: Path, name: str) -> None:
    """The first few of the embedded world's icons of these classes, labeled by name."""
    from collections import Counter

    import pyarrow.parquet as pq

    all_names = [row["name"] for row in json.loads(asset("classes.json").read_text())]
    table, seen, places = pq.read_table(asset(f"{name}.parquet")), Counter[tuple[str, str]](), list[int]()
    labels = [all_names[label] for label in table["label"].to_pylist()]
    for place, (domain, label) in enumerate(zip(table["domain"].to_pylist(), labels, strict=True)):
        wanted = IMAGES_OF_A_CLASS.get((name, "id" if name == "real" else domain), 0)
        if label in CLASSES and seen[domain, label] < wanted:
            places.append(place)
            seen[domain, label] += 1
    pq.write_table(table.drop_columns("label").append_column("label", [labels]).take(places), path)
