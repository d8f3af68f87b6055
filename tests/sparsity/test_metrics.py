from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import comb, log10
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nmsim.errors import InputError
from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.mask import apply, nm_mask
from nmsim.sparsity.metrics import (
    crosswise_legal_probability,
    double_prune_extra_zeros,
    flip_rate,
    mask_diversity,
    newly_kept,
    newly_pruned,
    retained_magnitude,
    sad,
    transposable_mask_diversity,
    transposable_mask_diversity_formula,
)
from nmsim.sparsity.pattern import NMPattern

TWO_OF_FOUR = NMPattern(2, 4)
MASKS = arrays(bool, (3, 5))


def test_divergence_equals_the_vectors(vectors: dict[str, Any]) -> None:
    case = vectors["sad_flip_rate"]
    before, after = (np.array(case[name], dtype=bool) for name in ("mask_i", "mask_j"))
    assert sad(before, after) == case["SAD"]
    assert flip_rate(before, after) == case["flip_rate"]
    assert (newly_pruned(before, after), newly_kept(before, after)) == (case["newly_pruned"], case["newly_kept"])


@given(MASKS, MASKS, MASKS)
def test_sad_is_a_metric(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    assert sad(a, b) == sad(b, a) == int((a ^ b).sum())
    assert (sad(a, b) == 0) == np.array_equal(a, b)
    assert sad(a, c) <= sad(a, b) + sad(b, c)


@given(st.integers(0, 2**32 - 1))
def test_exact_masks_prune_as_many_as_they_newly_keep(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = (nm_mask(rng.standard_normal((8, 16)), TWO_OF_FOUR) for _ in range(2))
    assert newly_pruned(before, after) == newly_kept(before, after)
    assert sad(before, after) % 2 == 0


@pytest.mark.parametrize(
    ("name", "pattern"), [("row_4of8", "4:8"), ("row_2of4", "2:4"), ("row_1of2", "1:2"), ("row_2of8_75", "2:8"), ("row_1of4_75", "1:4")]
)
def test_row_masks_of_gaussian_weights_retain_what_the_vectors_say(vectors: dict[str, Any], name: str, pattern: str) -> None:
    weights = np.random.default_rng(0).standard_normal((256, 256))
    expected = vectors["retained_l1_fraction_gaussian_256x256_seed0"]["fraction"][name]
    assert retained_magnitude(weights, nm_mask(weights, NMPattern.parse(pattern))) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("name", "density"), [("unstructured50", 0.5), ("unstructured75", 0.25)])
def test_unstructured_masks_retain_what_the_vectors_say_and_more_than_any_pattern(
    vectors: dict[str, Any], name: str, density: float
) -> None:
    weights = np.random.default_rng(0).standard_normal((256, 256))
    threshold = np.sort(np.abs(weights), axis=None)[int(weights.size * (1 - density))]
    retained = retained_magnitude(weights, np.abs(weights) >= threshold)
    assert retained == pytest.approx(vectors["retained_l1_fraction_gaussian_256x256_seed0"]["fraction"][name], rel=1e-12)
    for m in (2, 4, 8, 16, 32, 64):
        if m * density >= 1:
            assert retained_magnitude(weights, nm_mask(weights, NMPattern(int(m * density), m))) < retained


def test_the_retained_share_of_the_integer_vectors(vectors: dict[str, Any]) -> None:
    case = vectors["nm_mask_1d"]
    for expected in case["expected"].values():
        retained = retained_magnitude(np.array(case["W"]), np.array(expected["mask"], dtype=bool))
        assert retained == expected["retained_l1"] / case["total_l1"]


def test_row_mask_diversity_equals_the_vectors(vectors: dict[str, Any]) -> None:
    four, eight = vectors["mask_diversity_4x4"]["counts"], vectors["mask_diversity_8x8"]["counts"]
    for pattern in ("1:2", "2:4", "1:4"):
        assert mask_diversity(16, NMPattern.parse(pattern)) == four[f"{pattern} rows"]
    for key in ("1:2", "2:4", "4:8", "1:4 (75%)", "2:8 (75%)"):
        assert mask_diversity(64, NMPattern.parse(key.split()[0])) == int(eight[key])


def test_row_mask_diversity_counts_the_masks_that_there_are() -> None:
    masks = np.array(list(product([0, 1], repeat=12)))
    for pattern in (NMPattern(1, 2), NMPattern(1, 3), TWO_OF_FOUR, NMPattern(3, 6), NMPattern(5, 12)):
        full = (masks.reshape(len(masks), -1, pattern.m).sum(axis=2) == pattern.n).all(axis=1)
        assert mask_diversity(12, pattern) == full.sum()


def test_the_transposable_product_formula_equals_the_vectors_and_over_counts_beyond_n_1(vectors: dict[str, Any]) -> None:
    for pattern, expected in (("2:4", 144), ("1:4", 24)):
        assert transposable_mask_diversity_formula(16, NMPattern.parse(pattern)) == expected
    counts = vectors["mask_diversity_8x8"]["counts"]
    for pattern in ("1:2", "2:4", "4:8", "2:8"):
        formula, exact = int(counts[f"{pattern}-T product formula"]), int(counts[f"{pattern}-T exact"])
        assert transposable_mask_diversity_formula(64, NMPattern.parse(pattern)) == formula
        assert formula == exact if pattern == "1:2" else formula > exact


def test_two_of_four_masks_that_are_two_of_four_both_ways_are_90() -> None:
    masks = ((np.arange(2**16)[:, None] >> np.arange(16)) & 1).reshape(-1, 4, 4)
    both_ways = (masks.sum(axis=1) == 2).all(axis=1) & (masks.sum(axis=2) == 2).all(axis=1)
    assert both_ways.sum() == 90 < transposable_mask_diversity_formula(16, TWO_OF_FOUR)


def test_transposable_masks_are_counted_as_the_vectors_count_them(vectors: dict[str, Any]) -> None:
    four, eight = vectors["mask_diversity_4x4"]["counts"], vectors["mask_diversity_8x8"]["counts"]
    for pattern in ("1:2", "2:4", "1:4"):
        assert transposable_mask_diversity(16, NMPattern.parse(pattern)) == four[f"{pattern} transposable"]
    for pattern in ("1:2", "2:4", "4:8", "2:8", "1:4"):
        assert transposable_mask_diversity(64, NMPattern.parse(pattern)) == int(eight[f"{pattern}-T exact"])
    assert transposable_mask_diversity(36, NMPattern(3, 6)) == int(eight["3:6-T per 6x6"])
    # Counted, 4:8 both ways has less freedom than 2:4 along rows; the formula says more.
    rows = mask_diversity(64, TWO_OF_FOUR)
    assert transposable_mask_diversity(64, NMPattern(4, 8)) < rows < transposable_mask_diversity_formula(64, NMPattern(4, 8))


def test_the_other_counts_of_the_vectors_are_binomials_and_the_formula_is_above_them(vectors: dict[str, Any]) -> None:
    four, eight = vectors["mask_diversity_4x4"], vectors["mask_diversity_8x8"]["counts"]
    assert comb(16, 8) == four["counts"]["unstructured_50pct(8 of 16)"]
    assert comb(4, 2) == four["counts"]["row-structured (2 of 4 rows)"]
    assert (comb(64, 32), comb(64, 16)) == (int(eight["unstructured_50"]), int(eight["unstructured_75"]))
    for name, count in four["formula_transposable_paper"].items():
        assert transposable_mask_diversity_formula(16, NMPattern.parse(name.split()[0])) == count
    for name, digits in eight["log10"].items():
        assert round(log10(int(eight[name])), 3) == digits


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_the_count_is_that_of_all_masks_of_a_small_block(m: int) -> None:
    masks = ((np.arange(2 ** (m * m))[:, None] >> np.arange(m * m)) & 1).reshape(-1, m, m)
    for n in range(1, m + 1):
        both_ways = (masks.sum(axis=1) == n).all(axis=1) & (masks.sum(axis=2) == n).all(axis=1)
        assert transposable_mask_diversity(m * m, NMPattern(n, m)) == both_ways.sum()


def test_as_many_masks_keep_n_as_prune_n() -> None:
    for n, m in ((1, 8), (2, 8), (3, 8), (2, 16), (4, 16), (3, 32)):
        count = transposable_mask_diversity(m * m, NMPattern(n, m))
        assert count == transposable_mask_diversity(m * m, NMPattern(m - n, m))
    with pytest.raises(InputError, match="735,471"):
        transposable_mask_diversity(256, NMPattern(8, 16))


def test_the_product_formula_counts_too_many_in_small_blocks_and_too_few_in_large_ones() -> None:
    # Matrices with two ones in each row and column are OEIS A001499; for 10 x 10 it lists 1371785398200.
    assert transposable_mask_diversity(100, NMPattern(2, 10)) == 1_371_785_398_200
    for m in range(3, 14):
        pattern = NMPattern(2, m)
        over = transposable_mask_diversity_formula(m * m, pattern) > transposable_mask_diversity(m * m, pattern)
        assert over == (m < 10)


@pytest.mark.parametrize("count", [mask_diversity, transposable_mask_diversity, transposable_mask_diversity_formula])
@pytest.mark.parametrize("elements", [0, -16, 18])
def test_masks_are_counted_over_whole_blocks_only(count: Any, elements: int) -> None:
    with pytest.raises(InputError, match="whole blocks"):
        count(elements, TWO_OF_FOUR)


def test_double_pruning_zeroes_the_published_share(vectors: dict[str, Any]) -> None:
    for pattern, (exact, _) in vectors["double_prune_extra_zero_fraction"]["expected"].items():
        assert double_prune_extra_zeros(NMPattern.parse(pattern)) == Fraction(exact)


@pytest.mark.parametrize("pattern", [NMPattern(1, 2), TWO_OF_FOUR, NMPattern(2, 8)], ids=str)
def test_double_pruning_gaussian_weights_zeroes_the_expected_share(pattern: NMPattern) -> None:
    weights = np.random.default_rng(7).standard_normal((1024, 256))
    once = nm_mask(weights, pattern, 1)
    twice = once & nm_mask(apply(weights, once), pattern, 0)
    # Entries of a column are independent; 0.003 is over five standard deviations of the share.
    assert (once.sum() - twice.sum()) / weights.size == pytest.approx(float(double_prune_extra_zeros(pattern)), abs=0.003)


def test_a_random_forward_mask_is_legal_crosswise_in_11_of_16_groups(vectors: dict[str, Any]) -> None:
    assert crosswise_legal_probability(TWO_OF_FOUR) == Fraction(vectors["prob_random_24_group_ok_transposed"]["value"]) == Fraction(11, 16)
    report = check_groups(nm_mask(np.random.default_rng(8).standard_normal((1024, 256)), TWO_OF_FOUR), TWO_OF_FOUR, 0)
    assert 1 - report.violations / report.groups == pytest.approx(11 / 16, abs=0.01)


@given(st.integers(1, 32), st.integers(0, 32))
def test_crosswise_probability_and_extra_zeros_agree_on_when_nothing_is_lost(n: int, extra: int) -> None:
    pattern = NMPattern(n, n + extra)
    legal, lost = crosswise_legal_probability(pattern), double_prune_extra_zeros(pattern)
    assert 0 < legal <= 1
    assert (legal == 1) == (lost == 0) == (n == pattern.m)
    # A group that is over-full by j loses j, so the mean loss per group is at least the chance of being over-full.
    assert lost * pattern.m >= 1 - legal
    assert lost <= pattern.density * (1 - pattern.density) * comb(2, 1)


def test_what_has_no_share_is_refused() -> None:
    empty = np.zeros((0,), dtype=bool)
    with pytest.raises(InputError, match="no flip rate"):
        flip_rate(empty, empty)
    with pytest.raises(InputError, match="all zero"):
        retained_magnitude(np.zeros(4), np.ones(4, dtype=bool))
    with pytest.raises(InputError, match="different shapes"):
        sad(np.ones((2, 2), dtype=bool), np.ones(2, dtype=bool))
