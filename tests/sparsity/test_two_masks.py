from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.mask import apply
from nmsim.sparsity.metrics import double_prune_extra_zeros, retained_magnitude
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.transposable import transposable_mask, two_approximation_mask
from nmsim.sparsity.two_masks import best_output_order, bi_masks, bidirectional_masks, double_pruned_masks

TWO_OF_FOUR = NMPattern(2, 4)
PATTERNS = [NMPattern(1, 2), TWO_OF_FOUR, NMPattern(1, 4), NMPattern(4, 8), NMPattern(2, 8), NMPattern(4, 16), NMPattern(16, 32)]


def test_bidirectional_masks_are_the_vectors_masks_of_either_axis(vectors: dict[str, Any]) -> None:
    case = vectors["nm_mask_1d"]
    masks = bidirectional_masks(np.array(case["W"]), TWO_OF_FOUR)
    np.testing.assert_array_equal(masks.forward, np.array(case["expected"]["2:4/axis1"]["mask"], dtype=bool))
    np.testing.assert_array_equal(masks.backward_data, np.array(case["expected"]["2:4/axis0"]["mask"], dtype=bool))
    # The counts that the fact sheet gives for this matrix.
    assert (masks.forward.sum(), masks.backward_data.sum(), (masks.forward & masks.backward_data).sum()) == (32, 32, 26)


@pytest.mark.parametrize("shape", [(64, 96), (33, 3, 3, 18)])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_each_mask_obeys_its_own_reduction(pattern: NMPattern, shape: tuple[int, ...]) -> None:
    weights = np.random.default_rng(0).standard_normal(shape)
    order = np.random.default_rng(1).permutation(shape[0])
    for masks in (bidirectional_masks(weights, pattern), double_pruned_masks(weights, pattern)):
        assert check_groups(masks.forward, pattern, -1).legal
        assert check_groups(masks.backward_data, pattern, 0).legal
    reordered = bi_masks(weights, pattern, order)
    assert check_groups(reordered.backward_data[order], pattern, 0).legal
    assert (reordered.backward_data <= reordered.forward).all()


def test_double_pruning_only_prunes_and_loses_the_expected_share() -> None:
    weights = np.random.default_rng(2).standard_normal((1024, 256))
    forward, backward = double_pruned_masks(weights, TWO_OF_FOUR)
    assert (backward <= forward).all()
    # Columns are independent; 0.003 is over five standard deviations of the share.
    lost = (forward.sum() - backward.sum()) / weights.size
    assert lost == pytest.approx(float(double_prune_extra_zeros(TWO_OF_FOUR)), abs=0.003)


def test_how_much_backward_data_keeps_ranks_the_methods() -> None:
    """Own mask > reordered second pruning > second pruning > both at once; a transposable mask gives up forward's freedom."""
    weights = np.random.default_rng(3).standard_normal((128, 128))
    order = best_output_order(weights, TWO_OF_FOUR, np.random.default_rng(4))
    kept = [
        retained_magnitude(weights, mask)
        for mask in (
            bidirectional_masks(weights, TWO_OF_FOUR).backward_data,
            bi_masks(weights, TWO_OF_FOUR, order).backward_data,
            double_pruned_masks(weights, TWO_OF_FOUR).backward_data,
            two_approximation_mask(weights, TWO_OF_FOUR),
        )
    ]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > retained_magnitude(weights, transposable_mask(weights, TWO_OF_FOUR)) > kept[3]


def test_the_best_order_leaves_as_much_as_the_best_of_its_candidates() -> None:
    weights = np.random.default_rng(5).standard_normal((4, 32))
    pattern = NMPattern(1, 2)
    left = {order: int(bi_masks(weights, pattern, np.array(order)).backward_data.sum()) for order in permutations(range(4))}
    chosen = best_output_order(weights, pattern, np.random.default_rng(6), candidates=200)
    assert left[tuple(chosen.tolist())] == max(left.values()) > min(left.values())
    first = best_output_order(weights, pattern, np.random.default_rng(7), candidates=1)
    np.testing.assert_array_equal(first, np.random.default_rng(7).permutation(4))


@given(st.integers(0, 2**32 - 1))
def test_more_candidates_never_leave_less(seed: int) -> None:
    weights = np.random.default_rng(seed).standard_normal((16, 8))
    left = []
    for candidates in (1, 5, 25):
        order = best_output_order(weights, TWO_OF_FOUR, np.random.default_rng(seed), candidates)
        left.append(bi_masks(weights, TWO_OF_FOUR, order).backward_data.sum())
    assert left == sorted(left)


def test_in_the_natural_order_bi_mask_is_double_pruning() -> None:
    weights = np.random.default_rng(8).standard_normal((20, 24))
    for mine, theirs in zip(bi_masks(weights, TWO_OF_FOUR, np.arange(20)), double_pruned_masks(weights, TWO_OF_FOUR), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_weights_that_are_zero_already_are_not_kept_backwards_in_place_of_pruned_ones() -> None:
    weights = apply(np.ones((4, 4)), np.eye(4, dtype=bool))
    forward, backward = double_pruned_masks(weights, NMPattern(1, 4))
    np.testing.assert_array_equal(backward, forward)


def test_what_is_no_order_of_the_outputs_is_refused() -> None:
    with pytest.raises(InputError, match="permutation of 0 to 3"):
        bi_masks(np.ones((4, 4)), TWO_OF_FOUR, np.array([0, 1, 2, 2]))
    with pytest.raises(InputError, match="at least one candidate"):
        best_output_order(np.ones((4, 4)), TWO_OF_FOUR, np.random.default_rng(0), 0)
