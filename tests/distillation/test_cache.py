"""The cache: what it holds, that it is said beforehand, appears whole or not at all, and is of these images alone."""

import os
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from prismkd.classifiers import Classifier
from prismkd.data import load_labeled_images
from prismkd.distillation import cache as cache_module
from prismkd.distillation import distill, open_images
from prismkd.distillation.cache import CachedImages, CachePlace, remove_caches
from prismkd.distillation.image_files import open_files
from prismkd.distillation.tar_images import TarImages
from prismkd.errors import UserError
from prismkd.shards import PNG, Encoding, Manifest, Sample, claim, read_samples, write_shard
from tests.distillation.test_world import RECIPE, SMALL, Mean
from tests.files.killing import small_files

SIZES = [(64, 64), (64, 64), (48, 80)]  # height, width


def write(folder: Path, encoding: Encoding = PNG, seed: int = 0, plan: str = "plan") -> Path:
    """Three shards of nine images in three sizes."""
    rng = np.random.default_rng(seed)
    for shard in range(3):
        samples = [Sample(9 * shard + i, rng.integers(0, 256, (*SIZES[i % 3], 3), np.uint8), i % 2, {})
                   for i in range(9)]  # fmt: skip
        write_shard(folder, shard, samples, plan, encoding)
    return folder


def place(folder: Path, **changes: object) -> CachePlace:
    return replace(CachePlace(folder, 1e9), **changes)  # type: ignore[arg-type]


def squares(folder: Path, side: int) -> torch.Tensor:
    """Each image's middle at this side, by Pillow alone."""
    images = [Image.fromarray(sample.image) for sample in read_samples(folder)]
    cut = [np.asarray(ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)) for image in images]
    return torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("encoding", [PNG, Encoding("jpeg", 90)])
def test_images_of_any_size_are_decoded_and_resized_once(
    tmp_path: Path, encoding: Encoding, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "images", encoding=encoding)
    images, labels = open_images(tmp_path / "images", 1e9, 0, 32, place(tmp_path))
    assert isinstance(images, CachedImages) and images.image_shape == (3, 32, 32)
    (path,) = tmp_path.glob("cache-32-*.bin")
    assert path.stat().st_size == 27 * 3 * 32 * 32 + 27 * 8 + 32
    assert f"caching 27 images at 32 px: 0.1 MB in {tmp_path}, about 1 s" in capsys.readouterr().err
    batches = list(torch.randint(27, (5, 8), generator=torch.Generator().manual_seed(1)))
    for batch, found in zip(batches, images.batches(batches), strict=True):
        assert torch.equal(found, squares(tmp_path / "images", 32)[batch])
    assert labels.tolist() == [sample.label for sample in read_samples(tmp_path / "images")]
    monkeypatch.setattr(cache_module, "_build", None)  # a second call would fail if it decoded anything
    again, same = open_images(tmp_path / "images", 1e9, 0, 32, place(tmp_path))
    assert torch.equal(next(again.batches([torch.arange(27)])), next(images.batches([torch.arange(27)])))
    assert torch.equal(labels, same)


def test_cache_and_tars_give_the_same_batches(tmp_path: Path) -> None:
    write(tmp_path / "images")
    cached, _ = open_images(tmp_path / "images", 0, 0, 24, place(tmp_path))
    tars, _ = open_images(tmp_path / "images", 0, 0, 24, place(tmp_path, max_bytes=100))
    assert isinstance(cached, CachedImages) and isinstance(tars, TarImages)
    batches = [torch.tensor([3, 26, 0, 11])]
    assert torch.equal(next(cached.batches(batches)), next(tars.batches(batches)))


def test_images_of_the_wanted_size_are_kept_in_memory(tmp_path: Path) -> None:
    write_shard(tmp_path / "images", 0, [Sample(0, np.zeros((32, 32, 3), np.uint8), 0, {})], "plan")
    images, _ = open_images(tmp_path / "images", 1e9, 0, 32, place(tmp_path))
    assert not isinstance(images, CachedImages) and not list(tmp_path.glob("cache-*"))


def test_other_images_and_another_side_make_another_cache(tmp_path: Path) -> None:
    write(tmp_path / "first")
    write(tmp_path / "second", seed=1)
    for name, side in (("first", 32), ("second", 32), ("first", 24)):
        images, _ = open_images(tmp_path / name, 0, 0, side, place(tmp_path))
        assert torch.equal(next(images.batches([torch.arange(27)])), squares(tmp_path / name, side))
    assert len(list(tmp_path.glob("cache-*.bin"))) == 3
    write_shard(tmp_path / "first", 3, [Sample(27, np.zeros((64, 64, 3), np.uint8), 1, {})], "plan")
    images, labels = open_images(tmp_path / "first", 0, 0, 24, place(tmp_path, replaces=True))
    assert len(images) == len(labels) == 28 and len(list(tmp_path.glob("cache-*.bin"))) == 1


def test_a_cut_off_cache_is_built_again(tmp_path: Path) -> None:
    write(tmp_path / "images")
    open_images(tmp_path / "images", 0, 0, 32, place(tmp_path))
    (path,) = tmp_path.glob("cache-*.bin")
    os.truncate(path, 1000)
    images, _ = open_images(tmp_path / "images", 0, 0, 32, place(tmp_path))
    assert torch.equal(next(images.batches([torch.arange(27)])), squares(tmp_path / "images", 32))


def test_an_interrupted_building_leaves_nothing_that_could_be_taken_for_a_cache(tmp_path: Path) -> None:
    write(tmp_path / "images")

    class Interrupted:
        def __enter__(self) -> object:
            return self

        def __exit__(self, *_: object) -> None: ...

        def __call__(self, count: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_images(tmp_path / "images", 0, 0, 32, place(tmp_path, track=lambda *_: Interrupted()))
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_no_room_is_one_line_before_anything_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "images")
    usage = type("Usage", (), {"free": 50_000})
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(
        UserError, match=r"expected 0\.1 MB in .* for 27 decoded images, got 0\.1 MB; free some, or set"
    ):
        open_images(tmp_path / "images", 0, 0, 32, place(tmp_path))
    assert not list(tmp_path.glob("cache-*"))


def test_a_disk_that_fills_meanwhile_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "images")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))  # a file of 83 kB fails as on a full disk
    try:
        with pytest.raises(
            UserError, match=r"expected room for .*cache-32-.*\.bin, got: File too large; allow larger files"
        ):
            open_images(tmp_path / "images", 0, 0, 32, place(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_only_caches_are_removed(tmp_path: Path) -> None:
    names = ["cache-32-0123456789ab.bin", "cache-mine.bin", "cache-32-0123456789ab.bin.txt", "notes"]
    for name in names:
        (tmp_path / name).write_text("")
    remove_caches(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def draw(path: Path, size: tuple[int, int], color: object = 0, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)  # type: ignore[arg-type]


def test_real_images_of_any_size_and_color_become_squares_of_one_kind(tmp_path: Path) -> None:
    draw(tmp_path / "files" / "0" / "a.png", (90, 30), (255, 0, 0))
    draw(tmp_path / "files" / "0" / "b.png", (7, 9), 128, "L")  # smaller than a student's images
    draw(tmp_path / "files" / "1" / "c.png", (64, 64), (0, 0, 0, 0), "RGBA")
    files = load_labeled_images(tmp_path / "files", 2, usual_size=32)
    images, labels = open_files(files, 32, "RGB", place(tmp_path))
    pixels = next(images.batches([torch.arange(3)]))
    assert pixels.shape == (3, 3, 32, 32) and labels.tolist() == [0, 0, 1]
    assert (pixels[0] == torch.tensor([255, 0, 0]).view(3, 1, 1)).all()
    assert (pixels[1] == 128).all() and (pixels[2] == 255).all()  # what is transparent lies on white
    gray, _ = open_files(files, 16, "L", place(tmp_path))
    assert gray.image_shape == (1, 16, 16)
    with pytest.raises(
        UserError, match=r"expected real images of up to 1e-06 GB at 32 px, which is distillation\.cache"
    ):
        open_files(files, 32, "RGB", place(tmp_path, max_bytes=1000))


def test_a_picture_that_was_exchanged_for_one_of_the_same_size_is_decoded_anew(tmp_path: Path) -> None:
    path = tmp_path / "files" / "0" / "a.bmp"
    values, sizes = list[int](), set[int]()
    for value in (255, 0):
        draw(path, (32, 32), (value, value, value))
        sizes.add(path.stat().st_size)
        images, _ = open_files(load_labeled_images(tmp_path / "files", 1), 32, "RGB", place(tmp_path))
        values.append(int(next(images.batches([torch.arange(1)])).max()))
    assert values == [255, 0] and len(sizes) == 1


def test_real_images_that_do_not_decode_are_named_before_the_training(tmp_path: Path) -> None:
    draw(tmp_path / "files" / "0" / "good.png", (40, 40))
    for name in ("bad", "worse"):
        path = tmp_path / "files" / "1" / f"{name}.png"
        draw(path, (40, 40), (9, 99, 199))
        path.write_bytes(path.read_bytes()[:60])
    files = load_labeled_images(tmp_path / "files", 2)
    with pytest.raises(UserError, match=r"got 2 of 3 that do not \(.*bad\.png: .*worse\.png: .*\); replace"):
        open_files(files, 32, "RGB", place(tmp_path))
    assert not list(tmp_path.glob("cache-*"))


@pytest.mark.parametrize("keeps", [False, True])
def test_a_students_cache_lies_beside_its_checkpoint_and_goes_with_the_training(tmp_path: Path, keeps: bool) -> None:
    manifest = Manifest({}, (27,), 9, ("a", "b", "c", "d"))
    folder = write(tmp_path / "images", plan=manifest.plan_hash)
    claim(folder, manifest)
    teacher = Classifier(Mean(), SMALL).eval().requires_grad_(False)
    found = list[int]()
    distill(teacher, folder, student=Mean(), config=replace(RECIPE, keep_cache=keeps), checkpoint=tmp_path / "c.pt",
            progress=lambda _: found.append(len(list(tmp_path.glob("cache-32-*.bin")))))  # fmt: skip
    assert found == [1, 1]
    assert len(list(tmp_path.glob("cache-*.bin"))) == keeps


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "images")
    with small_files(10_000), pytest.raises(UserError, match=r"expected room for .*cache-32-.*, got: File too large"):
        open_images(tmp_path / "images", 0, 0, 32, place(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    assert len(open_images(tmp_path / "images", 0, 0, 32, place(tmp_path))[0]) == 27


def test_no_cache_is_deleted_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "cache-32-0123456789ab.bin").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    (tmp_path / "run" / "seed-0").symlink_to(tmp_path / "own")
    with pytest.raises(UserError, match="expected no link at"):
        remove_caches(tmp_path / "run" / "seed-0")
    assert (tmp_path / "own" / "cache-32-0123456789ab.bin").read_text() == "mine"
