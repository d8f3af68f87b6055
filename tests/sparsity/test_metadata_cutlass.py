"""The CUTLASS 2:4 layout against PyTorch's own conversion, bit for bit, and against the facts it is derived from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass,
    sparse_semi_structured_to_dense_cutlass,
)

from nmsim.errors import InputError
from nmsim.sparsity.mask import apply, nm_mask
from nmsim.sparsity.metadata import cutlass_compress, cutlass_decompress
from nmsim.sparsity.pattern import NMPattern

TORCH_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.int8}
SHAPES = [
    *(("fp16", shape) for shape in [(32, 32), (64, 96), (128, 256), (96, 32)]),
    *(("bf16", shape) for shape in [(32, 64), (64, 160)]),
    *(("int8", shape) for shape in [(16, 64), (48, 128), (128, 256), (32, 192)]),
]


def two_of_four(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Small integers, exact in every type, a third of them zero: many groups have fewer than two non-zeros."""
    dense = np.random.default_rng(seed).integers(-1, 2, shape) * np.random.default_rng(seed + 1).integers(1, 100, shape)
    return apply(dense, nm_mask(dense, NMPattern(2, 4)))


@pytest.mark.parametrize(("dtype", "shape"), SHAPES)
@pytest.mark.parametrize("seed", [0, 10])
def test_values_and_metadata_equal_those_of_pytorch_bit_for_bit(dtype: str, shape: tuple[int, int], seed: int) -> None:
    dense = two_of_four(shape, seed)
    values, words = cutlass_compress(dense, dtype)
    expected_values, expected_words = sparse_semi_structured_from_dense_cutlass(torch.from_numpy(dense).to(TORCH_TYPES[dtype]))
    np.testing.assert_array_equal(values, expected_values.to(torch.int64).numpy())
    assert words.dtype == expected_words.numpy().dtype
    np.testing.assert_array_equal(words, expected_words.numpy())


@pytest.mark.parametrize(("dtype", "shape"), SHAPES)
def test_pytorch_reads_our_metadata_and_we_read_pytorchs(dtype: str, shape: tuple[int, int]) -> None:
    dense = two_of_four(shape, 20)
    values, words = cutlass_compress(dense, dtype)
    stored = torch.from_numpy(values).to(TORCH_TYPES[dtype])
    np.testing.assert_array_equal(sparse_semi_structured_to_dense_cutlass(stored, torch.from_numpy(words)).to(torch.int64).numpy(), dense)
    np.testing.assert_array_equal(cutlass_decompress(values, words), dense)


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_every_group_of_four_is_encoded_as_pytorch_does(dtype: str) -> None:
    legal = [bits for bits in range(16) if bits.bit_count() <= 2]
    rng = np.random.default_rng(3)
    groups = rng.choice(legal, (32, 64))
    assert set(groups.ravel()) == set(legal)
    dense = ((groups[..., None] >> np.arange(4)) & 1).reshape(32, 256)
    _, expected = sparse_semi_structured_from_dense_cutlass(torch.from_numpy(dense).to(TORCH_TYPES[dtype]))
    np.testing.assert_array_equal(cutlass_compress(dense, dtype)[1], expected.numpy())


def test_the_first_128_bits_hold_the_first_32_columns_of_rows_0_8_16_24() -> None:
    """As PyTorch describes the layout: two 16-bit words a row, so four rows fill the first ldmatrix row."""
    dense = two_of_four((64, 128), 30)
    _, words = cutlass_compress(dense, "fp16")
    others = dense.copy()
    others[[0, 8, 16, 24], :32] = 0
    _, changed = cutlass_compress(others, "fp16")
    assert (words.ravel()[8:] == changed.ravel()[8:]).all()
    assert (words.ravel()[:8] != changed.ravel()[:8]).any()


def test_negative_zero_is_a_zero_and_a_float_value_is_kept_to_the_bit() -> None:
    dense = np.zeros((32, 32), dtype=np.float16)
    dense[0, :4] = [-0.0, 0.1, -0.0, -65504.0]
    values, words = cutlass_compress(dense, "fp16")
    expected_values, expected_words = sparse_semi_structured_from_dense_cutlass(torch.from_numpy(dense))
    np.testing.assert_array_equal(values.view(np.uint16)[0, :2], expected_values.view(torch.uint16).numpy()[0, :2])
    np.testing.assert_array_equal(words, expected_words.numpy())


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("fp16", (16, 64)), ("fp16", (32, 48)), ("int8", (8, 64)), ("int8", (16, 96)), ("bf16", (32,)), ("bf16", (1, 32, 32))],
)
def test_shapes_that_the_layout_cannot_hold_are_refused(dtype: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=f"a {dtype} operand has rows a multiple of"):
        cutlass_compress(np.zeros(shape), dtype)


def test_other_types_are_refused() -> None:
    with pytest.raises(InputError, match=r"dtype: the CUTLASS 2:4 layout is known for fp16, bf16 and int8, got 'tf32'"):
        cutlass_compress(np.zeros((32, 64)), "tf32")


def test_values_and_words_that_do_not_belong_together_are_refused() -> None:
    values, words = cutlass_compress(two_of_four((32, 64), 40), "fp16")
    for bad_values, bad_words in [(values[:, :16], words), (values[:16], words), (values, words[:, :2]), (values, words.astype(np.int32))]:
        with pytest.raises(InputError):
            cutlass_decompress(bad_values, bad_words)
    with pytest.raises(InputError, match="int16 or int32"):
        cutlass_decompress(values, words.astype(np.int64))
    with pytest.raises(InputError, match="not ascending"):
        cutlass_decompress(values, np.zeros_like(words))
