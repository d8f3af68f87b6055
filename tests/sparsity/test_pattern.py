from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import lcm

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern

SMALL_M = range(2, 9)


def patterns(max_m: int = 64) -> st.SearchStrategy[NMPattern]:
    return st.integers(1, max_m).flatmap(lambda m: st.builds(NMPattern, st.integers(1, m), st.just(m)))


def nonzeros_by_group(masks: np.ndarray, first: int, m: int) -> list[np.ndarray]:
    """Non-zeros of each bit mask in each group of m, where bit i of a mask is element first + i."""
    width = 16
    bits = (masks[:, None] >> np.arange(width)) & 1
    group_of = (first + np.arange(width)) // m
    return [bits[:, group_of == group].sum(axis=1) for group in np.unique(group_of)]


def fullest_window(m: int, other_m: int) -> dict[int, int]:
    """For each N' of N':M' the most non-zeros in a group of m, over every mask of every group position.

    Elements outside the group may be zero without making a mask illegal, so masks of the group alone are all there is to try.
    """
    masks = np.arange(2**m)
    weight = nonzeros_by_group(masks, 0, 16)[0]
    fullest = dict.fromkeys(range(1, other_m + 1), 0)
    for first in range(0, lcm(m, other_m), m):
        most_in_a_group = np.max(nonzeros_by_group(masks, first, other_m), axis=0)
        for n in fullest:
            fullest[n] = max(fullest[n], int(weight[most_in_a_group <= n].max()))
    return fullest


@pytest.mark.parametrize("m", SMALL_M)
def test_contains_agrees_with_brute_force_over_all_masks_of_a_group(m: int) -> None:
    for other_m in SMALL_M:
        for other_n, fullest in fullest_window(m, other_m).items():
            for n in range(1, m + 1):
                expected = fullest <= n
                assert NMPattern(n, m).contains(NMPattern(other_n, other_m)) == expected, f"{n}:{m} contains {other_n}:{other_m}"


@pytest.mark.parametrize(("m", "other_m"), list(product((2, 3, 4), (2, 3, 4))))
def test_contains_agrees_with_enumerating_every_mask_of_a_whole_period(m: int, other_m: int) -> None:
    period = lcm(m, other_m)
    masks = np.arange(2**period)
    bits = ((masks[:, None] >> np.arange(period)) & 1).astype(int)
    fullest = bits.reshape(len(masks), -1, m).sum(axis=2).max(axis=1)
    other_fullest = bits.reshape(len(masks), -1, other_m).sum(axis=2).max(axis=1)
    for n, other_n in product(range(1, m + 1), range(1, other_m + 1)):
        every_mask_obeys = bool((fullest[other_fullest <= other_n] <= n).all())
        assert NMPattern(n, m).contains(NMPattern(other_n, other_m)) == every_mask_obeys


@pytest.mark.parametrize(
    ("native", "wanted", "runs"),
    [("2:4", "1:2", True), ("2:4", "1:4", True), ("2:4", "2:8", True), ("2:4", "4:8", False), ("1:2", "2:4", False), ("2:4", "1:3", True)],
)
def test_a_two_of_four_core_runs_the_patterns_that_fit_into_it(native: str, wanted: str, runs: bool) -> None:
    assert NMPattern.parse(native).contains(NMPattern.parse(wanted)) is runs


@given(patterns(), patterns(), patterns())
def test_contains_is_reflexive_and_transitive(a: NMPattern, b: NMPattern, c: NMPattern) -> None:
    assert a.contains(a)
    if a.contains(b) and b.contains(c):
        assert a.contains(c)


@given(patterns(), patterns())
def test_a_pattern_never_contains_a_denser_one(a: NMPattern, b: NMPattern) -> None:
    if a.contains(b):
        assert b.density <= a.density


@given(patterns(), st.integers(0, 500))
def test_compressed_k_pads_the_tail_to_a_whole_group(pattern: NMPattern, k: int) -> None:
    compressed = pattern.compressed_k(k)
    assert compressed % pattern.n == 0
    assert k * pattern.density <= compressed < (k + pattern.m) * pattern.density


@given(patterns())
def test_the_text_of_a_pattern_reads_back_as_itself(pattern: NMPattern) -> None:
    assert NMPattern.parse(str(pattern)) == pattern
    assert pattern.density == Fraction(pattern.n, pattern.m)


@pytest.mark.parametrize("text", ["", "2", "2:", "2:4:8", "0:4", "5:4", "2:65", "-1:4", "2 :4", "a:b", "2:4 "])
def test_text_that_is_no_pattern_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(InputError, match="for example 2:4") as caught:
        NMPattern.parse(text)
    assert repr(text) in str(caught.value)
