"""Packing and unpacking are inverse: for any images, labels and metadata, in every format that loses nothing."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prismkd.shards import Encoding, Sample
from prismkd.shards.samples import decode, pack, walk

LOSSLESS = [Encoding("png"), Encoding("webp", 100)]
ADDED = {"index", "sha256", "mode"}  # what packing says of a sample beside its own metadata
SIDES = st.integers(1, 12)
IMAGES = st.one_of(
    st.tuples(SIDES, SIDES).flatmap(lambda shape: arrays(np.uint8, shape)),
    st.tuples(SIDES, SIDES, st.just(3)).flatmap(lambda shape: arrays(np.uint8, shape)),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
METADATA = st.dictionaries(TEXTS.filter(lambda key: key not in ADDED), VALUES, max_size=4)


@st.composite
def sample_lists(draw: st.DrawFn) -> list[Sample]:
    indices = draw(st.lists(st.integers(0, 10**9 - 1), max_size=4, unique=True))
    return [Sample(index, draw(IMAGES), draw(st.integers(0, 10**6)), draw(METADATA)) for index in indices]


def packed(samples: list[Any], encoding: Encoding) -> bytes:
    file = io.BytesIO()
    assert pack(samples, file, encoding) == len(samples)
    return file.getvalue()


@pytest.mark.parametrize("encoding", LOSSLESS, ids=lambda encoding: encoding.format)
@given(samples=sample_lists())
def test_what_is_packed_comes_out_again(encoding: Encoding, samples: list[Sample]) -> None:
    tar = packed(samples, encoding)
    encoded = [sample for sample, _ in walk(io.BytesIO(tar), "the tar")]
    for before, stored in zip(samples, encoded, strict=True):
        after = decode(stored)
        assert (after.index, after.label) == (before.index, before.label)
        assert after.image.dtype == np.uint8
        np.testing.assert_array_equal(after.image, before.image)
        assert {key: value for key, value in after.metadata.items() if key not in ADDED} == before.metadata
        assert after.metadata["sha256"] == hashlib.sha256(stored.contents).hexdigest()
    assert packed(encoded, Encoding("jpeg", 1)) == tar, "what is encoded already keeps its bytes"
    assert packed(samples, encoding) == tar


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 3)])
@pytest.mark.parametrize("encoding", [Encoding("webp", 90), Encoding("jpeg", 95)], ids=lambda encoding: encoding.format)
def test_lossy_formats_keep_a_smooth_image_nearly(encoding: Encoding, shape: tuple[int, ...]) -> None:
    ramp = np.linspace(0, 255, 256).reshape(16, 16).astype(np.uint8)
    image = ramp if len(shape) == 2 else np.stack([ramp, ramp.T, 255 - ramp], axis=2)
    ((stored, _),) = walk(io.BytesIO(packed([Sample(0, image, 1, {})], encoding)), "the tar")
    found = decode(stored).image
    assert found.shape == shape and np.abs(found.astype(int) - image).max() <= 60
