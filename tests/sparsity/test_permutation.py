from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.sparsity.channel_swap import swap_channels
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.permutation import efficacy, free_rows_magnitude, inverse, kept_magnitude
from nmsim.sparsity.stripe_search import count_groupings, groupings, search_stripe_groups

TWO_OF_FOUR = NMPattern(2, 4)
Search = Callable[..., np.ndarray]
SEARCHES: list[Search] = [swap_channels, search_stripe_groups]


@pytest.fixture(scope="module")
def apex_weights() -> np.ndarray:
    """The matrix of apex's README: numpy's legacy generator of seed 1."""
    return np.random.RandomState(1).rand(128, 64)


def best_of_all_groupings(weights: np.ndarray, pattern: NMPattern) -> float:
    """Over every order of the channels that makes another grouping, by the definition."""
    channels = weights.shape[1]
    orders = {tuple(map(frozenset, np.reshape(order, (-1, pattern.m)))): order for order in permutations(range(channels))}
    return max(kept_magnitude(weights[:, list(order)], pattern) for order in orders.values())


def test_the_four_baselines_of_apex_are_met_exactly(vectors: dict[str, Any], apex_weights: np.ndarray) -> None:
    case = vectors["channel_permutation_apex_random_128x64_seed1"]
    unstructured = np.sort(apex_weights, axis=None)[apex_weights.size // 2 :].sum()
    figures = {
        "unpruned": (apex_weights.sum(), "unpruned"),
        "unstructured50": (unstructured, "unstructured"),
        "rows50": (free_rows_magnitude(apex_weights, TWO_OF_FOUR), "rows50"),
        "default_2of4": (kept_magnitude(apex_weights, TWO_OF_FOUR), "default24"),
    }
    for name, (mine, published) in figures.items():
        assert mine == pytest.approx(case[name], rel=1e-13)
        assert round(mine, 3) == case["apex_readme"][published]


def test_channel_swaps_reach_the_published_efficacy(vectors: dict[str, Any], apex_weights: np.ndarray) -> None:
    published = vectors["channel_permutation_apex_random_128x64_seed1"]["apex_readme"]
    order = swap_channels(apex_weights, TWO_OF_FOUR)
    assert 100 * efficacy(apex_weights, TWO_OF_FOUR, order) == pytest.approx(published["eff"]["channel_swap_0"], abs=0.3)
    # The order of equal gains may differ; here it does not, and the magnitude is the published one to its last digit.
    assert kept_magnitude(apex_weights[:, order], TWO_OF_FOUR) == pytest.approx(published["channel_swap_0"], abs=1e-3)


def test_stripe_pairs_reach_the_published_efficacy(vectors: dict[str, Any], apex_weights: np.ndarray) -> None:
    published = vectors["channel_permutation_apex_random_128x64_seed1"]["apex_readme"]["eff"]
    order = search_stripe_groups(apex_weights, TWO_OF_FOUR)
    assert 100 * efficacy(apex_weights, TWO_OF_FOUR, order) == pytest.approx(published["osg8_0"], abs=0.3)


@pytest.mark.slow
def test_stripe_triples_reach_at_least_the_published_efficacy(vectors: dict[str, Any], apex_weights: np.ndarray) -> None:
    published = vectors["channel_permutation_apex_random_128x64_seed1"]["apex_readme"]["eff"]
    order = search_stripe_groups(apex_weights, TWO_OF_FOUR, stripes=3)
    assert 100 * efficacy(apex_weights, TWO_OF_FOUR, order) > published["osg12_0"] - 0.3


def test_the_efficacies_of_the_table_follow_from_its_magnitudes(vectors: dict[str, Any]) -> None:
    case = vectors["channel_permutation_apex_random_128x64_seed1"]
    for name, percent in case["efficacy_formula_check"].items():
        won, at_stake = case["apex_readme"][name] - case["default_2of4"], case["rows50"] - case["default_2of4"]
        assert 100 * won / at_stake == pytest.approx(percent, abs=0.06)
        assert percent == case["apex_readme"]["eff"][name]
    assert 100 * (case["greedy_channel_swap"] - case["default_2of4"]) / at_stake == pytest.approx(case["greedy_swap_efficacy"])


def test_eight_channels_equal_the_vectors(vectors: dict[str, Any]) -> None:
    case = vectors["channel_permutation_small"]
    weights = np.array(case["absW"])
    kept = [kept_magnitude(weights[:, way.ravel()], TWO_OF_FOUR) for way in groupings(8, 4)]
    assert (len(kept), max(kept), min(kept)) == (case["n_groupings"], case["best_l1"], case["worst_l1"])
    assert kept_magnitude(weights, TWO_OF_FOUR) == case["default_l1"]
    assert free_rows_magnitude(weights, TWO_OF_FOUR) == case["rows50_l1"]
    order = search_stripe_groups(weights, TWO_OF_FOUR)
    assert sorted(sorted(group) for group in order.reshape(2, 4).tolist()) == case["best_grouping"]
    assert 100 * efficacy(weights, TWO_OF_FOUR, order) == case["efficacy_pct"]
    for channels, count in case["n_groupings_formula"].items():
        assert count_groupings(int(channels), 4) == int(count)


@pytest.mark.parametrize(("channels", "m"), [(4, 2), (6, 2), (8, 2), (6, 3), (8, 4)])
def test_the_groupings_are_all_and_each_once(channels: int, m: int) -> None:
    ways = {frozenset(frozenset(group) for group in way) for way in groupings(channels, m).tolist()}
    every = {frozenset(frozenset(order[i : i + m]) for i in range(0, channels, m)) for order in permutations(range(channels))}
    assert ways == every
    assert len(groupings(channels, m)) == len(ways) == count_groupings(channels, m)


@pytest.mark.parametrize(("pattern", "channels", "stripes"), [("2:4", 8, 2), ("1:4", 8, 2), ("1:2", 6, 3), ("2:3", 6, 2)])
def test_a_stripe_search_over_all_stripes_is_optimal(pattern: str, channels: int, stripes: int) -> None:
    chosen = NMPattern.parse(pattern)
    for seed in range(2):
        weights = np.random.default_rng(seed).standard_normal((6, channels))
        order = search_stripe_groups(weights, chosen, stripes)
        assert kept_magnitude(weights[:, order], chosen) == pytest.approx(best_of_all_groupings(weights, chosen), rel=1e-14)


@pytest.mark.parametrize("pattern", ["1:2", "2:4", "1:4", "3:4", "4:8", "2:8"])
def test_no_single_exchange_improves_what_swapping_found(pattern: str) -> None:
    chosen = NMPattern.parse(pattern)
    weights = np.random.default_rng(1).standard_normal((24, 24))
    order = swap_channels(weights, chosen)
    kept = kept_magnitude(weights[:, order], chosen)
    assert kept > kept_magnitude(weights, chosen)
    for pair in combinations(range(24), 2):
        other = order.copy()
        other[list(pair)] = order[list(pair[::-1])]
        assert kept_magnitude(weights[:, other], chosen) <= kept * (1 + 1e-7)


@pytest.mark.parametrize("search", SEARCHES)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["1:2", "2:4", "1:4", "3:3"]), st.integers(1, 23))
def test_a_search_gives_an_order_that_is_never_worse_and_leaves_the_tail(search: Search, seed: int, pattern: str, channels: int) -> None:
    chosen = NMPattern.parse(pattern)
    weights = np.random.default_rng(seed).standard_normal((5, channels))
    order = search(weights, chosen)
    tail = channels // chosen.m * chosen.m
    assert sorted(order.tolist()) == list(range(channels))
    assert order[tail:].tolist() == list(range(tail, channels))
    assert kept_magnitude(weights[:, order], chosen) >= kept_magnitude(weights, chosen) * (1 - 1e-14)
    if tail == channels and channels % 2 == 0:
        assert kept_magnitude(weights[:, order], chosen) <= free_rows_magnitude(weights, chosen) * (1 + 1e-14)


@pytest.mark.parametrize("search", SEARCHES)
def test_escapes_find_no_worse_an_order_and_the_same_one_again(search: Search) -> None:
    weights = np.random.default_rng(2).random((16, 32))
    kept = []
    for escapes in (0, 3, 30):
        order = search(weights, TWO_OF_FOUR, escapes=escapes, rng=np.random.default_rng(3))
        np.testing.assert_array_equal(order, search(weights, TWO_OF_FOUR, escapes=escapes, rng=np.random.default_rng(3)))
        kept.append(kept_magnitude(weights[:, order], TWO_OF_FOUR))
    assert kept == sorted(kept)
    assert kept[2] > kept[0]


def test_reordering_producer_and_consumer_alike_leaves_the_function() -> None:
    rng = np.random.default_rng(4)
    first, second, inputs = rng.standard_normal((16, 8)), rng.standard_normal((8, 16)), rng.standard_normal((5, 8))
    order = swap_channels(second, TWO_OF_FOUR)
    plain = np.maximum(inputs @ first.T, 0) @ second.T
    np.testing.assert_allclose(np.maximum(inputs @ first[order].T, 0) @ second[:, order].T, plain, rtol=1e-12)
    np.testing.assert_array_equal(second[:, order][:, inverse(order)], second)


def test_channels_already_sorted_by_need_are_found_again() -> None:
    """Columns in pairs of twins of which each row needs one half: good when twins are apart, and a shuffle hides that."""
    half = np.random.default_rng(5).random((64, 8)) < 0.5
    weights = np.stack([half, ~half], axis=2).reshape(64, 16).astype(float)
    apart = kept_magnitude(weights, TWO_OF_FOUR)
    assert apart == weights.sum()
    shuffled = weights[:, np.random.default_rng(6).permutation(16)]
    assert kept_magnitude(shuffled, TWO_OF_FOUR) < apart
    assert kept_magnitude(shuffled[:, search_stripe_groups(shuffled, TWO_OF_FOUR)], TWO_OF_FOUR) > 0.98 * apart


def test_what_can_not_be_ordered_is_refused() -> None:
    weights = np.random.default_rng(7).random((4, 16))
    with pytest.raises(InputError, match="columns of a matrix"):
        swap_channels(np.ones(4), TWO_OF_FOUR)
    with pytest.raises(InputError, match="infinity"):
        swap_channels(np.full((2, 8), np.inf), TWO_OF_FOUR)
    with pytest.raises(InputError, match="escapes are random"):
        swap_channels(weights, TWO_OF_FOUR, escapes=1)
    with pytest.raises(InputError, match="0 or more"):
        swap_channels(weights, TWO_OF_FOUR, escapes=-1)
    with pytest.raises(InputError, match="two or more stripes"):
        search_stripe_groups(weights, TWO_OF_FOUR, stripes=1)
    with pytest.raises(InputError, match="2,627,625 ways"):
        search_stripe_groups(weights, TWO_OF_FOUR, stripes=4)
    with pytest.raises(InputError, match="permutation of 0 to 15"):
        efficacy(weights, TWO_OF_FOUR, np.zeros(16, dtype=int))
    with pytest.raises(InputError, match="nothing to win back"):
        efficacy(np.ones((4, 8)), TWO_OF_FOUR, np.arange(8))
    with pytest.raises(InputError, match="whole groups"):
        count_groupings(6, 4)
