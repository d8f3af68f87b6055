from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.sparsity.groups import join_groups, require_mask, require_same_shape, resolve_axis, split_groups


@given(st.lists(st.integers(0, 7), min_size=1, max_size=4), st.integers(1, 9), st.integers(0, 3))
def test_joining_undoes_splitting_and_only_zeros_are_added(shape: list[int], m: int, axis: int) -> None:
    axis %= len(shape)
    array = np.arange(1, np.prod(shape, dtype=int) + 1).reshape(shape)
    grouped = split_groups(array, m, axis)
    assert grouped.shape[1:3] == (-(-shape[axis] // m), m)
    assert np.count_nonzero(grouped) == array.size
    np.testing.assert_array_equal(join_groups(grouped, array.shape, axis), array)


def test_a_group_is_m_consecutive_elements_along_the_axis() -> None:
    array = np.arange(24).reshape(2, 6, 2)
    assert split_groups(array, 3, 1)[1, 1, :, 0].tolist() == [18, 20, 22]


def test_an_axis_that_is_not_there_is_refused() -> None:
    assert resolve_axis(np.zeros((2, 3)), -2) == 0
    with pytest.raises(InputError, match=r"axis: an array of 2 axes has no such axis, got 2"):
        resolve_axis(np.zeros((2, 3)), 2)


@pytest.mark.parametrize("not_a_mask", [np.ones(4), np.array(True), [True]])
def test_only_bool_arrays_are_masks(not_a_mask: object) -> None:
    with pytest.raises(InputError, match="a mask is a bool array"):
        require_mask(not_a_mask)


def test_unequal_shapes_are_named_one_by_one() -> None:
    with pytest.raises(InputError, match=r"weights \(2,\), mask \(3,\)"):
        require_same_shape(weights=np.zeros(2), mask=np.zeros(3))
