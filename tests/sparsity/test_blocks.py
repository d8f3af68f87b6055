from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.sparsity.blocks import join_blocks, split_blocks


def test_a_block_is_a_window_of_the_operand_not_consecutive_elements() -> None:
    weights = np.arange(64).reshape(8, 8)
    blocks = split_blocks(weights, 4)
    assert [block[0, 0] for block in blocks] == [0, 4, 32, 36]
    np.testing.assert_array_equal(blocks[1], weights[:4, 4:])


def test_the_blocks_of_a_convolution_lie_inside_one_tap() -> None:
    weights = np.random.default_rng(0).standard_normal((4, 2, 3, 4))
    blocks = split_blocks(weights, 4)
    np.testing.assert_array_equal(blocks, weights.transpose(1, 2, 0, 3).reshape(6, 4, 4))


@given(st.tuples(*[st.integers(0, 9)] * 3), st.integers(1, 5), st.permutations(range(3)))
def test_joining_undoes_splitting(shape: tuple[int, ...], m: int, order: list[int]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape) + 1
    axes = (order[0], order[1] - 3)
    blocks = split_blocks(array, m, axes)
    assert blocks.shape == (shape[order[2]] * -(-shape[order[0]] // m) * -(-shape[order[1]] // m), m, m)
    np.testing.assert_array_equal(join_blocks(blocks, shape, axes), array)
    assert blocks.sum() == array.sum()


def test_blocks_need_two_axes() -> None:
    with pytest.raises(InputError, match="no such axis"):
        split_blocks(np.zeros(8), 4, (0, 1))
    with pytest.raises(InputError, match="different axes"):
        split_blocks(np.zeros(8), 4)
