"""The same images in every layout give the same images, labels and domains."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prismkd.assets import asset
from prismkd.classes.lists import load_classes, names_of
from prismkd.classes.matching import ClassLabels
from prismkd.data import LabeledImages, load_domains, load_labeled_images
from prismkd.delivery.image_files import find_images
from prismkd.errors import UserError

CLASSES = ClassLabels([["tench", "n01440764"], ["goldfish", "n01443537"], ["white shark", "n01484850"]])
LABELS = (0, 0, 1, 2, 2, 2)


def values(images: LabeledImages) -> list[tuple[int, int]]:
    """(label, gray value) of each image."""
    grays = (255 * images.images[:, 0, 0, 0]).round().int().tolist()
    return list(zip(images.labels.tolist(), grays, strict=True))


EXPECTED = [(label, 40 * place) for place, label in enumerate(LABELS)]


def write_tar(path: Path, draw: Callable[..., bytes], places: range, text: Callable[[int], str] = str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for place in places:
            for suffix, data in (("png", draw(40 * place)), ("cls", text(LABELS[place]).encode())):
                member = tarfile.TarInfo(f"sub/{place:04d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("names", [("n01440764", "n01443537", "n01484850"), ("Tench", "goldfish", "White_Shark"),
                                   ("0", "1", "2")])  # fmt: skip
def test_class_folders(tmp_path: Path, write: Callable[..., Path], names: tuple[str, ...]) -> None:
    for place, label in enumerate(LABELS):
        write(tmp_path / names[label] / "deeper" / f"{place}.png", 40 * place)
    (tmp_path / "README.txt").write_text("no image")
    write(tmp_path / ".hidden" / "0.png")
    write(tmp_path / names[0] / ".ipynb_checkpoints" / "0-checkpoint.png")
    images = load_labeled_images(tmp_path, CLASSES)
    assert values(images) == EXPECTED and set(images.domains) == {"id"}


@pytest.mark.parametrize("layout", ["folders", "table"])
def test_images_of_classes_that_are_left_out_are_not_read(
    tmp_path: Path, write: Callable[..., Path], draw: Callable[..., bytes], layout: str
) -> None:
    names, source = ("great auk", "tench", "goldfish"), tmp_path
    if layout == "folders":
        for place, name in enumerate(names):
            write(tmp_path / name / "0.png", 40 * place)
    else:
        source = tmp_path / "test.parquet"
        pq.write_table(pa.table({"image": [draw(40 * place) for place in range(3)], "label": names}), source)
    classes = ClassLabels([["tench"], ["goldfish"]], left_out=["Great_Auk"])
    assert values(load_labeled_images(source, classes)) == [(0, 40), (1, 80)]


def test_pictures_that_are_not_read_are_said_to_be_left_out(
    tmp_path: Path, write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("tench", "goldfish"):
        write(tmp_path / name / "0.JFIF")
        (tmp_path / name / "1.HEIC").write_bytes(b"ftypheic")
    (tmp_path / "tench" / ".2.heic").write_bytes(b"hidden")
    assert len(load_labeled_images(tmp_path, CLASSES)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "2 pictures in" in said and "such as 1.HEIC, since .heic isn't read" in said
    find_images([str(tmp_path)])
    assert "2 pictures in" in capsys.readouterr().err


def test_domain_folders(tmp_path: Path, write: Callable[..., Path]) -> None:
    for domain, offset in (("photo", 0), ("sketch", 7)):
        for place, label in enumerate(LABELS):
            write(tmp_path / domain / ("tench", "goldfish", "white_shark")[label] / f"{place}.png", 30 * place + offset)
    images = load_domains(tmp_path, (), CLASSES, id_domain="photo")
    assert set(images.domains) == {"id", "sketch"}
    assert values(images.domain("sketch")) == [(label, 30 * place + 7) for place, label in enumerate(LABELS)]
    with pytest.raises(UserError, match=r"the domain id in .*, got photo, sketch; name"):
        load_domains(tmp_path, (), CLASSES)


def test_split_lists(tmp_path: Path, write: Callable[..., Path]) -> None:
    lines = dict[str, list[str]]()
    for domain, offset in (("real", 0), ("clipart", 7)):
        for place, label in enumerate(LABELS):
            path = f"{domain}/{('tench', 'goldfish', 'white_shark')[label]}/an image {place}.jpg.png"
            write(tmp_path / path, 30 * place + offset)
            lines.setdefault(domain, []).append(f"{path} {label + 1}")  # PACS counts from 1: folders are surer
        (tmp_path / f"{domain}_test.txt").write_text("\n".join(lines[domain]) + "\n\n")
    images = load_domains(tmp_path / "*_test.txt", (), CLASSES, id_domain="real")
    assert set(images.domains) == {"id", "clipart"}
    assert values(images.domain("clipart")) == [(label, 30 * place + 7) for place, label in enumerate(LABELS)]
    shifted = load_domains(tmp_path / "real_test.txt", (f"x={tmp_path / 'clipart_test.txt'}",), CLASSES, "real")
    assert values(shifted.domain("x")) == values(images.domain("clipart"))


def test_a_list_of_files_without_folders_goes_by_its_labels(tmp_path: Path, write: Callable[..., Path]) -> None:
    for place in range(6):
        write(tmp_path / f"{place}.png", 40 * place)
    (tmp_path / "val.txt").write_text("\n".join(f"{place}.png {label}" for place, label in enumerate(LABELS)))
    images = load_labeled_images(tmp_path / "val.txt", CLASSES)
    assert values(images) == EXPECTED and set(images.domains) == {"id"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a.png 0\nb.png 1\n", r"expected the 2 images of .*, found no .*b\.png \(1 in all\); put the images beside"),
        ("a.png 3\n", r"expected labels from 0 to 2 in .*val\.txt, got 3"),
        ("a.png\n", r"expected an image's path and its label in line 1 of .*val\.txt, .*got 'a\.png'; correct it"),
        ("a.png dog\n", r"line 1 of .*val\.txt"),
        ("\n", r"expected images in .*val\.txt, got none"),
    ],
)
def test_wrong_lists_are_one_error(tmp_path: Path, write: Callable[..., Path], text: str, error: str) -> None:
    write(tmp_path / "a.png", 40)
    (tmp_path / "val.txt").write_text(text)
    with pytest.raises(UserError, match=error):
        load_labeled_images(tmp_path / "val.txt", CLASSES)


def test_webdataset_shards_by_folder_pattern_and_braces(tmp_path: Path, draw: Callable[..., bytes]) -> None:
    write_tar(tmp_path / "shard-000000.tar", draw, range(4))
    write_tar(tmp_path / "shard-000001.tar", draw, range(4, 6))
    for source in (tmp_path, tmp_path / "shard-*.tar", tmp_path / "shard-{000000..000001}.tar"):
        assert values(load_labeled_images(source, CLASSES)) == EXPECTED
    with pytest.raises(UserError, match=r"found no .*shard-000002\.tar"):
        load_labeled_images(tmp_path / "shard-{000000..000002}.tar", CLASSES)


@pytest.mark.parametrize("last", ["9" * 9, "9" * 5000])
def test_a_range_of_files_is_no_larger_than_a_data_set(last: str) -> None:
    with pytest.raises(UserError, match="expected numbers of up to 6 digits"):
        load_labeled_images(f"shard-{{0..{last}}}.tar", CLASSES)


def test_webdataset_itself_writes_what_is_read(tmp_path: Path, draw: Callable[..., bytes]) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        for place, label in enumerate(LABELS):
            writer.write({"__key__": f"{place:04d}", "png": draw(40 * place), "cls": label})
    assert values(load_labeled_images(tmp_path / "a.tar", CLASSES)) == EXPECTED


def test_classes_of_shards_may_be_names(tmp_path: Path, draw: Callable[..., bytes]) -> None:
    write_tar(tmp_path / "a.tar", draw, range(6), ("tench", "goldfish", "white shark").__getitem__)
    assert values(load_labeled_images(tmp_path / "a.tar", CLASSES)) == EXPECTED


def test_a_truncated_shard_and_a_sample_without_a_class_are_refused(tmp_path: Path, draw: Callable[..., bytes]) -> None:
    write_tar(tmp_path / "a.tar", draw, range(6))
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:2000])
    with pytest.raises(UserError, match=r"a\.tar"):
        load_labeled_images(tmp_path, CLASSES)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member = tarfile.TarInfo("0001.png")
        member.size = len(draw())
        tar.addfile(member, io.BytesIO(draw()))
    with pytest.raises(UserError, match=r"got only one of them for 1 \(0001\)"):
        load_labeled_images(tmp_path, CLASSES)


def test_what_hugging_face_datasets_saves_is_read_and_labels_go_by_their_names(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    datasets = pytest.importorskip("datasets")
    paths = [str(write(tmp_path / "files" / f"{place}.png", 40 * place)) for place in range(6)]
    names = ["great white, white shark", "goldfish, Carassius auratus", "tench, Tinca tinca"]  # another order
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    data = datasets.Dataset.from_dict({"image": paths, "label": [2 - label for label in LABELS]}, features=features)
    data.save_to_disk(str(tmp_path / "saved"))
    data.to_parquet(str(tmp_path / "elsewhere" / "test.parquet"))
    with pytest.raises(UserError, match=r"got 6 elsewhere, such as .*; save the data set with save_to_disk"):
        load_labeled_images(tmp_path / "elsewhere" / "test.parquet", CLASSES)
    saved = datasets.load_from_disk(str(tmp_path / "saved"))
    saved.to_parquet(str(tmp_path / "parquet" / "test-00000-of-00001.parquet"))
    datasets.DatasetDict({"test": data, "train": data}).save_to_disk(str(tmp_path / "splits"))
    for source in ("saved", "parquet", "parquet/test-00000-of-00001.parquet", "splits/test"):
        assert values(load_labeled_images(tmp_path / source, CLASSES)) == EXPECTED
        numbers = [(2 - label, value) for label, value in EXPECTED]
        assert values(load_labeled_images(tmp_path / source, 3)) == numbers  # their number alone: no names are asked
    with pytest.raises(UserError, match=r"labels from 0 to 1 in .*, got 2"):
        load_labeled_images(tmp_path / "saved", 2)
    with pytest.raises(UserError, match=r"expected one split, got .* with test, train; name one"):
        load_labeled_images(tmp_path / "splits", CLASSES)


def test_parquet_with_bytes_and_domains(tmp_path: Path, draw: Callable[..., bytes]) -> None:
    table = {"image": [draw(40 * place) for place in range(6)], "label": LABELS, "domain": ["id"] * 4 + ["x"] * 2}
    pq.write_table(pa.table(table), tmp_path / "test.parquet")
    images = load_labeled_images(tmp_path / "test.parquet", CLASSES)
    assert values(images) == EXPECTED and images.domains.tolist() == table["domain"]
    pq.write_table(pa.table({**table, "label": [0, 1, 2, 3, 9, -1]}), tmp_path / "test.parquet")
    with pytest.raises(UserError, match=r"labels from 0 to 2 in .*, got -1, 3, 9"):
        load_labeled_images(tmp_path / "test.parquet", CLASSES)
    pq.write_table(pa.table({"label": LABELS}), tmp_path / "test.parquet")
    with pytest.raises(UserError, match=r"expected a column image in .*, got label"):
        load_labeled_images(tmp_path / "test.parquet", CLASSES)


def test_the_embedded_world_is_as_it_was() -> None:
    images = load_labeled_images(asset("test.parquet"), len(json.loads(asset("classes.json").read_text())))
    assert len(images) == 9089 and len(set(images.domains)) == 7
    assert images.domain("id").labels.shape == images.domain("recolored").labels.shape == (2030,)
    assert images.subset(np.arange(0, 9089, 50)).images.shape == (182, 3, 64, 64)


def test_further_sets_become_domains(tmp_path: Path, write: Callable[..., Path], draw: Callable[..., bytes]) -> None:
    write(tmp_path / "own" / "tench" / "a.png", 10, (8, 8), "L")
    write(tmp_path / "drawn" / "n01484850" / "b.png", 20, (9, 5))
    write_tar(tmp_path / "shards" / "a.tar", draw, range(2))
    shifted = (f"sketch={tmp_path / 'drawn'}", f"tars={tmp_path / 'shards'}")
    images = load_domains(tmp_path / "own", shifted, CLASSES, usual_size=8)
    assert images.domains.tolist() == ["id", "sketch", "tars", "tars"]
    assert values(images) == [(0, 10), (2, 20), (0, 0), (0, 40)]
    for wrong in (str(tmp_path), f"id={tmp_path / 'drawn'}", f"images={tmp_path / 'drawn'}"):
        with pytest.raises(UserError, match=r"expected NAME=PATH with a new name in evaluation\.shifted"):
            load_domains(tmp_path / "own", (wrong,), CLASSES, usual_size=8)


LAYOUTS = {  # class list, id domain, files, their labels
    "imagenet-v2": ("imagenet-1k", "id", ["10/a.jpeg", "2/b.jpeg", "999/c.jpeg"], [2, 10, 999]),
    "imagenet-r": ("imagenet-1k", "id", ["n01443537/art_0.jpg", "n01484850/cartoon_3.jpg"], [1, 2]),
    "imagenet-sketch": ("imagenet-1k", "id", ["n15075141/sketch_0.JPEG", "n01440764/sketch_1.JPEG"], [0, 999]),
    "pacs": ("pacs", "photo", ["photo/dog/1.jpg", "art_painting/giraffe/2.jpg", "sketch/person/3.png"], [2, 0, 6]),
    "office-home": ("office-home", "Real World", ["Art/Alarm_Clock/1.jpg", "Real World/Postit_Notes/2.jpg"], [0, 44]),
    "domainnet": ("domainnet", "real", ["real/The_Eiffel_Tower/1.jpg", "sketch/zigzag/2.jpg"], [308, 344]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layouts_of_the_known_benchmarks(layout: str, tmp_path: Path, write: Callable[..., Path]) -> None:
    source, id_domain, files, labels = LAYOUTS[layout]
    for file in files:
        write(tmp_path / file, 9)
    images = load_domains(tmp_path, (), ClassLabels(names_of(load_classes(source))), id_domain)
    assert sorted(images.labels.tolist()) == sorted(labels)
    domains = {file.split("/")[0] for file in files} if id_domain != "id" else {"id"}
    assert set(images.domains) == {"id" if domain == id_domain else domain for domain in domains}


def test_nothing_is_not_mistaken_for_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected class folders"):
        load_labeled_images(tmp_path, CLASSES)
    (tmp_path / "tench").mkdir()
    with pytest.raises(UserError, match=r"expected images in .*tench, got none"):
        load_labeled_images(tmp_path, CLASSES)
    with pytest.raises(UserError, match=r"got .*nowhere; check the path"):
        load_labeled_images(tmp_path / "nowhere", CLASSES)
