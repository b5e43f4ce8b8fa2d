"""What disks, killed writers and other plans do to a data set: nothing is lost, and the message says what to do."""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.stand_in import OpenStandIns, manifest_of, prepared
from prismkd.errors import UserError
from prismkd.shards import (
    Encoding,
    Manifest,
    claim,
    discard_broken,
    drop_shard,
    inspect,
    read_manifest,
    read_samples,
    record_failure,
    scan,
    verify,
    write_shard,
)
from tests.files.killing import small_files

NUM_IMAGES, SHARD_SIZE = 18, 6


def draw(folder: Path, *shards: int) -> None:
    unit = OpenStandIns(str(folder))("cpu")
    for shard in shards:
        unit(shard, lambda count: None)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    draw(tmp_path, *prepared(str(tmp_path), NUM_IMAGES, SHARD_SIZE))
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


def kinds(folder: Path) -> list[tuple[str, int | None]]:
    return [(finding.kind, finding.shard) for finding in inspect(folder)[0]]


def one_line(error: pytest.ExceptionInfo[UserError], folder: Path) -> str:
    return re.sub(r"\.\d+", "", str(error.value).replace(str(folder), "DIR"))


# --- damage ------------------------------------------------------------------------------------------------------


def test_a_shard_that_is_a_copy_of_another_is_damaged_and_drawn_again_by_its_writer(whole: Path) -> None:
    before = contents(whole)
    for folder, ending in (("ledger", "json"), (".", "tar")):
        source = whole / folder / f"shard-000000.{ending}"
        (whole / folder / f"shard-000001.{ending}").write_bytes(source.read_bytes())
    assert kinds(whole) == [("damaged", 1)]
    draw(whole, 1)
    assert kinds(whole) == [] and contents(whole) == before


def test_a_damaged_record_of_a_failure_stops_nothing(whole: Path) -> None:
    (whole / "ledger" / "shard-000001.failed.json").write_text("{")
    assert scan(whole).failed == {1: "unknown (its record is damaged)"}


def test_a_foreign_file_is_reported_and_never_touched(whole: Path) -> None:
    for name in ("thesis.tex", "shard-x.tar", "000000001.png"):
        (whole / name).write_text("precious")
    findings = inspect(whole)[0]
    assert [finding.name for finding in findings] == [
        "000000001.png",
        "shard-x.tar",
        "thesis.tex",
    ]
    discard_broken(whole, findings)
    assert (whole / "thesis.tex").read_text() == (whole / "shard-x.tar").read_text() == "precious"
    assert len(list(read_samples(whole))) == NUM_IMAGES


def test_a_shard_that_was_given_up_is_a_finding_until_it_is_drawn(whole: Path) -> None:
    drop_shard(whole, 1)
    record_failure(whole, 1, "ValueError: cursed")
    assert scan(whole).failed == {1: "ValueError: cursed"}
    assert kinds(whole) == [("failed", 1)]
    draw(whole, 1)
    assert scan(whole).failed == {} and kinds(whole) == []


def test_neither_file_times_nor_a_jumping_clock_matter(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(whole)
    for number, path in enumerate(whole.rglob("*")):
        os.utime(path, (number % 2 * 4e9, number % 2 * 4e9))  # 1970 and 2096
    assert kinds(whole) == []
    drop_shard(whole, 0)
    jumps = iter(range(10**9, 0, -(10**6)))
    monkeypatch.setattr("time.time", lambda: next(jumps))
    draw(whole, 0)
    assert contents(whole) == before and kinds(whole) == []
    assert 0 <= scan(whole).records[0].seconds < 60


# --- disks -------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    prepared(str(tmp_path), NUM_IMAGES, SHARD_SIZE)
    draw(tmp_path, 0)
    with small_files(4096), pytest.raises(UserError) as error:
        draw(tmp_path, 1)
    assert one_line(error, tmp_path) == (
        "expected room for DIR/shard-000001.tar, got: File too large; allow larger files (ulimit -f), or choose "
        "another disk; what is committed stays"
    )
    assert kinds(tmp_path) == [("missing", 1), ("missing", 2)]
    draw(tmp_path, 1, 2)
    assert verify(tmp_path) == NUM_IMAGES


def test_a_read_only_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(str(tmp_path), NUM_IMAGES, SHARD_SIZE)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(UserError) as error:
        draw(tmp_path, 0)
    assert one_line(error, tmp_path) == (
        "expected DIR/shard-000000.tar to be usable, got: Read-only file system; check the permissions, or choose "
        "another folder; what is committed stays"
    )
    assert not list(tmp_path.glob(".prismkd-*.tmp"))


# --- other plans -------------------------------------------------------------------------------------------------


def test_a_folder_of_another_plan_is_refused_and_the_field_named(whole: Path) -> None:
    manifest = manifest_of(NUM_IMAGES, SHARD_SIZE)
    others = {
        "stand-in": replace(manifest, identity={"stand-in": 1}),
        "shard_size": replace(manifest, shard_size=5),
        "encoding.format": replace(manifest, encoding=Encoding("webp")),
        "classes": replace(manifest, classes=("bell", "crane", "rat")),
        "guidance": replace(manifest, identity={"stand-in": 0, "guidance": {"strength": 1.0}}),
    }
    for field, other in others.items():
        with pytest.raises(UserError) as error:
            claim(whole, other)
        assert one_line(error, whole) == (
            f"expected DIR to hold images of this plan, got another {field}; choose another folder, or delete this one "
            "to draw its images again"
        )
    assert kinds(whole) == []


def test_a_shard_of_another_plan_does_not_count(whole: Path) -> None:
    drop_shard(whole, 1)
    write_shard(whole, 1, list(read_samples(whole, [0])), "another plan")
    manifest = read_manifest(whole)
    assert manifest is not None
    assert sorted(scan(whole, manifest.plan_hash).records) == [0, 2]
    assert kinds(whole) == [("damaged", 1)]


@pytest.mark.parametrize(
    ("field", "value"), [("ends", []), ("ends", [6, 3]), ("ends", ["18"]), ("shard_size", 0), ("identity", [])]
)
def test_a_manifest_with_other_values_is_one_line(whole: Path, field: str, value: object) -> None:
    found = json.loads((whole / "dataset.json").read_text())
    (whole / "dataset.json").write_text(json.dumps({**found, field: value}))
    with pytest.raises(UserError, match=r"expected .*dataset\.json.*, got.*; delete it and give the same"):
        read_manifest(whole)


def test_a_damaged_manifest_is_one_line(whole: Path) -> None:
    (whole / "dataset.json").write_text('{"identity": 3')
    with pytest.raises(UserError, match=r"expected JSON .*dataset\.json, got"):
        read_manifest(whole)


def test_a_lost_manifest_is_a_finding_and_written_anew(whole: Path) -> None:
    before, manifest = contents(whole), read_manifest(whole)
    (whole / "dataset.json").unlink()
    assert kinds(whole) == [("missing", None)]
    assert manifest is not None and claim(whole, manifest) == manifest
    assert contents(whole) == before and kinds(whole) == []


def test_shards_that_end_elsewhere_than_the_new_manifest_says_are_drawn_again(whole: Path) -> None:
    claim(whole, manifest_of(25, SHARD_SIZE))
    draw(whole, 3, 4)
    (whole / "dataset.json").unlink()
    claim(whole, replace(manifest_of(25, SHARD_SIZE), ends=(16, 25)))  # shards 2 and 3 would end at 16 and 22
    assert sorted(scan(whole).records) == [0, 1]


def test_a_shard_beyond_the_plan_is_a_finding_that_repair_leaves_alone(whole: Path) -> None:
    claim(whole, manifest_of(25, SHARD_SIZE))
    draw(whole, 3, 4)
    (whole / "dataset.json").unlink()
    claim(whole, manifest_of(NUM_IMAGES, SHARD_SIZE))
    findings = inspect(whole)[0]
    assert [(finding.kind, finding.shard) for finding in findings] == [("extra", 3), ("extra", 4)]
    assert "expected 3 shards, got also" in findings[0].message
    discard_broken(whole, findings)
    assert (whole / "shard-000003.tar").is_file()


def test_more_images_are_appended_and_the_old_ones_stay(whole: Path) -> None:
    before = contents(whole)
    manifest = claim(whole, manifest_of(25, SHARD_SIZE))
    assert manifest.ranges == [range(0, 6), range(6, 12), range(12, 18), range(18, 24), range(24, 25)]
    assert kinds(whole) == [("missing", 3), ("missing", 4)]
    draw(whole, 3, 4)
    assert verify(whole) == 25 and before.items() <= contents(whole).items()
    assert claim(whole, manifest_of(NUM_IMAGES, SHARD_SIZE)) == manifest, "fewer images take nothing away"


@pytest.mark.parametrize(("ends", "size", "starts"), [((10,), 4, [0, 4, 8]), ((6, 10), 4, [0, 4, 6]), ((3,), 5, [0])])
def test_a_shard_ends_where_a_part_ends(ends: tuple[int, ...], size: int, starts: list[int]) -> None:
    ranges = Manifest({}, ends, size, ("a",)).ranges
    assert [part.start for part in ranges] == starts
    assert [index for part in ranges for index in part] == list(range(ends[-1]))
