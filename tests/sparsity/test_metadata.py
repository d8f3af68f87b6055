from __future__ import annotations

from math import ceil, comb, log2
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.sparsity.mask import apply, nm_mask
from nmsim.sparsity.metadata import Compressed, compressed_bytes, decode, encode, index_bits
from nmsim.sparsity.pattern import NMPattern

TWO_OF_FOUR = NMPattern(2, 4)


@st.composite
def legal_matrices(draw: st.DrawFn) -> tuple[NMPattern, np.ndarray]:
    """A pattern and a matrix that obeys it, often with fewer than N non-zeros in a group and often with a tail."""
    m = draw(st.integers(1, 64))
    pattern = NMPattern(draw(st.integers(1, m)), m)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dense = rng.integers(-3, 4, (draw(st.integers(1, 4)), draw(st.integers(0, 150)))).astype(np.float32)
    return pattern, apply(dense, nm_mask(dense, pattern))


@given(legal_matrices())
def test_decoding_undoes_encoding_for_any_pattern(case: tuple[NMPattern, np.ndarray]) -> None:
    pattern, dense = case
    compressed = encode(dense, pattern)
    kept = pattern.compressed_k(dense.shape[1])
    assert compressed.values.shape == (dense.shape[0], kept)
    assert compressed.metadata.shape == (dense.shape[0], ceil(kept * index_bits(pattern) / 8))
    assert decode(compressed).dtype == dense.dtype
    np.testing.assert_array_equal(decode(compressed), dense)


def test_leading_axes_are_rows_and_a_vector_is_one_row() -> None:
    dense = np.arange(24.0).reshape(2, 1, 12) * nm_mask(np.arange(24.0).reshape(2, 1, 12), TWO_OF_FOUR)
    np.testing.assert_array_equal(decode(encode(dense, TWO_OF_FOUR)), dense)
    np.testing.assert_array_equal(decode(encode(dense[0, 0], TWO_OF_FOUR)), dense[0, 0])


def test_an_index_is_the_position_in_its_group_lowest_bits_first() -> None:
    compressed = encode(np.array([[0, 5, 0, 6, 7, 8, 0, 0]]), TWO_OF_FOUR)
    assert compressed.values.tolist() == [[5, 6, 7, 8]]
    assert compressed.metadata.tolist() == [[1 | 3 << 2 | 0 << 4 | 1 << 6]]


def test_three_bit_indices_run_across_bytes() -> None:
    dense = np.zeros((1, 16))
    dense[0, [1, 6, 8 + 5, 8 + 7]] = [1, 2, 3, 4]
    stream = 1 | 6 << 3 | 5 << 6 | 7 << 9
    assert encode(dense, NMPattern(2, 8)).metadata.tolist() == [[stream & 255, stream >> 8]]


def test_a_group_with_fewer_non_zeros_borrows_the_last_positions() -> None:
    positions = {(0,): (0, 2), (1,): (1, 2), (2,): (2, 3), (3,): (2, 3), (): (2, 3)}
    for nonzero, stored in positions.items():
        dense = np.zeros(4)
        dense[list(nonzero)] = 1
        assert encode(dense, TWO_OF_FOUR).metadata.tolist() == [stored[0] | stored[1] << 2]


def test_metadata_costs_what_the_vectors_say(vectors: dict[str, Any]) -> None:
    elements = 1 << 20
    for row in vectors["metadata_bits"]["rows"]:
        pattern, bits = NMPattern.parse(row["pattern"]), row["value_bits"]
        assert index_bits(pattern) == row["index_bits_per_kept"] == ceil(log2(pattern.m))
        assert compressed_bytes(elements, bits, pattern) == row["compressed_over_dense"] * elements * bits / 8
        assert index_bits(pattern) * pattern.n >= row["combinatorial_min_bits_per_group"] == ceil(log2(comb(pattern.m, pattern.n)))


@given(legal_matrices())
def test_compressed_bytes_is_the_size_of_what_encode_stores(case: tuple[NMPattern, np.ndarray]) -> None:
    pattern, dense = case
    row = encode(dense[:1], pattern)
    assert compressed_bytes(dense.shape[1], 32, pattern) == row.values.nbytes + row.metadata.nbytes


def test_a_group_with_too_many_non_zeros_is_refused_with_its_place() -> None:
    dense = np.zeros((3, 12))
    dense[1, 4:7] = 1
    with pytest.raises(InputError, match=r"1 of 9 groups hold more than 2 non-zeros of 4, the first at \[1, 4\]; apply the mask first"):
        encode(dense, TWO_OF_FOUR)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 5}, "stores 4 values"),
        ({"metadata": np.zeros((1, 2), np.uint8)}, r"uint8 metadata of shape \[1, 1\]"),
        ({"metadata": np.zeros((1, 1), np.int8)}, "uint8 metadata"),
        ({"metadata": np.array([[0b0000]], np.uint8)}, "not ascending"),
        ({"metadata": np.array([[0b0001]], np.uint8)}, "not ascending"),
        ({"metadata": np.array([[0b10100]], np.uint8)}, "padding bit"),
        ({"k": 3}, "padding of the last group"),
    ],
)
def test_metadata_that_lies_is_refused(change: dict[str, Any], message: str) -> None:
    honest: dict[str, Any] = {"pattern": TWO_OF_FOUR, "k": 4, "values": np.array([[1, 2]]), "metadata": np.array([[0 | 3 << 2]], np.uint8)}
    assert decode(Compressed(**honest)).tolist() == [[1, 0, 0, 2]]
    with pytest.raises(InputError, match=message):
        decode(Compressed(**{**honest, **change}))


def test_a_position_beyond_the_group_is_refused() -> None:
    with pytest.raises(InputError, match="below 3"):
        decode(Compressed(NMPattern(1, 3), 3, np.array([[1]]), np.array([[3]], np.uint8)))
