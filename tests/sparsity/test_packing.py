from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from nmsim.errors import InputError
from nmsim.sparsity.packing import mask_digest, pack_mask, unpack_mask

MASKS = arrays(bool, array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=19))


@given(MASKS)
def test_unpacking_undoes_packing(mask: np.ndarray) -> None:
    packed = pack_mask(mask)
    assert packed.dtype == np.uint8
    assert packed.shape == (*mask.shape[:-1], -(-mask.shape[-1] // 8))
    np.testing.assert_array_equal(unpack_mask(packed, mask.shape), mask)


@given(MASKS)
def test_element_i_of_a_row_is_bit_i_modulo_8_of_byte_i_div_8(mask: np.ndarray) -> None:
    packed = pack_mask(mask)
    for index in np.argwhere(mask):
        *row, i = index.tolist()
        assert packed[(*row, i // 8)] >> (i % 8) & 1
    assert sum(int(byte).bit_count() for byte in packed.ravel()) == np.count_nonzero(mask)


def test_each_row_is_padded_to_a_byte() -> None:
    mask = np.array([[True] + [False] * 9, [False] * 9 + [True]])
    assert pack_mask(mask).tolist() == [[1, 0], [0, 2]]


@pytest.mark.parametrize(
    ("packed", "shape"),
    [
        (np.zeros((2, 1), np.uint8), (2, 9)),
        (np.zeros((2, 2), np.uint8), (2, 8)),
        (np.zeros((3, 1), np.uint8), (2, 8)),
        (np.zeros(2, np.uint8), (2, 8)),
        (np.zeros((2, 1), np.int8), (2, 8)),
    ],
)
def test_bytes_that_are_not_those_of_the_shape_are_refused(packed: np.ndarray, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="a packed mask of shape"):
        unpack_mask(packed, shape)


@pytest.mark.parametrize("bit", range(5, 8))
def test_a_set_padding_bit_is_refused(bit: int) -> None:
    packed = np.array([[0b11111], [1 << bit]], dtype=np.uint8)
    with pytest.raises(InputError, match="a padding bit"):
        unpack_mask(packed, (2, 5))


@pytest.mark.parametrize("shape", [(), (2, -1)])
def test_a_shape_that_no_mask_has_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="the shape of a mask"):
        unpack_mask(np.zeros(1, np.uint8), shape)


def test_the_digest_is_sha256_of_the_shape_and_the_packed_bytes() -> None:
    mask = np.array([[True, False, True], [False, True, True]])
    assert mask_digest(mask) == hashlib.sha256(b"[2,3]" + bytes([0b101, 0b110])).hexdigest()


def test_masks_of_equal_bytes_and_other_shape_have_other_digests() -> None:
    zeros = {mask_digest(np.zeros(shape, dtype=bool)) for shape in [(2, 8), (8, 2), (16,), (1, 16), (2, 7), (2, 1, 8)]}
    assert len(zeros) == 6


@given(arrays(bool, (3, 11)), arrays(bool, (3, 11)))
def test_digests_agree_exactly_where_masks_do(a: np.ndarray, b: np.ndarray) -> None:
    assert (mask_digest(a) == mask_digest(b)) == np.array_equal(a, b)


def test_the_digest_does_not_depend_on_how_the_mask_lies_in_memory() -> None:
    mask = np.random.default_rng(0).random((6, 13)) < 0.5
    assert mask_digest(np.asfortranarray(mask)) == mask_digest(mask)
