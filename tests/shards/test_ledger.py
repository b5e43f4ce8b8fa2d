"""Shards: what is committed comes back whole, and what is damaged is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from prismkd.errors import UserError
from prismkd.shards import (
    Sample,
    Storage,
    committed_shards,
    is_committed,
    read_samples,
    scan,
    to_array,
    verify,
    write_shard,
)


def some_samples(first: int = 0, count: int = 3, shape: tuple[int, ...] = (8, 6, 3)) -> list[Sample]:
    return [
        Sample(
            index=index,
            image=np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8),
            label=index % 2,
            metadata={"index": index, "class": "café", "energy_before": 0.1 + index, "energy_after": None},
        )
        for index in range(first, first + count)
    ]


def test_samples_come_back_as_written(tmp_path: Path) -> None:
    written = some_samples(0, 3) + some_samples(3, 2)
    write_shard(tmp_path, 1, written[3:], "plan")
    write_shard(tmp_path, 0, written[:3], "plan")
    read = list(read_samples(tmp_path))
    assert [sample.index for sample in read] == [0, 1, 2, 3, 4]
    for before, after in zip(written, read, strict=True):
        np.testing.assert_array_equal(after.image, before.image)
        digest = after.metadata.pop("sha256")
        assert (after.label, after.metadata) == (before.label, before.metadata)
        assert len(digest) == 64


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 3)])
def test_arrays_are_channels_first_in_the_unit_interval(tmp_path: Path, shape: tuple[int, ...]) -> None:
    written = some_samples(shape=shape)
    write_shard(tmp_path, 0, written, "plan")
    read = list(read_samples(tmp_path))
    images = np.stack([to_array(sample) for sample in read])
    assert images.shape == (3, 3 if len(shape) == 3 else 1, 8, 6)
    assert images.dtype == np.float32
    assert 0 <= images.min() < 0.1 and 0.9 < images.max() <= 1
    np.testing.assert_allclose(images[1, 0], written[1].image.reshape(8, 6, -1)[..., 0] / 255, rtol=1e-6)
    assert [sample.label for sample in read] == [0, 1, 0]
    assert read[2].metadata["energy_before"] == 2.1


def test_a_committed_shard_is_not_drawn_again(tmp_path: Path) -> None:
    def not_to_be_drawn() -> Iterator[Sample]:
        raise AssertionError("the samples of a committed shard were drawn")
        yield

    assert not is_committed(tmp_path, 0, "plan")
    record = write_shard(tmp_path, 0, some_samples(), "plan")
    assert is_committed(tmp_path, 0, "plan")
    assert write_shard(tmp_path, 0, not_to_be_drawn(), "plan") == record
    assert committed_shards(tmp_path) == [0]


def test_a_shard_without_a_commit_record_does_not_count(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, some_samples(), "plan")
    (tmp_path / "ledger" / "shard-000000.json").unlink()
    assert committed_shards(tmp_path) == []
    assert list(read_samples(tmp_path)) == []


def test_a_shard_that_is_committed_while_the_ledger_is_read_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = Storage.sizes

    def sizes_before_a_commit(storage: Storage, folder: str = "") -> dict[str, int]:
        listed = sizes(storage, folder)
        monkeypatch.setattr(Storage, "sizes", sizes)
        write_shard(tmp_path, 0, some_samples(), "plan")
        return listed

    monkeypatch.setattr(Storage, "sizes", sizes_before_a_commit)
    assert scan(tmp_path).damaged == {}
    assert scan(tmp_path).records.keys() == {0}


def test_another_plan_is_refused_with_the_remedy(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, some_samples(), "aaa")
    with pytest.raises(UserError) as error:
        write_shard(tmp_path, 0, some_samples(), "bbb")
    assert str(error.value) == (
        f"expected plan hash bbb, got aaa in {tmp_path}/ledger/shard-000000.json: its images were made from another "
        f"plan; write to a new folder, or delete {tmp_path} to make the images again"
    )


def test_verify_refuses_a_mix_of_plans(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, some_samples(), "aaa")
    write_shard(tmp_path, 1, some_samples(3), "bbb")
    with pytest.raises(UserError, match=r"expected plan hash aaa, got bbb in .*ledger/shard-000001\.json"):
        verify(tmp_path)


def test_verify_counts_whole_shards(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, some_samples(0, 3), "plan")
    write_shard(tmp_path, 1, some_samples(3, 2), "plan")
    assert verify(tmp_path) == 5


def test_verify_names_a_truncated_tar(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, some_samples(), "plan")
    write_shard(tmp_path, 1, some_samples(3), "plan")
    tar = tmp_path / "shard-000001.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    for read in (verify, lambda folder: list(read_samples(folder))):
        with pytest.raises(UserError, match=r"bytes in .*shard-000001\.tar, got \d+ bytes"):
            read(tmp_path)


def test_verify_names_a_missing_tar(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, some_samples(), "plan")
    (tmp_path / "shard-000000.tar").unlink()
    with pytest.raises(UserError, match=r"shard-000000\.tar, got no file"):
        verify(tmp_path)


def test_verify_names_a_tar_with_one_flipped_bit(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, some_samples(), "plan")
    tar = tmp_path / "shard-000000.tar"
    tar.write_bytes(bytes([tar.read_bytes()[0] ^ 1]) + tar.read_bytes()[1:])
    with pytest.raises(UserError, match=r"expected sha256 .*shard-000000\.tar"):
        verify(tmp_path)


def test_a_changed_commit_record_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, some_samples(), "plan")
    path = tmp_path / "ledger" / "shard-000000.json"
    path.write_text(path.read_text().replace('"count": 3', '"count": 4'))
    with pytest.raises(
        UserError, match=r"expected a commit record of shard 0 in .*shard-000000\.json, got something else"
    ):
        verify(tmp_path)


def test_a_damaged_commit_record_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, some_samples(), "plan")
    path = tmp_path / "ledger" / "shard-000000.json"
    path.write_text(path.read_text()[:20])
    with pytest.raises(UserError, match=r"shard-000000\.json"):
        verify(tmp_path)


def test_an_interrupted_shard_leaves_nothing_and_is_made_again(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Sample]:
        yield from some_samples()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path, 0, interrupted(), "plan")
    assert files(tmp_path) == []
    temporary = ".prismkd-{}.0123456789abcdef.tmp"
    killed = [
        tmp_path / temporary.format("shard-000000.tar"),
        tmp_path / "ledger" / temporary.format("shard-000000.json"),
    ]
    other_worker = tmp_path / temporary.format("shard-000001.tar")
    killed[1].parent.mkdir(exist_ok=True)
    for path in (*killed, other_worker):
        path.write_text("in progress")
    write_shard(tmp_path, 0, some_samples(), "plan")
    assert files(tmp_path) == [other_worker.name, "ledger/shard-000000.json", "shard-000000.tar"]
    assert verify(tmp_path) == 3


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_same_samples_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shard(tmp_path / "a", 0, some_samples(), "plan")
    monkeypatch.setattr("time.time", lambda: 2e9)
    reordered = [
        Sample(sample.index, sample.image, sample.label, dict(reversed(sample.metadata.items())))
        for sample in some_samples()
    ]
    write_shard(tmp_path / "b", 0, reordered, "plan")
    for name in ("shard-000000.tar",):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_webdataset_library_reads_a_shard(tmp_path: Path) -> None:
    import webdataset

    written = some_samples()
    write_shard(tmp_path, 0, written, "plan")
    dataset = webdataset.WebDataset(str(tmp_path / "shard-000000.tar"), shardshuffle=False).decode("rgb8")
    read = list(dataset)
    assert [sample["__key__"] for sample in read] == ["000000000", "000000001", "000000002"]
    for before, after in zip(written, read, strict=True):
        np.testing.assert_array_equal(after["png"], before.image)
        assert after["cls"] == before.label and before.metadata.items() <= after["json"].items()


def test_float_images_are_refused(tmp_path: Path) -> None:
    sample = Sample(7, np.zeros((8, 6, 3), dtype=np.float32), 0, {})
    with pytest.raises(UserError, match=r"expected image 7 as uint8 .* got float32"):
        write_shard(tmp_path, 0, [sample], "plan")
    assert committed_shards(tmp_path) == []


def test_logits_are_kept_where_a_sample_has_some(tmp_path: Path) -> None:
    logits = np.linspace(-3, 9, 7, dtype=np.float32)
    image = np.zeros((8, 8), np.uint8)
    samples = [Sample(0, image, 1, {}, logits), Sample(1, image, 2, {})]
    write_shard(tmp_path, 0, samples, "plan")
    first, second = read_samples(tmp_path)
    assert first.logits is not None and second.logits is None
    np.testing.assert_array_equal(first.logits, logits.astype(np.float16))
    assert (first.label, second.label) == (1, 2)
