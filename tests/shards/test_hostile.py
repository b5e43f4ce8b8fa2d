"""Shards that somebody else made: the record fits the bytes, and the bytes are what no synthesis writes."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from prismkd.distillation import open_images
from prismkd.distillation.cache import CachePlace
from prismkd.distillation.tar_images import TarImages, TarIndex, read_logits
from prismkd.errors import UserError
from prismkd.report.stored_images import read_few
from prismkd.shards import Manifest, Storage, claim, inspect, read_samples, scan, verified, verify
from prismkd.shards.export import export, merge
from prismkd.shards.ledger import ShardRecord, _to_json, record_name, tar_name
from prismkd.shards.manifest import read_manifest

NUM_CLASSES, SIDE = 3, 16
MANIFEST = Manifest({"of": "test"}, (2,), 2, ("a", "b", "c"))
Members = list[tuple[Any, bytes]]  # a name or a whole header, and the contents


def picture(kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (SIDE, SIDE), **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


def sample(index: int, image: bytes | None = None, ending: str = "png", label: bytes = b"1", metadata: Any = None,
           logits: bytes | None = None) -> Members:  # fmt: skip
    noted = {"teacher_top1": 1, "energy_after": -1.0, "energy_before": None} if metadata is None else metadata
    document = noted if isinstance(noted, bytes) else json.dumps(noted).encode()
    between = [] if logits is None else [(f"{index:09d}.logits.npy", logits)]
    return [(f"{index:09d}.{ending}", picture() if image is None else image), *between, (f"{index:09d}.cls", label),
            (f"{index:09d}.json", document)]  # fmt: skip


def tar_of(members: Members, format: int = tarfile.USTAR_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for name, contents in members:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if member.type == tarfile.REGTYPE:
                member.size = len(contents)
            tar.addfile(member, io.BytesIO(contents))
    return file.getvalue()


def commit(folder: Path, tar: bytes, count: int = 2) -> Storage:
    """A data set of one shard whose record fits."""
    storage = Storage(folder)
    claim(storage, MANIFEST)
    storage.write(tar_name(0), tar)
    record = ShardRecord(0, hashlib.sha256(tar).hexdigest(), len(tar), count, MANIFEST.plan_hash)
    storage.write(record_name(0), _to_json(record))
    return storage


def npy(array: np.ndarray, *, pickled: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=pickled)
    return file.getvalue()


def header(shape: str) -> bytes:
    """An array of float16 that says to be of a shape, and is not."""
    text = f"{{'descr': '<f2', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + b"\0\0"


def special(name: str, type: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = type, target
    return member


def long_header() -> bytes:
    """An extended header that says to be of a gigabyte."""
    member = special("pax", tarfile.XHDTYPE)
    member.size = 2**30
    return member.tobuf(tarfile.USTAR_FORMAT) + tar_of(sample(0) + sample(1))


GOOD = sample(0)
# What the shard holds besides its first sample, and a word of what is said
STRUCTURE: dict[str, tuple[bytes, str]] = {
    "no label": (tar_of([*GOOD, sample(1)[0], sample(1)[2]]), "000000001.json where 000000001.cls should be"),
    "no metadata": (tar_of(GOOD + sample(1)[:2]), "nothing where 000000001.json should be"),
    "no image": (tar_of(GOOD + sample(1)[1:]), "000000001.cls where the image of another sample should be"),
    "another order": (tar_of(GOOD + sample(1)[::-1]), "000000001.json where the image"),
    "an index twice": (tar_of(GOOD + GOOD), "000000000.png where the image of another sample should be"),
    "another's label": (tar_of([*GOOD, sample(1)[0], *sample(2)[1:]]), "000000002.cls where 000000001.cls should be"),
    "a link": (tar_of([*GOOD, (special("000000001.png", tarfile.SYMTYPE, "/etc/passwd"), b"")]), "no file of a sample"),
    "a hard link": (tar_of([*GOOD, (special("000000001.png", tarfile.LNKTYPE, "000000000.png"), b"")]), "no file of"),
    "a device": (tar_of([*GOOD, (special("000000001.png", tarfile.CHRTYPE), b"")]), "no file of a sample"),
    "a pipe": (tar_of([*GOOD, (special("000000001.png", tarfile.FIFOTYPE), b"")]), "no file of a sample"),
    "a folder": (tar_of([*GOOD, (special("000000001.png", tarfile.DIRTYPE), b"")]), "no file of a sample"),
    "a way up": (tar_of([*GOOD, ("../../000000001.png", picture())]), "'../../000000001.png', which is no file"),
    "an absolute name": (tar_of([*GOOD, ("/tmp/000000001.png", picture())]), "'/tmp/000000001.png', which is no file"),
    "a long number": (tar_of([*GOOD, ("9" * 30 + ".png", picture())]), "no file of a sample"),
    "a sparse file": (tar_of([*GOOD, (special("000000001.png", tarfile.GNUTYPE_SPARSE), b"")]), "no file of a sample"),
    "a pax header": (long_header(), "'pax', which is no file of a sample"),
    "a long GNU name": (tar_of([("x" * 300, b"")], tarfile.GNU_FORMAT), "no file of a sample"),
    "gzip": (b"\x1f\x8b\x08" + bytes(2000), "got: bad checksum"),
    "empty": (b"", "got: empty header"),
    "cut": (tar_of(GOOD + sample(1))[:3072], "got: empty header"),
    "cut in a sample": (tar_of(GOOD + sample(1))[:4608], "0 of 1 bytes of 000000001.cls"),
    "label 10^30": (tar_of(GOOD + sample(1, label=b"1" + 30 * b"0")), "in place of a label"),
    "label x": (tar_of(GOOD + sample(1, label=b"x")), "b'x' in 000000001.cls in place of a label"),
    "a negative label": (tar_of(GOOD + sample(1, label=b"-1")), "in place of a label"),
    "a label of no class": (tar_of(GOOD + sample(1, label=b"3")), "label 3 of 3 classes at image 1"),
    "a label of a megabyte": (tar_of(GOOD + sample(1, label=b"1" * 2**20)), "1,048,576 bytes of 000000001.cls"),
    "a list of metadata": (tar_of(GOOD + sample(1, metadata=[1])), "000000001.json"),
    "deep metadata": (tar_of(GOOD + sample(1, metadata=b"[" * 100_000)), "too deep in each other"),
    "a mode of metadata": (tar_of(GOOD + sample(1, metadata={"mode": "P"})), "at mode"),
    "an energy of text": (tar_of(GOOD + sample(1, metadata={"energy_after": "low"})), "at energy_after"),
    "a teacher's answer of text": (tar_of(GOOD + sample(1, metadata={"teacher_top1": "dog"})), "at teacher_top1"),
    "a pickle of logits": (
        tar_of(GOOD + sample(1, logits=npy(np.array([{}], object), pickled=True))), "object in 000000001.logits.npy"
    ),
    "logits of any size": (tar_of(GOOD + sample(1, logits=header("(10**12,)"))), "got: "),
    "logits of a size": (tar_of(GOOD + sample(1, logits=header("(1000000000000,)"))), "in place of logits"),
    "a table of logits": (tar_of(GOOD + sample(1, logits=npy(np.zeros((1, 3), np.float16)))), "in place of logits"),
    "logits of others": (tar_of(GOOD + sample(1, logits=npy(np.zeros(7, np.float16)))), "7 logits of 3 classes"),
    "fewer than recorded": (tar_of(GOOD), "expected 2 samples in"),
    "more than recorded": (tar_of(GOOD + sample(1) + sample(2)), "expected 2 samples in"),
}  # fmt: skip
READERS: dict[str, Callable[[Storage, Path], Any]] = {
    "read": lambda storage, _: list(read_samples(storage)),
    "verified": lambda storage, _: verified(storage),
    "export": lambda storage, folder: export(storage, "imagefolder", Storage(folder / "out"), lambda _: None),
    "merge": lambda storage, folder: merge([storage, commit(folder / "b", tar_of(GOOD + sample(1)))],
                                           Storage(folder / "out"), lambda _: None),
    "in memory": lambda storage, _: open_images(storage, 1e9, 0),
    "from tars": lambda storage, _: open_images(storage, 0, 0),
    "cached": lambda storage, folder: open_images(storage, 1e9, 0, 8, CachePlace(folder / "cache", 1e9)),
    "logits": lambda storage, _: (read_logits(storage), open_images(storage, 1e9, 0)),
    "pictures": lambda storage, _: list(read_few(storage, {0, 1, 5})),
}  # fmt: skip


@pytest.mark.parametrize("case", STRUCTURE)
def test_a_tar_of_another_kind_is_one_line_in_every_reader(case: str, tmp_path: Path) -> None:
    tar, said = STRUCTURE[case]
    storage = commit(tmp_path / "data", tar)
    for name, read in READERS.items():
        if name == "pictures" and "recorded" in case:
            continue  # a report looks at a few, and not whether there are as many as recorded
        with pytest.raises(UserError) as error:
            read(storage, tmp_path / name)
        text = str(error.value)
        assert said in text and "shard-000000.tar" in text and "`prismkd repair` draws it again" in text, (name, text)
        assert "\n" not in text and len(text) < 600


@pytest.mark.parametrize("case", STRUCTURE)
def test_repair_finds_what_a_reader_refuses(case: str, tmp_path: Path) -> None:
    storage = commit(tmp_path, STRUCTURE[case][0])
    (finding,) = inspect(storage)[0]
    assert (finding.kind, finding.shard) == ("damaged", 0)


def bomb() -> bytes:
    """A PNG of a few kilobytes and 100 million pixels."""
    return picture(mode="1", size=(10_000, 10_000))


def noise() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((SIDE, SIDE), 50).save(file, "PNG")
    return file.getvalue()


def animation() -> bytes:
    frames = [Image.new("RGB", (SIDE, SIDE), color) for color in ("red", "green", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    return file.getvalue()


def with_profile() -> bytes:
    """A PNG whose color profile unpacks to more than Pillow allows."""
    return picture(icc_profile=bytes(2**26))


PICTURES: dict[str, tuple[bytes, str]] = {
    "a bomb": (bomb(), "png"),
    "cut": (noise()[:300], "png"),
    "nothing": (b"", "png"),
    "a GIF": (picture("GIF"), "png"),
    "a JPEG called PNG": (picture("JPEG"), "png"),
    "EPS, which starts a program": (picture("EPS"), "png"),
    "16 bits": (picture(mode="I;16"), "png"),
    "a palette": (picture(mode="P"), "png"),
    "transparent": (picture(mode="RGBA"), "png"),
    "ink": (picture("JPEG", "CMYK"), "jpg"),
    "an animation": (animation(), "webp"),
    "a profile": (with_profile(), "png"),
    "another size": (picture(size=(1, 1)), "png"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("case", PICTURES)
def test_an_image_that_is_none_of_prismkds_is_one_line_where_it_is_needed(case: str, tmp_path: Path) -> None:
    contents, ending = PICTURES[case]
    storage = commit(tmp_path / "data", tar_of(GOOD + sample(1, contents, ending)))
    readers = {name: READERS[name] for name in ("read", "in memory", "cached", "pictures")}
    readers["from tars"] = lambda storage, _: list(tars(storage, 0).batches([torch.tensor([1])]))
    for name, read in readers.items():
        if case == "another size" and name in ("read", "cached", "pictures"):
            continue
        with pytest.raises(UserError) as error:
            read(storage, tmp_path / name)
        text = str(error.value)
        assert "\n" not in text and len(text) < 600
        if case != "another size":
            assert "shard-000000.tar" in text and "delete its shard, and `prismkd repair` draws it again" in text, text


def tars(storage: Storage, num_workers: int) -> TarImages:
    return TarImages(storage, TarIndex.of(storage, scan(storage).records), (3, SIDE, SIDE), num_workers)


def test_an_error_in_a_worker_process_is_one_line(tmp_path: Path) -> None:
    storage = commit(tmp_path, tar_of(GOOD + sample(1, b"no image")))
    with pytest.raises(UserError) as error:
        list(tars(storage, 1).batches([torch.tensor([0]), torch.tensor([1])]))
    assert str(error.value) == (
        f"expected an image in {tmp_path}/shard-000000.tar, got: not an image; delete its shard, and `prismkd repair` "
        "draws it again"
    )


def test_logits_that_are_not_finite_are_refused_where_they_are_needed(tmp_path: Path) -> None:
    logits = npy(np.array([1, np.nan, 0], np.float16))
    storage = commit(tmp_path, tar_of(sample(0, logits=logits) + sample(1, logits=logits)))
    assert verify(storage) == 2
    with pytest.raises(UserError, match=r"expected finite logits of .*000000000.png, got others; set distillation"):
        read_logits(storage)


def test_a_machine_without_file_handles_is_no_damage_and_no_reason_to_draw_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, real_open = commit(tmp_path, tar_of(GOOD + sample(1))), Path.open
    storage.remove("dataset.json")  # so that ``claim`` looks into the shards

    def failing(self: Path, *args: Any, **options: Any) -> Any:
        if self.suffix == ".tar":
            raise OSError(errno.EMFILE, "Too many open files", str(self))
        return real_open(self, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", failing)
        readers: list[Callable[[], Any]] = [
            lambda: list(read_samples(storage)), lambda: claim(storage, MANIFEST), lambda: inspect(storage),
            lambda: TarIndex.of(storage, scan(storage).records),
        ]  # fmt: skip
        for read in readers:
            with pytest.raises(UserError, match=r"Too many open files; allow more open files \(ulimit -n\)$"):
                read()
    assert sorted(scan(storage).records) == [0], "no shard is dropped for that"


def test_a_manifest_has_no_more_shards_than_a_folder_of_files(tmp_path: Path) -> None:
    record = {"identity": {}, "ends": [2 * 10**6], "shard_size": 1, "classes": ["a"],
              "encoding": {"format": "png", "quality": 95}}  # fmt: skip
    (tmp_path / "dataset.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="at most 1,000,000 shards"):
        read_manifest(tmp_path)
