"""Image sets that somebody else made, or that broke: one line says what is wrong, and no file of the user's is read."""

from __future__ import annotations

import errno
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from prismkd.data import load_labeled_images
from prismkd.data.decode import EncodedImage, read_all
from prismkd.delivery.image_files import read_image
from prismkd.distillation.cache import CachePlace, Picture, Pictures, cached
from prismkd.errors import UserError

Draw = Callable[..., bytes]
LABELS = [0, 1]


def refused(source: Path) -> str:
    with pytest.raises(UserError) as error:
        load_labeled_images(source, 2).check()
    return str(error.value)


# --- Parquet, and what Hugging Face saves ------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", [
    b"{", b"[" * 100_000, b"\xff", b"[1]", b'{"info": []}', b'{"info": {"features": []}}',
    b'{"info": {"features": {"label": [1]}}}', b'{"info": {"features": {"label": {"names": 3}}}}',
    b'{"info": {"features": {"label": {"names": [1, 2]}}}}', b'{"info": {"features": {"label": {"names": [["0"]]}}}}',
    b'{"info": {"features": {"label": {"names": {"0": "0"}}}}}', b'{"info": {"features": {"label": {"names": ["0"]}}}}',
])  # fmt: skip
def test_metadata_of_any_kind_is_one_line(metadata: bytes, tmp_path: Path, draw: Draw) -> None:
    table = pa.table({"image": [draw(), draw()], "label": LABELS}).replace_schema_metadata({b"huggingface": metadata})
    pq.write_table(table, tmp_path / "test.parquet")
    assert "test.parquet" in refused(tmp_path) and "\n" not in refused(tmp_path)


@pytest.mark.parametrize(
    "labels", [[0, None], [0, 2], [0, -1], [0, 2**62], [0.0, 1.0], ["a", "b"], [[0], [1]], [b"0", b"1"]]
)
def test_labels_of_any_kind_are_one_line(labels: list[Any], tmp_path: Path, draw: Draw) -> None:
    pq.write_table(pa.table({"image": [draw(), draw()], "label": labels}), tmp_path / "test.parquet")
    assert "test.parquet" in refused(tmp_path)


@pytest.mark.parametrize("image", [
    1, 1.5, "a", [1], {"bytes": None, "path": None}, {"bytes": "text", "path": "x"}, {"other": 3},
    {"bytes": b"", "path": "x"}, b"no image",
])  # fmt: skip
def test_a_column_of_no_images_is_one_line(image: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [image, image], "label": LABELS}), tmp_path / "test.parquet")
    assert f"got 2 of 2 that do not (row 0 of {tmp_path}/test.parquet: n" in refused(tmp_path)


def test_a_table_reads_no_files_but_those_of_its_folder(tmp_path: Path, write: Callable[..., Path]) -> None:
    folder, own = tmp_path / "received", write(tmp_path / "own.png")
    write(folder / "images" / "a.png")
    (folder / "link.png").symlink_to(own)
    remote = "http://127.0.0.1/a.png"  # is a file's name like any other
    for name, said in (
        (str(own), "got 1 elsewhere"), ("../own.png", "got 1 elsewhere"), ("images/../../own.png", "got 1 elsewhere"),
        ("link.png", "link.png is no file in"), (remote, "No such file"),
    ):  # fmt: skip
        pq.write_table(pa.table({"image": [{"bytes": None, "path": name}], "label": [0]}), folder / "test.parquet")
        assert said in refused(folder / "test.parquet")
    pq.write_table(
        pa.table({"image": [{"bytes": None, "path": "images/a.png"}], "label": [0]}), folder / "test.parquet"
    )
    assert len(load_labeled_images(folder / "test.parquet", 2).images) == 1


def test_a_few_bytes_that_unpack_to_any_size_are_refused(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([bytes(2**20)] * 300), "label": [0] * 300})
    pq.write_table(table, tmp_path / "test.parquet", compression="zstd")
    assert (tmp_path / "test.parquet").stat().st_size < 10_000
    assert "expected pictures, which hardly shrink, in" in refused(tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-20], lambda data: b"", lambda data: data[:4] + b"\xff" * 99 + data[-4:]]
)
def test_a_damaged_table_is_one_line(damage: Callable[[bytes], bytes], tmp_path: Path, draw: Draw) -> None:
    path = tmp_path / "test.parquet"
    pq.write_table(pa.table({"image": [draw(), draw()], "label": LABELS}), path)
    path.write_bytes(damage(path.read_bytes()))
    assert f"expected a Parquet file, got {path}: " in refused(tmp_path)


@pytest.mark.parametrize(("info", "state"), [
    ([], None), ({"features": []}, None), ({"features": {"label": 3}}, None), (None, []), (None, {"_data_files": 3}),
    (None, {"_data_files": [3]}), (None, {"_data_files": [{"filename": 3}]}),
    (None, {"_data_files": [{"filename": "none"}]}), (None, {"_data_files": [{"filename": "/etc/passwd"}]}),
    (None, {"_data_files": [{"filename": "../../../etc/passwd"}]}),
])  # fmt: skip
def test_a_saved_data_set_of_any_kind_is_one_line(info: Any, state: Any, tmp_path: Path, draw: Draw) -> None:
    table = pa.table({"image": [draw(), draw()], "label": LABELS})
    with pa.OSFile(str(tmp_path / "data.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    (tmp_path / "dataset_info.json").write_text(json.dumps({"features": {}} if info is None else info))
    whole = {"_data_files": [{"filename": "data.arrow"}]}
    (tmp_path / "state.json").write_text(json.dumps(whole if state is None else state))
    assert str(tmp_path) in refused(tmp_path) and "again" in refused(tmp_path)


# --- tars and lists ----------------------------------------------------------------------------------------------


def special(name: str, type: bytes, target: str = "", size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = type, target, size
    return member


def write_tar(path: Path, members: list[tuple[Any, bytes]]) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, contents in members:
            member = name if isinstance(name, tarfile.TarInfo) else special(name, tarfile.REGTYPE, size=len(contents))
            tar.addfile(member, io.BytesIO(contents))


@pytest.mark.parametrize(("image", "label", "said"), [
    ("b.png", (b"x" * 10**7), "b.cls has 10,000,000 bytes"),
    ("b.png", b"9" * 900, "that are none"),
    ("b.png", "²".encode(), "that are none"),
    (special("b.png", tarfile.SYMTYPE, "/etc/passwd"), b"1", "b.png is no plain file"),
    (special("b.png", tarfile.LNKTYPE, "none"), b"1", "b.png is no plain file"),
    (special("b.png", tarfile.FIFOTYPE), b"1", "b.png is no plain file"),
    ("b.png", special("b.cls", tarfile.SYMTYPE, "b.cls"), "b.cls is no plain file"),
    ("b.png", special("b.cls", tarfile.LNKTYPE, "none"), "b.cls is no plain file"),
])  # fmt: skip
def test_a_tar_of_links_and_long_labels_is_one_line(
    image: Any, label: Any, said: str, tmp_path: Path, draw: Draw
) -> None:
    second = (label, b"") if isinstance(label, tarfile.TarInfo) else ("b.cls", label)
    write_tar(
        tmp_path / "test.tar",
        [("a.png", draw()), ("a.cls", b"0"), (image, draw() if image == "b.png" else b""), second],
    )
    assert said in refused(tmp_path)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_gigabytes_is_not_read(kind: bytes, tmp_path: Path) -> None:
    with (tmp_path / "test.tar").open("wb") as file:
        file.write(special("long", kind, size=2**33 - 512).tobuf(tarfile.USTAR_FORMAT))
        file.truncate(2**33)  # takes no room
    assert "a header of 8,589,934,080 bytes; fetch or make it again" in refused(tmp_path)


@pytest.mark.parametrize("line", ["a.png " + "9" * 5000, "a.png ²", "x" * 5000 + ".png 0", "a\0.png 0", ". 0"])
def test_a_list_of_any_lines_is_one_line(line: str, tmp_path: Path, write: Callable[..., Path]) -> None:
    write(tmp_path / "a.png")
    (tmp_path / "test.txt").write_text(line)
    assert "test.txt" in refused(tmp_path / "test.txt")


# --- class folders -----------------------------------------------------------------------------------------------


def test_links_pipes_and_loops_in_class_folders_are_left_out(tmp_path: Path, write: Callable[..., Path]) -> None:
    for name in ("0", "1"):
        write(tmp_path / name / "a.png")
    os.mkfifo(tmp_path / "0" / "pipe.png")
    (tmp_path / "0" / "loop").symlink_to(tmp_path / "0")
    (tmp_path / "0" / "itself.png").symlink_to(tmp_path / "0" / "itself.png")
    (tmp_path / "0" / "device.png").symlink_to("/dev/zero")
    (tmp_path / "2").symlink_to(tmp_path / "2")
    write(tmp_path / "1" / "line\nbreak\x1b[31m.png")
    with open(os.fsencode(tmp_path) + b"/1/\xff.png", "wb") as file:
        file.write((tmp_path / "0" / "a.png").read_bytes())
    images = load_labeled_images(tmp_path, 2)
    assert images.labels.tolist() == [0, 1, 1, 1] and len(images.images) == 4 and images.fingerprint()


def test_an_image_that_starts_a_program_is_none(tmp_path: Path) -> None:
    """Pillow opens EPS with Ghostscript, whatever the file is called."""
    (tmp_path / "0").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "0" / "a.png", "EPS")
    assert "a.png: not an image); replace or remove them" in refused(tmp_path)


# --- the machine fails, and not the image ------------------------------------------------------------------------


def failing(number: int) -> Callable[[], Any]:
    def _open() -> Any:
        raise OSError(number, os.strerror(number))

    return _open


@pytest.mark.parametrize(("number", "remedy"), [
    (errno.EMFILE, "allow more open files (ulimit -n)"), (errno.ENFILE, "allow more open files (ulimit -n)"),
    (errno.ENOMEM, "free some memory"), (errno.EIO, "check the disk"),
    (errno.EACCES, "check the files and their permissions"),
])  # fmt: skip
def test_an_error_of_the_machine_is_said_as_such_and_no_image_is_called_damaged(
    number: int, remedy: str, tmp_path: Path
) -> None:
    images = [EncodedImage(f"{place}.png", failing(number)) for place in range(7)]
    with pytest.raises(UserError) as error:
        read_all(images, lambda image: image.picture("L"), "here")
    assert str(error.value) == (
        "expected to read the 7 images in here, got an error for 7 of them ("
        + "; ".join(f"{place}.png: {os.strerror(number)}" for place in range(5)) + f"; and 2 more); {remedy}"
    )  # fmt: skip
    pictures = Pictures("here", "0" * 64, 7, (1, 8, 8), lambda: [Picture("a", 0, failing(number))] * 7)
    with pytest.raises(UserError, match="expected to read the 7 images in here") as error:
        cached(pictures, CachePlace(tmp_path, 1e9))
    assert str(error.value).endswith(remedy) and not list(tmp_path.iterdir())


def test_no_memory_is_no_damage(tmp_path: Path) -> None:
    def exhausted() -> Any:
        raise MemoryError

    with pytest.raises(MemoryError):
        read_all([EncodedImage("a", exhausted)], lambda image: image.picture("L"), "here")
    with pytest.raises(MemoryError):
        cached(
            Pictures("here", "0" * 64, 1, (1, 8, 8), lambda: [Picture("a", 0, exhausted)]), CachePlace(tmp_path, 1e9)
        )


def test_damage_that_looks_like_an_error_of_the_machine_is_damage() -> None:
    """A file that sends its reader to a place before its start gets EINVAL of the operating system."""
    with pytest.raises(UserError, match="expected images that decode in here"):
        read_all([EncodedImage("a", failing(errno.EINVAL))], lambda image: image.picture("L"), "here")


def test_prediction_without_file_handles_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prismkd.data import Geometry

    (tmp_path / "a.png").touch()
    monkeypatch.setattr(Path, "open", lambda *_: failing(errno.EMFILE)())
    with pytest.raises(UserError, match=r"Too many open files; allow more open files \(ulimit -n\)$"):
        read_image(tmp_path / "a.png", 3, Geometry.square(8))


# --- a cache ------------------------------------------------------------------------------------------------------


def test_a_cache_with_other_bytes_than_were_written_is_built_again(tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    pictures = Pictures("here", "0" * 64, 2, (1, 8, 8), lambda: [Picture("a", 1, lambda: pixels)] * 2)
    place = CachePlace(tmp_path, 1e9)
    path = cached(pictures, place)[0].path
    whole = path.read_bytes()
    for place_of_damage in (5, 130, len(whole) - 1):  # an image, a label, the digest
        damaged = bytearray(whole)
        damaged[place_of_damage] ^= 255
        path.write_bytes(damaged)
        images, labels = cached(pictures, place)
        assert path.read_bytes() == whole and labels.tolist() == [1, 1]
        assert images.images.tolist() == [pixels.tolist()] * 2
