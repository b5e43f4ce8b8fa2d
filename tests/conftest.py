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


ICONS_OF_A_CLASS = {"real": 20, "id": 6, "shifted": 2}  # what Vendi score and nearest neighbors need, and a few


@pytest.fixture(scope="session")
def few_icons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``test.parquet``, of every domain, and ``real.parquet``: the first few of the embedded world's icons."""
    import pyarrow.parquet as pq

    from prismkd.assets import asset

    folder = tmp_path_factory.mktemp("icons")
    for name in ("test", "real"):
        table = pq.read_table(asset(f"{name}.parquet"))
        seen, places = Counter[tuple[str, int]](), list[int]()
        for place, key in enumerate(zip(table["domain"].to_pylist(), table["label"].to_pylist(), strict=True)):
            kind = "real" if name == "real" else "id" if key[0] == "id" else "shifted"
            if seen[key] < ICONS_OF_A_CLASS[kind]:
                places.append(place)
            seen[key] += 1
        pq.write_table(table.take(places), folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="session")
def teacher() -> Iterator[Classifier]:
    """The embedded teacher, for all tests: none may change it."""
    from prismkd.classes import load_classes
    from prismkd.classifiers import load_teacher

    found = load_teacher("pictograms", [item.name for item in load_classes("pictograms")])
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
