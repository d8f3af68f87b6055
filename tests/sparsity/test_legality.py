from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nmsim.errors import InputError
from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.mask import nm_mask
from nmsim.sparsity.pattern import NMPattern

TWO_OF_FOUR = NMPattern(2, 4)


def violating_starts(mask: np.ndarray, pattern: NMPattern, axis: int) -> tuple[int, list[tuple[int, ...]]]:
    """Groups seen, and first elements of those over-full, walking the mask element by element in C order."""
    groups, starts = 0, []
    for index in np.ndindex(mask.shape):
        if index[axis] % pattern.m == 0:
            groups += 1
            stop = min(index[axis] + pattern.m, mask.shape[axis])
            group = [(*index[:axis], i, *index[axis + 1 :]) for i in range(index[axis], stop)]
            if sum(int(mask[element]) for element in group) > pattern.n:
                starts.append(index)
    return groups, starts


@given(arrays(bool, array_shapes(min_dims=1, max_dims=4, max_side=7)), st.integers(1, 6), st.integers(0, 5), st.integers(0, 3))
def test_a_report_agrees_with_walking_every_group(mask: np.ndarray, n: int, extra: int, axis: int) -> None:
    pattern, axis = NMPattern(n, n + extra), axis % mask.ndim
    groups, starts = violating_starts(mask, pattern, axis)
    report = check_groups(mask, pattern, axis - mask.ndim)
    assert (report.groups, report.violations, report.axis) == (groups, len(starts), axis)
    assert report.first_violation == (starts[0] if starts else None)
    assert report.legal == (not starts)


def test_a_mask_made_for_the_forward_pass_is_not_valid_for_backward_data(vectors: dict[str, Any]) -> None:
    case = vectors["forward_mask_not_valid_for_bwd_data"]
    mask = np.array(case["mask_2of4_axis1"], dtype=bool)
    assert check_groups(mask, TWO_OF_FOUR, 1).legal
    along_out = check_groups(mask, TWO_OF_FOUR, 0)
    assert along_out.groups == case["groups"]
    assert along_out.groups - along_out.violations == case["groups_ok"]
    assert along_out.first_violation == (0, 2)


def test_one_extra_non_zero_is_found_where_it_is() -> None:
    mask = nm_mask(np.random.default_rng(0).standard_normal((64, 3, 3, 32)), TWO_OF_FOUR)
    assert check_groups(mask, TWO_OF_FOUR, 3).legal
    free = np.argwhere(~mask[40, 1, 2, 12:16])[0, 0]
    mask[40, 1, 2, 12 + free] = True
    report = check_groups(mask, TWO_OF_FOUR, 3)
    assert (report.violations, report.first_violation) == (1, (40, 1, 2, 12))


def test_the_widest_group_does_not_overflow_its_count() -> None:
    report = check_groups(np.ones((2, 128), dtype=bool), NMPattern(63, 64), 1)
    assert (report.groups, report.violations) == (4, 4)


def test_a_mask_without_groups_is_legal() -> None:
    assert check_groups(np.zeros((0, 8), dtype=bool), TWO_OF_FOUR, 1).groups == 0
    assert check_groups(np.zeros((8, 0), dtype=bool), TWO_OF_FOUR, 1).legal


def test_weights_are_not_taken_for_a_mask() -> None:
    weights: Any = np.ones((4, 4))
    with pytest.raises(InputError, match=r"a mask is a bool array of at least one axis, got 'float64'; compare the weights with 0"):
        check_groups(weights, TWO_OF_FOUR, 0)
