"""Other tools open a data set as it is or as it is exported, with equal labels and images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.stand_in import CLASSES, OpenStandIns, manifest_of
from prismkd.errors import UserError
from prismkd.files import is_temporary
from prismkd.shards import (
    Encoding,
    Manifest,
    Sample,
    Storage,
    claim,
    drop_shard,
    inspect,
    read_samples,
    scan,
    verify,
    write_shard,
)
from prismkd.shards.card import write_card
from prismkd.shards.export import export, folder_name, merge
from tests.files.killing import contents, kill_everywhere, killed_at, small_files

NUM_IMAGES, SHARD_SIZE = 20, 8
HOSTILE = (
    "../../etc/passwd",
    "con",
    "naïve café 🦆",
    "a" * 300,
    "<script>alert(1)</script>",
    "x|y`z*_[]",
    "",
    ".",
    "A/b\\c\0",
)


def finish(folder: Path, manifest: Manifest, name: str = "prism (seed 0)") -> Path:
    claim(folder, manifest)
    unit = OpenStandIns(str(folder), side=16)("cpu")
    for shard in range(len(manifest.ranges)):
        unit(shard, lambda count: None)
    write_card(Storage(folder), manifest, scan(folder), name)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(tmp_path_factory.mktemp("images"), manifest_of(NUM_IMAGES, SHARD_SIZE))


@pytest.fixture(scope="module")
def expected(images: Path) -> dict[int, Sample]:
    return {sample.index: sample for sample in read_samples(images)}


def grey(image: object) -> np.ndarray:
    return np.asarray(image.convert("L"))  # type: ignore[attr-defined]


def check(found: Iterator[tuple[int, object, int]], expected: dict[int, Sample]) -> None:
    """Every sample once, with its image and label."""
    rows = {index: (image, label) for index, image, label in found}
    assert sorted(rows) == sorted(expected)
    for index, (image, label) in rows.items():
        assert label == expected[index].label
        np.testing.assert_array_equal(grey(image), expected[index].image)


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="needs datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


# --- as it is ----------------------------------------------------------------------------------------------------


def test_hugging_face_datasets_read_it(images: Path, expected: dict[int, Sample], no_hub: None, tmp_path: Path) -> None:
    from datasets import load_dataset

    found = load_dataset(str(images), split="train", cache_dir=str(tmp_path))
    check(((int(row["__key__"]), row["png"], row["cls"]) for row in found), expected)
    assert found[3]["json"]["prompt"] == "noise 3"


def test_webdataset_reads_it(images: Path, expected: dict[int, Sample]) -> None:
    import webdataset

    urls = sorted(map(str, images.glob("*.tar")))
    found = webdataset.WebDataset(urls, shardshuffle=False).decode("pil")
    check(((int(row["__key__"]), row["png"], row["cls"]) for row in found), expected)


def test_timm_reads_it(images: Path, expected: dict[int, Sample]) -> None:
    from timm.data import create_dataset

    found = create_dataset("wds/", root=str(images), split="train", is_training=False, batch_size=4)
    assert len(found) == NUM_IMAGES
    rows = [(grey(image).tobytes(), label) for image, label in found]
    assert sorted(rows) == sorted((sample.image.tobytes(), sample.label) for sample in expected.values())


# --- exported ----------------------------------------------------------------------------------------------------


def test_an_imagefolder_keeps_bytes_and_the_order_of_labels(
    images: Path, expected: dict[int, Sample], tmp_path: Path
) -> None:
    from timm.data import create_dataset
    from torchvision.datasets import ImageFolder

    assert export(Storage(images), "imagefolder", Storage(tmp_path / "out"), lambda count: None) == NUM_IMAGES
    found = ImageFolder(tmp_path / "out" / "train")
    assert found.classes == ["0-bell", "1-crane", "2-mouse"]
    check(((int(Path(path).stem), found.loader(path), label) for path, label in found.samples), expected)
    other = create_dataset("", root=str(tmp_path / "out" / "train"))
    assert len(other) == NUM_IMAGES and other.reader.class_to_idx == found.class_to_idx
    rows = [json.loads(line) for line in (tmp_path / "out" / "provenance.jsonl").read_text().splitlines()]
    assert rows[0]["file"] == "train/0-bell/000000000.png" and rows[0]["prompt"] == "noise 0"


def test_parquet_is_read_by_hugging_face_datasets(
    images: Path, expected: dict[int, Sample], no_hub: None, tmp_path: Path
) -> None:
    from datasets import ClassLabel, load_dataset

    export(Storage(images), "hf", Storage(tmp_path / "out"), lambda count: None)
    found = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert found.features["label"] == ClassLabel(names=list(CLASSES))
    rows = ((json.loads(row["metadata"])["index"], row["image"], row["label"]) for row in found)
    check(rows, expected)


def test_exported_shards_are_the_same_bytes_without_the_ledger(images: Path, tmp_path: Path) -> None:
    export(Storage(images), "webdataset", Storage(tmp_path / "out"), lambda count: None)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["README.md", "_info.json", *(f"shard-00000{i}.tar" for i in range(3))]
    assert all((tmp_path / "out" / n).read_bytes() == (images / n).read_bytes() for n in names if n.endswith("tar"))


@pytest.mark.parametrize("layout", ["imagefolder", "hf", "webdataset"])
def test_hostile_class_names_stay_inside(tmp_path: Path, layout: str) -> None:
    manifest = replace(manifest_of(18, SHARD_SIZE), classes=HOSTILE)
    claim(tmp_path / "images", manifest)
    for shard, part in enumerate(manifest.ranges):
        samples = [Sample(i, np.zeros((4, 4), np.uint8), i % len(HOSTILE), {}) for i in part]
        write_shard(tmp_path / "images", shard, samples, manifest.plan_hash)
    (tmp_path / "target").mkdir()
    before = sorted(tmp_path.rglob("*"))
    export(Storage(tmp_path / "images"), layout, Storage(tmp_path / "target" / "out"), lambda count: None)
    written = [path for path in tmp_path.rglob("*") if path not in before]
    assert written and all(path.is_relative_to(tmp_path / "target" / "out") for path in written)
    if layout == "imagefolder":
        folders = sorted(path.name for path in (tmp_path / "target" / "out" / "train").iterdir())
        assert [int(name.split("-")[0]) for name in folders] == list(range(len(HOSTILE)))
        assert all(len(name) < 70 and name.isascii() for name in folders)
    else:
        card = (tmp_path / "target" / "out" / "README.md").read_text()
        assert "<script>" not in card and card.count("\n| ") == 2 + 6 + len(HOSTILE)


def test_folder_names() -> None:
    assert folder_name(7, "Mäuse & Co", 1000) == "007-mause-co"
    assert folder_name(7, "🦆", 8) == "7"


def test_an_export_leaves_other_files_alone(images: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="expected a new or empty folder to export to"):
        export(Storage(images), "hf", Storage(tmp_path), lambda count: None)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("layout", ["imagefolder", "hf", "webdataset"])
def test_an_export_that_was_stopped_goes_on(images: Path, tmp_path: Path, layout: str) -> None:
    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(Storage(images), layout, Storage(tmp_path / "out"), stop)
    (tmp_path / "out" / ".prismkd-classes.txt.0123456789abcdef.tmp").write_text("")
    other = {"imagefolder": "hf", "hf": "webdataset", "webdataset": "imagefolder"}[layout]
    with pytest.raises(UserError, match="expected a new or empty folder"):
        export(Storage(images), other, Storage(tmp_path / "out"), lambda count: None)
    export(Storage(images), layout, Storage(tmp_path / "out"), lambda count: None)
    export(Storage(images), layout, Storage(tmp_path / "at-once"), lambda count: None)
    assert files(tmp_path / "out") == files(tmp_path / "at-once")


@pytest.mark.parametrize("layout", ["imagefolder", "hf", "webdataset"])
def test_an_export_that_was_killed_at_any_moment_goes_on(tmp_path: Path, layout: str) -> None:
    source = finish(tmp_path / "images", manifest_of(4, 2))

    def work(out: Path) -> None:
        export(Storage(source), layout, Storage(out), lambda count: None)

    (tmp_path / "out").mkdir()
    assert kill_everywhere(work, tmp_path / "out") > 10


def test_a_merge_that_was_killed_at_any_moment_goes_on(tmp_path: Path) -> None:
    sources = [Storage(finish(tmp_path / str(seed), manifest_of(2, 2, seed))) for seed in (0, 1)]

    def once(out: Path) -> None:
        merge(sources, Storage(out), lambda count: None)

    once(tmp_path / "at-once")
    tars = {name: data for name, data in contents(tmp_path / "at-once").items() if not name.startswith("ledger/")}
    (tmp_path / "out").mkdir()
    for number in range(1, 1000):
        with killed_at(number, tmp_path / "out") as killer:
            once(tmp_path / "out" / str(number))
        once(tmp_path / "out" / str(number))
        found = contents(tmp_path / "out" / str(number))
        assert {name: data for name, data in found.items() if not name.startswith("ledger/")} == tars
        assert not any(is_temporary(Path(name).name) for name in found) and verify(tmp_path / "out" / str(number)) == 4
        if killer.count < number:
            break
    assert number > 20


def test_a_merge_leaves_other_files_alone(images: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("precious")
    other = finish(tmp_path / "other", manifest_of(4, 4, seed=1))
    with pytest.raises(UserError, match="expected a new or empty folder to merge to"):
        merge([Storage(images), Storage(other)], Storage(tmp_path / "mine"), lambda count: None)
    assert contents(tmp_path / "mine") == {"README.md": b"precious"}


@pytest.mark.parametrize("layout", ["imagefolder", "hf", "webdataset"])
def test_nothing_leaves_a_received_data_set_by_a_link(tmp_path: Path, layout: str) -> None:
    """Even where the ledger knows the file: somebody may know its digest and not its contents."""
    folder = finish(tmp_path / "images", manifest_of(4, 2))
    (folder / "shard-000001.tar").rename(tmp_path / "private.tar")
    (folder / "shard-000001.tar").symlink_to(tmp_path / "private.tar")
    with pytest.raises(UserError, match=r"expected no link .*shard-000001\.tar, got one that leads to .*private\.tar"):
        export(Storage(folder), layout, Storage(tmp_path / "out"), lambda count: None)
    assert not (tmp_path / "out").exists()


def test_an_export_goes_on_through_no_link(images: Path, tmp_path: Path) -> None:
    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(Storage(images), "imagefolder", Storage(tmp_path / "out"), stop)
    shutil.rmtree(tmp_path / "out" / "train")
    (tmp_path / "own").mkdir()
    (tmp_path / "out" / "train").symlink_to(tmp_path / "own")
    with pytest.raises(UserError, match="expected no link at"):
        export(Storage(images), "imagefolder", Storage(tmp_path / "out"), lambda count: None)
    assert contents(tmp_path / "own") == {}


@pytest.mark.parametrize("layout", ["imagefolder", "hf", "webdataset"])
def test_a_full_disk_stops_an_export_until_there_is_room(images: Path, tmp_path: Path, layout: str) -> None:
    with (
        small_files(500),
        pytest.raises(UserError, match=r"expected room for .*out/.*, got: File too large; allow larger files"),
    ):
        export(Storage(images), layout, Storage(tmp_path / "out"), lambda count: None)
    assert not any(is_temporary(path.name) for path in (tmp_path / "out").rglob("*"))
    export(Storage(images), layout, Storage(tmp_path / "out"), lambda count: None)
    export(Storage(images), layout, Storage(tmp_path / "at-once"), lambda count: None)
    assert files(tmp_path / "out") == files(tmp_path / "at-once")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_not_whole_is_not_exported(tmp_path: Path) -> None:
    folder = finish(tmp_path / "images", manifest_of(NUM_IMAGES, SHARD_SIZE))
    drop_shard(folder, 1)
    with pytest.raises(UserError, match=r"expected 3 shards in .*images, got 2; finish it with `prismkd synthesize`"):
        export(Storage(folder), "hf", Storage(tmp_path / "out"), lambda count: None)
    with pytest.raises(UserError, match=r"expected a data set of prismkd with dataset\.json"):
        export(Storage(tmp_path / "nowhere"), "hf", Storage(tmp_path / "out"), lambda count: None)


# --- merged ------------------------------------------------------------------------------------------------------


def test_damage_does_not_leave_with_an_export(images: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(images, copy)
    tar = bytearray((copy / "shard-000001.tar").read_bytes())
    tar[700] ^= 1
    (copy / "shard-000001.tar").write_bytes(tar)
    with pytest.raises(UserError, match="the shard is damaged; `prismkd repair` draws it again"):
        export(Storage(str(copy)), "webdataset", Storage(str(tmp_path / "out")), lambda count: None)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="the shard is damaged"):
        merge([Storage(str(images)), Storage(str(copy))], Storage(str(tmp_path / "both")), lambda count: None)
    with pytest.raises(UserError, match="expected two or more data sets to merge, each once"):
        merge([Storage(str(images)), Storage(f"{images}/../{images.name}")], Storage(str(tmp_path / "both")), print)


def test_merging_keeps_every_byte_and_numbers_anew(images: Path, expected: dict[int, Sample], tmp_path: Path) -> None:
    other = finish(tmp_path / "other", manifest_of(10, 4, seed=1))
    merged, sources = Storage(tmp_path / "merged"), [Storage(images), Storage(other)]
    assert merge(sources, merged, lambda count: None) == 30
    found = list(read_samples(merged))
    assert [sample.index for sample in found] == list(range(30))
    assert [sample.metadata["source"] for sample in found] == [0] * 20 + [1] * 10
    for sample in found[:20]:
        np.testing.assert_array_equal(sample.image, expected[sample.index].image)
        assert sample.metadata["sha256"] == expected[sample.index].metadata["sha256"]
    assert inspect(merged)[0] == []
    before = {path.name: path.read_bytes() for path in (tmp_path / "merged").glob("*.tar")}
    drop_shard(merged, 1)
    assert merge(sources, merged, lambda count: None) == 30, "a merge that was stopped goes on"
    assert {path.name: path.read_bytes() for path in (tmp_path / "merged").glob("*.tar")} == before


def test_data_sets_of_other_classes_are_not_merged(images: Path, tmp_path: Path) -> None:
    other = replace(manifest_of(4, 4), classes=("bell", "crane", "rat"))
    finish(tmp_path / "other", other)
    with pytest.raises(UserError, match=r"expected the classes of .* in .*other too, got others"):
        merge([Storage(images), Storage(tmp_path / "other")], Storage(tmp_path / "out"), lambda count: None)
    with pytest.raises(UserError, match="expected two or more data sets to merge, each once"):
        merge([Storage(images), Storage(images)], Storage(tmp_path / "out"), lambda count: None)


def test_a_lossy_data_set_is_merged_without_losing_more(tmp_path: Path) -> None:
    for seed in (0, 1):
        finish(tmp_path / str(seed), replace(manifest_of(6, 6, seed), encoding=Encoding("jpeg", 50)))
    merge([Storage(tmp_path / "0"), Storage(tmp_path / "1")], Storage(tmp_path / "out"), lambda count: None)
    images = [sample.image for sample in read_samples(tmp_path / "out")]
    originals = [sample.image for seed in "01" for sample in read_samples(tmp_path / seed)]
    np.testing.assert_array_equal(images, originals)
