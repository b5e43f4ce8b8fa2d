"""Images are decoded a batch at a time, to one form, and what doesn't decode is named."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from prismkd.data import LabeledImages, load_labeled_images
from prismkd.data.decode import decode as decode_file
from prismkd.errors import UserError


def decode(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return decode_file(file)


def folder_of(tmp_path: Path, write: Callable[..., Path], **files: tuple) -> Path:
    for name, arguments in files.items():
        write(tmp_path / "0" / f"{name}.png", *arguments)
    return tmp_path


def test_batches_are_the_images_in_order(tmp_path: Path, write: Callable[..., Path]) -> None:
    for value in range(7):
        write(tmp_path / "0" / f"{value}.png", 10 * value)
    images = load_labeled_images(tmp_path, 1)
    sizes = [len(batch) for batch in images.batches(3)]
    assert sizes == [3, 3, 1] and len(images) == 7
    assert torch.equal(torch.cat(list(images.batches(3))), images.images)
    assert images.images.shape == (7, 3, 8, 8) and images.images.dtype == torch.float32
    assert images.images[:, 0, 0, 0].tolist() == pytest.approx([10 * value / 255 for value in range(7)])


def test_gray_images_have_one_channel_and_one_color_image_makes_all_three(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    folder_of(tmp_path, write, a=(50, (8, 8), "L"), b=(60, (8, 8), "L"))
    assert load_labeled_images(tmp_path, 1).images.shape[1] == 1
    write(tmp_path / "0" / "c.png", 70, (8, 8), "RGBA")
    assert load_labeled_images(tmp_path, 1).images.shape[1] == 3


def test_images_of_one_size_stay_as_they_are_and_others_are_cut_to_the_usual_size(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    folder_of(tmp_path, write, a=(0, (12, 10)))
    assert load_labeled_images(tmp_path, 1, usual_size=6).images.shape[2:] == (10, 12)
    assert load_labeled_images(tmp_path, 1, image_size=4, usual_size=6).images.shape[2:] == (4, 4)
    write(tmp_path / "0" / "b.png", 0, (30, 5))
    assert load_labeled_images(tmp_path, 1, usual_size=6).images.shape[2:] == (6, 6)
    with pytest.raises(UserError, match=r"one size .* got \[\(12, 10\), \(30, 5\)\]; set evaluation.image_size"):
        load_labeled_images(tmp_path, 1)


def test_the_middle_is_cut_out(tmp_path: Path) -> None:
    pixels = np.zeros((8, 24), np.uint8)
    pixels[:, 8:16] = 200
    (tmp_path / "0").mkdir()
    Image.fromarray(pixels).save(tmp_path / "0" / "wide.png")
    Image.fromarray(pixels.T).save(tmp_path / "0" / "tall.png")
    images = load_labeled_images(tmp_path, 1, image_size=8).images
    assert torch.allclose(images, torch.full_like(images, 200 / 255))


def test_what_a_file_means(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.putpixel((1, 2), (255, 0, 0, 255))
    clear.save(tmp_path / "clear.png")
    pixels = decode(tmp_path / "clear.png")
    assert pixels.shape == (3, 4, 4) and pixels.dtype == np.float32
    assert pixels[:, 0, 0].tolist() == [1, 1, 1] and pixels[:, 2, 1].tolist() == [1, 0, 0]

    Image.fromarray(np.full((4, 4), 32768, np.uint16)).save(tmp_path / "deep.png")
    np.testing.assert_allclose(decode(tmp_path / "deep.png"), np.full((1, 4, 4), 32768 / 65535), rtol=1e-6)

    turned, exif = Image.new("L", (4, 2)), Image.Exif()
    turned.putpixel((0, 0), 255)
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned.save(tmp_path / "turned.png", exif=exif)
    upright = decode(tmp_path / "turned.png")
    assert upright.shape == (1, 4, 2) and upright[0, 0, 1] == 1


@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(value: int, tmp_path: Path) -> None:
    picture, exif = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)), Image.Exif()
    exif[0x0112] = value
    picture.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored), np.float32)[None] / 255
    np.testing.assert_array_equal(decode(tmp_path / "turned.png"), expected)


def test_sizes_are_those_of_upright_images(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("L", (4, 8)).save(tmp_path / "0" / "upright.png")
    Image.new("L", (8, 4)).save(tmp_path / "0" / "turned.png", exif=exif)
    assert load_labeled_images(tmp_path, 1).images.shape == (2, 1, 8, 4)


def test_a_damaged_note_about_the_camera_is_no_reason_to_refuse_a_photo(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4), "white").save(tmp_path / "photo.jpg", exif=b"Exif\0\0no TIFF header")
    assert decode(tmp_path / "photo.jpg").shape == (3, 4, 8)


def test_gray_in_16_bits_stays_gray_beside_8_bits_and_in_range_when_resized(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    edge = np.zeros((12, 16), np.uint16)
    edge[:, 8:] = 65535
    Image.fromarray(edge).save(tmp_path / "0" / "deep.png")
    Image.fromarray((edge // 257).astype(np.uint8)).save(tmp_path / "0" / "shallow.png")
    images = load_labeled_images(tmp_path, 1, image_size=5).images
    assert images.shape == (2, 1, 5, 5) and images.min() == 0 and images.max() == 1
    assert (images[0] - images[1]).abs().max() <= 1 / 255


def test_an_image_of_unknown_range_is_named(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "0" / "float.tif")
    with pytest.raises(UserError, match=r"float\.tif: an image of mode F, whose range isn't known"):
        load_labeled_images(tmp_path, 1)


def test_all_truncated_images_are_counted_and_the_first_ones_named(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "0").mkdir()
    for number in range(12):
        path = tmp_path / "0" / f"{number:02d}.jpg"
        Image.fromarray(random.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)
        if number % 2:
            path.write_bytes(path.read_bytes()[:-200])  # the header is whole, the pixels are not
    images = load_labeled_images(tmp_path, 1)
    with pytest.raises(UserError, match="got 6 of 12 that do not") as caught:
        images.check()
    message = str(caught.value)
    assert all(f"{number:02d}.jpg" in message for number in (1, 3, 5, 7, 9)) and "11.jpg" not in message
    assert "and 1 more" in message and "\n" not in message


def test_too_many_open_files_are_no_damaged_images(
    tmp_path: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = load_labeled_images(folder_of(tmp_path, write, a=(0,), b=(10,)), 1)

    def no_more(self: Path, *arguments: object) -> object:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(self))

    monkeypatch.setattr(Path, "open", no_more)
    with pytest.raises(
        UserError, match=r"expected to read the 2 images .*a\.png: Too many open files.*ulimit -n"
    ) as said:
        list(images.batches())
    assert "decode" not in str(said.value) and "\n" not in str(said.value)


def test_a_file_that_is_gone_is_said_to_be(tmp_path: Path, write: Callable[..., Path]) -> None:
    images = load_labeled_images(folder_of(tmp_path, write, a=(0,), b=(10,)), 1)
    (tmp_path / "0" / "b.png").unlink()
    with pytest.raises(UserError, match=r"b\.png: No such file or directory\); check the files"):
        images.check()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_whole_picture_is_upright_opaque_and_in_8_bits(mode: str, tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (9, 4), 77).save(tmp_path / "0" / "a.png", exif=exif)
    Image.new("RGBA", (5, 7), (0, 0, 0, 0)).save(tmp_path / "0" / "b.png")
    Image.fromarray(np.full((6, 3), 257 * 130, np.uint16)).save(tmp_path / "0" / "c.png")
    pictures = [image.picture(mode) for image in load_labeled_images(tmp_path, 1, usual_size=4).encoded]
    assert [(picture.mode, picture.size) for picture in pictures] == [(mode, (4, 9)), (mode, (5, 7)), (mode, (3, 6))]
    assert [int(np.asarray(picture).flat[0]) for picture in pictures] == [77, 255, 130]


def test_what_is_no_image_is_called_so(tmp_path: Path, write: Callable[..., Path]) -> None:
    write(tmp_path / "0" / "good.png")
    (tmp_path / "0" / "bad.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"bad\.png: not an image\); replace or remove them"):
        load_labeled_images(tmp_path, 1)


def test_files_that_are_no_images_are_found_by_their_headers(tmp_path: Path, write: Callable[..., Path]) -> None:
    folder_of(tmp_path, write, whole=(0,))
    (tmp_path / "0" / "page.png").write_text("<html>not found</html>")
    (tmp_path / "0" / "empty.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"got 2 of 3 that do not .*empty\.png.*page\.png"):
        load_labeled_images(tmp_path, 1)


def test_a_fingerprint_is_of_bytes_labels_and_order_but_not_of_places(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    for folder in ("here", "there"):
        for label in (0, 1):
            write(tmp_path / folder / str(label) / "a.png", 10 * label)
    here, there = (load_labeled_images(tmp_path / folder, 2) for folder in ("here", "there"))
    assert here.fingerprint() == there.fingerprint()
    assert here.subset(np.array([1, 0])).fingerprint() != here.fingerprint()
    assert here.subset(np.array([0])).fingerprint() != here.fingerprint()
    relabeled = LabeledImages(here.encoded, 1 - here.labels, here.domains, here.form, here.source)
    assert relabeled.fingerprint() != here.fingerprint()
    write(tmp_path / "there" / "1" / "a.png", 11)
    assert here.fingerprint() != load_labeled_images(tmp_path / "there", 2).fingerprint()


def test_a_small_file_of_very_many_pixels_is_refused_before_it_is_decoded() -> None:
    file = io.BytesIO()
    Image.new("1", (8192, 8193)).save(file, "PNG")
    with pytest.raises(ValueError, match="8192 x 8193 pixels, more than 67,108,864; shrink it"):
        decode_file(file, "RGB")
