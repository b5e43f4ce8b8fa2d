"""What all tests share: one thread each, examples that repeat, and what takes long to load or to draw, made once."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from prismkd.classifiers import Classifier
    from prismkd.generators import TextToImage

# Before torch is imported, and for the processes that tests start: two workers with a thread each fill two cores, and
# threads that wait by spinning would take them from each other.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}

settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None, max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
settings.load_profile("repeatable")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def photographs() -> Path:
    """Real photographs in class folders, which aren't part of the project: PRISMKD_PHOTOS, or beside the repository."""
    beside = Path(__file__).parents[2] / "shared" / "photos"
    folder = Path(os.environ.get("PRISMKD_PHOTOS", beside))
    if not folder.is_dir():
        pytest.skip(f"needs photographs in class folders named by synset, in {folder} or where PRISMKD_PHOTOS says")
    return folder


CLASSES = "pictograms-24"  # all 97 classes of the embedded world would take most tests four times as long
ICONS_OF_A_CLASS = {"real": 20, "id": 6, "shifted": 1}  # what Vendi score and nearest neighbors need, and a few


@pytest.fixture(scope="session")
def few_icons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``test.parquet``, of every domain, and ``real.parquet``: the first few icons of each class, labeled by name."""
    import pyarrow.parquet as pq

    from prismkd.assets import asset
    from prismkd.classes import load_classes

    folder = tmp_path_factory.mktemp("icons")
    names, wanted = [item.name for item in load_classes("pictograms")], {item.name for item in load_classes(CLASSES)}
    for file in ("test", "real"):
        table = pq.read_table(asset(f"{file}.parquet"))
        labels = [names[label] for label in table["label"].to_pylist()]
        seen, places = Counter[tuple[str, str]](), list[int]()
        for place, (domain, label) in enumerate(zip(table["domain"].to_pylist(), labels, strict=True)):
            kind = "real" if file == "real" else "id" if domain == "id" else "shifted"
            if label in wanted and seen[domain, label] < ICONS_OF_A_CLASS[kind]:
                places.append(place)
            seen[domain, label] += 1
        named = table.drop_columns("label").append_column("label", [labels])
        pq.write_table(named.take(places), folder / f"{file}.parquet")
    return folder


@pytest.fixture(scope="session")
def teacher() -> Iterator[Classifier]:
    """The embedded teacher with its outputs for pictograms-24, for all tests: none may change it."""
    from prismkd.classifiers import load_teacher

    found = load_teacher("pictograms", CLASSES)
    before = digest(found)
    yield found
    assert digest(found) == before, "a test has changed the teacher that all of them share"


@pytest.fixture(scope="session")
def generator() -> Iterator[TextToImage]:
    """The embedded generator with 8 steps, for all tests: none may change it; a copy may have other settings."""
    from dataclasses import replace

    from prismkd.config import Config
    from prismkd.generators import load_generator

    found = load_generator(replace(Config().generator, num_inference_steps=8, device="cpu"))
    parts = [part for part in (*found.pipeline.components.values(), found.tiny_decoder) if hasattr(part, "state_dict")]
    before = [digest(part) for part in parts]
    yield found
    assert [digest(part) for part in parts] == before, "a test has changed the generator that all of them share"


def digest(network: Any) -> str:
    """Of all weights and buffers."""
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        found.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
