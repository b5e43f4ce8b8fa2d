"""A report shows images wherever they are stored, and reads no more of them than it shows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prismkd.distillation import open_images
from prismkd.distillation.tar_images import TarImages
from prismkd.errors import UserError
from prismkd.records.results import load_run
from prismkd.report import write_report
from prismkd.report.stored_images import first_indices, read_few, stored_images
from prismkd.shards import Manifest, Sample, Storage, claim, write_shard
from tests.report.made import CLASSES, Page, make_run, write_json


@pytest.fixture
def memory() -> Iterator[str]:
    import fsspec

    yield "memory://report"
    fsspec.filesystem("memory").store.clear()


def store_at(run: Path, url: str) -> Path:
    """Move the images to where ``synthesis.storage`` says that they are."""
    for images in run.glob("seed-*/*/images"):
        target = Storage(f"{url}/{images.parent.parent.name}/{images.parent.name}")
        for path in images.rglob("*"):
            if path.is_file():
                target.write(path.relative_to(images).as_posix(), path.read_bytes())
        shutil.rmtree(images)
    record = json.loads((run / "run.json").read_text())
    record["config"]["synthesis"] = {"storage": url}
    write_json(run / "run.json", record)
    return run


def images_of(page: Page) -> list[str]:
    return [image["src"] for image in page.all("img")]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder in a bucket of a server in this process."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    s3fs = pytest.importorskip("s3fs")
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1"),
                        ("ENDPOINT_URL", f"http://{host}:{port}")):  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir("pictures")  # moto keeps the buckets of other tests
    yield "s3://pictures/runs"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def test_images_in_an_object_store_are_shown_and_read_by_worker_processes(tmp_path: Path, bucket: str) -> None:
    here = images_of(Page(write_report(make_run(tmp_path / "here"))))
    run = store_at(make_run(tmp_path / "there"), bucket)
    assert images_of(Page(write_report(run))) == here
    images, labels = open_images(Storage(f"{bucket}/seed-0/prism"), 0, num_workers=1)
    assert isinstance(images, TarImages) and len(labels) == 30
    batches = list(images.batches([torch.tensor([0, 1]), torch.tensor([29])]))
    assert [len(batch) for batch in batches] == [2, 1]


@pytest.mark.parametrize("where", ["another folder", "memory"])
def test_images_that_lie_elsewhere_are_shown(where: str, tmp_path: Path, memory: str) -> None:
    here = images_of(Page(write_report(make_run(tmp_path / "here"))))
    url = memory if where == "memory" else str(tmp_path / "elsewhere")
    run = store_at(make_run(tmp_path / "there"), url)
    page = Page(write_report(run))
    assert not list(run.glob("seed-*/*/images"))
    assert images_of(page) == here and len(here) > 2 * 8 * len(CLASSES)


def test_images_that_are_gone_are_a_remark_and_no_error(tmp_path: Path, memory: str) -> None:
    run = make_run(tmp_path)
    for images in run.glob("seed-*/*/images"):
        shutil.rmtree(images)
    record = json.loads((run / "run.json").read_text())
    for url, remark in (
        (memory, "The images were written to memory://report, where none are found now."),
        ("nowhere://bucket", "The images are in nowhere://bucket, which can't be read from here (expected a folder"),
    ):
        record["config"]["synthesis"] = {"storage": url}
        write_json(run / "run.json", record)
        page = Page(write_report(run))
        assert remark in page.text and page.unclosed == []
        assert "{{" not in page.source


NUM_CLASSES, SHARD_SIZE = 5, 10


def make_dataset(folder: Path, num_images: int, shards: tuple[int, ...]) -> Storage:
    """A data set with a manifest, of which some shards are committed."""
    classes = tuple(f"class {label}" for label in range(NUM_CLASSES))
    manifest = claim(folder, Manifest({"of": "test"}, (num_images,), SHARD_SIZE, classes))
    for shard in shards:
        samples = [Sample(index, np.full((8, 8), index, np.uint8), index % NUM_CLASSES, {})
                   for index in manifest.ranges[shard]]  # fmt: skip
        write_shard(folder, shard, samples, manifest.plan_hash)
    return Storage(folder)


def test_no_tar_is_opened_to_find_the_first_images_of_classes_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    shutil.rmtree(run / "seed-0" / "prism" / "images")
    make_dataset(run / "seed-0" / "prism" / "images", 60, (0, 2, 3))
    dataset = stored_images(load_run(run)).datasets["prism"]
    by_reading = first_indices(replace(dataset, in_turn=False), [2, 0, 9], 4)
    opened = record_openings(monkeypatch)
    wanted = {2: [2, 7, 22, 27], 0: [0, 5, 20, 25], 9: []}
    assert first_indices(dataset, [2, 0, 9], 4) == by_reading == wanted
    assert opened == []


def record_openings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    opened, reading = list[str](), Storage.reading

    def record(self: Storage, name: str):
        if name.endswith(".tar"):
            opened.append(name)
        return reading(self, name)

    monkeypatch.setattr(Storage, "reading", record)
    return opened


def test_only_tars_with_wanted_images_are_opened_and_none_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = make_dataset(tmp_path, 60, (0, 1, 2, 3, 4, 5))
    tar = tmp_path / "shard-000004.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[: len(whole) // 2] + b"\0" * (len(whole) - len(whole) // 2))  # the second half is gone
    opened = record_openings(monkeypatch)
    assert [sample.index for sample in read_few(storage, {3, 21, 40, 99})] == [3, 21, 40]
    assert opened == ["shard-000000.tar", "shard-000002.tar", "shard-000004.tar"]


def test_a_manifest_of_any_number_of_images_costs_no_time(tmp_path: Path) -> None:
    storage = make_dataset(tmp_path, 10, (0,))
    manifest = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps({**manifest, "ends": [2**53], "shard_size": 2**53}))
    assert [sample.index for sample in read_few(storage, {3})] == [3]


def test_a_damaged_shard_that_holds_a_wanted_image_is_one_error(tmp_path: Path) -> None:
    storage = make_dataset(tmp_path, 20, (0, 1))
    (tmp_path / "shard-000001.tar").unlink()
    assert [sample.index for sample in read_few(storage, {3})] == [3]
    with pytest.raises(UserError, match="the shard is damaged; `prismkd repair` draws it again"):
        list(read_few(storage, {3, 13}))
