from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.mask import apply, density, nm_mask
from nmsim.sparsity.pattern import NMPattern

TWO_OF_FOUR = NMPattern(2, 4)


def mask_by_sorting(row: np.ndarray, pattern: NMPattern) -> np.ndarray:
    """One row, one group at a time, by Python's stable sort: the definition, slowly."""
    kept = np.zeros(row.size, dtype=bool)
    for first in range(0, row.size, pattern.m):
        group = range(first, min(first + pattern.m, row.size))
        kept[sorted(group, key=lambda i: -abs(row[i]))[: pattern.n]] = True
    return kept


def test_masks_equal_the_vectors_on_both_axes(vectors: dict[str, Any]) -> None:
    case = vectors["nm_mask_1d"]
    weights = np.array(case["W"])
    for name, expected in case["expected"].items():
        pattern, axis = name.split("/axis")
        mask = nm_mask(weights, NMPattern.parse(pattern), int(axis))
        np.testing.assert_array_equal(mask, np.array(expected["mask"], dtype=bool), err_msg=name)
        assert np.abs(weights[mask]).sum() == expected["retained_l1"]


@given(st.data())
def test_a_mask_is_the_stable_sort_of_each_group_ties_and_tails_included(data: st.DataObject) -> None:
    m = data.draw(st.integers(1, 64))
    pattern = NMPattern(data.draw(st.integers(1, m)), m)
    row = np.array(data.draw(st.lists(st.integers(-4, 4), max_size=150)))
    np.testing.assert_array_equal(nm_mask(row, pattern), mask_by_sorting(row, pattern))


@pytest.mark.parametrize("pattern", [NMPattern(1, 3), TWO_OF_FOUR, NMPattern(3, 5), NMPattern(2, 6)], ids=str)
def test_no_other_choice_of_n_keeps_more_magnitude(pattern: NMPattern) -> None:
    groups = np.abs(np.random.default_rng(1).standard_normal((40, pattern.m)))
    best = [max(sum(group[list(kept)]) for kept in combinations(range(pattern.m), pattern.n)) for group in groups]
    np.testing.assert_allclose((groups * nm_mask(groups, pattern)).sum(axis=1), best)


def test_a_tie_keeps_the_lower_index() -> None:
    assert nm_mask(np.array([1, -1, 1, 1, 0, 0, 0, 0]), TWO_OF_FOUR).tolist() == [True, True, False, False] * 2


def test_a_tail_shorter_than_m_keeps_up_to_n_of_what_it_has() -> None:
    assert nm_mask(np.array([9, 9, 9, 9, 5, 6, 7]), TWO_OF_FOUR).tolist() == [True, True, False, False, False, True, True]
    assert nm_mask(np.zeros(5), TWO_OF_FOUR).tolist() == [True, True, False, False, True]


@pytest.mark.parametrize("axis", [0, 3])
def test_convolution_weights_are_grouped_along_one_axis_inside_each_filter_tap(axis: int) -> None:
    weights = np.random.default_rng(2).standard_normal((6, 3, 2, 10))
    mask = nm_mask(weights, TWO_OF_FOUR, axis)
    fibres = np.moveaxis(weights, axis, -1).reshape(-1, weights.shape[axis])
    expected = np.array([mask_by_sorting(fibre, TWO_OF_FOUR) for fibre in fibres])
    np.testing.assert_array_equal(np.moveaxis(mask, axis, -1).reshape(fibres.shape), expected)


def test_the_axis_counts_from_either_end_and_defaults_to_the_last() -> None:
    weights = np.random.default_rng(3).standard_normal((8, 12))
    np.testing.assert_array_equal(nm_mask(weights, TWO_OF_FOUR), nm_mask(weights, TWO_OF_FOUR, 1))
    np.testing.assert_array_equal(nm_mask(weights, TWO_OF_FOUR, 0), nm_mask(weights.T, TWO_OF_FOUR, 1).T)


def test_the_mask_does_not_depend_on_how_the_weights_lie_in_memory() -> None:
    weights = np.random.default_rng(4).standard_normal((16, 40))
    np.testing.assert_array_equal(nm_mask(np.asfortranarray(weights), TWO_OF_FOUR), nm_mask(weights, TWO_OF_FOUR))
    np.testing.assert_array_equal(nm_mask(weights[:, ::2], TWO_OF_FOUR), nm_mask(weights[:, ::2].copy(), TWO_OF_FOUR))


def test_a_matrix_larger_than_one_block_is_masked_like_its_parts() -> None:
    weights = np.random.default_rng(5).standard_normal((300, 500)).astype(np.float32)
    whole = nm_mask(weights, NMPattern(4, 8))
    np.testing.assert_array_equal(whole[:7], nm_mask(weights[:7], NMPattern(4, 8)))
    np.testing.assert_array_equal(whole[-7:], nm_mask(weights[-7:], NMPattern(4, 8)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.int32, np.uint8])
def test_every_real_type_is_ranked_alike(dtype: type) -> None:
    weights = np.array([[3, 1, 7, 5, 2, 2, 9, 0]]).astype(dtype)
    assert nm_mask(weights, TWO_OF_FOUR).tolist() == [[False, False, True, True, True, False, True, False]]


def test_the_lowest_integer_has_the_largest_magnitude_although_its_negative_overflows() -> None:
    assert nm_mask(np.array([-128, 127, 1, -2], dtype=np.int8), NMPattern(1, 4)).tolist() == [True, False, False, False]


def test_infinities_rank_first_and_nan_is_refused_with_its_place() -> None:
    assert nm_mask(np.array([1e30, -np.inf, 2.0, 3.0]), NMPattern(1, 4)).tolist() == [False, True, False, False]
    with pytest.raises(InputError, match=r"weights: weights hold NaN, the first at \[1, 2\]"):
        nm_mask(np.array([[0.0, 1.0, 2.0], [3.0, 4.0, np.nan]]), TWO_OF_FOUR)


@pytest.mark.parametrize("bad", [np.zeros(4, dtype=complex), np.array(["a", "b"])])
def test_weights_without_an_order_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="weights are real numbers"):
        nm_mask(bad, TWO_OF_FOUR)


def test_an_axis_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="no such axis"):
        nm_mask(np.zeros((4, 4)), TWO_OF_FOUR, axis=2)


def test_empty_weights_have_an_empty_mask() -> None:
    assert nm_mask(np.zeros((0, 8)), TWO_OF_FOUR).shape == (0, 8)
    assert nm_mask(np.zeros((8, 0)), TWO_OF_FOUR).shape == (8, 0)


@given(st.integers(1, 16), st.integers(1, 16), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_every_mask_is_legal_and_exactly_full(n: int, extra: int, length: int, seed: int) -> None:
    pattern = NMPattern(n, n + extra)
    mask = nm_mask(np.random.default_rng(seed).standard_normal((3, length)), pattern)
    assert check_groups(mask, pattern, 1).legal
    tail = length % pattern.m
    assert (mask.sum(axis=1) == length // pattern.m * n + min(tail, n)).all()


def test_pruned_weights_become_plain_zeros_of_the_same_type() -> None:
    weights = np.array([1.5, -np.inf, -2.0, np.nan], dtype=np.float16)
    pruned = apply(weights, np.array([True, False, False, False]))
    assert pruned.dtype == np.float16
    assert pruned.tolist() == [1.5, 0.0, 0.0, 0.0]
    assert not np.signbit(pruned).any()
    with pytest.raises(InputError, match="different shapes"):
        apply(weights, np.ones(3, dtype=bool))


def test_density_is_the_share_kept() -> None:
    assert density(nm_mask(np.random.default_rng(6).standard_normal((8, 64)), NMPattern(3, 16))) == 3 / 16
    with pytest.raises(InputError, match="an empty mask"):
        density(np.zeros((0, 4), dtype=bool))
