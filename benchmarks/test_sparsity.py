"""Processor seconds of the mask searches, of unbiased estimates and of permutation searches, on weights of a large layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.measure import cpu_seconds
from nmsim.sparsity.channel_swap import swap_channels
from nmsim.sparsity.mvue import minimum_variance_estimate, two_draw_estimate
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.stripe_search import search_stripe_groups
from nmsim.sparsity.transposable import keep_greedy_mask, transposable_mask, two_approximation_mask

TWO_OF_FOUR, FOUR_OF_EIGHT = NMPattern(2, 4), NMPattern(4, 8)

SEARCHES: dict[str, tuple[Callable[..., np.ndarray], NMPattern, float]] = {
    "optimal 2:4": (transposable_mask, TWO_OF_FOUR, 2),
    "2-approximation 4:8": (two_approximation_mask, FOUR_OF_EIGHT, 5),
    "keep-greedy 4:8": (keep_greedy_mask, FOUR_OF_EIGHT, 5),
    "optimal 4:8": (transposable_mask, FOUR_OF_EIGHT, 20),
}
ESTIMATES: dict[str, tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], float]] = {
    "1:2": (lambda values, rng: minimum_variance_estimate(values, NMPattern(1, 2), rng, 0), 2),
    "2:4": (lambda values, rng: minimum_variance_estimate(values, TWO_OF_FOUR, rng, 0), 2),
    "2:4 two draws": (lambda values, rng: two_draw_estimate(values, rng, 0), 2),
}


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    """[4096, 4096] in single precision."""
    return np.random.default_rng(0).standard_normal((4096, 4096), dtype=np.float32)


def measured(benchmark: Any, work: Callable[[], object], rounds: int = 3) -> float:
    """Least processor seconds, recorded."""
    benchmark.pedantic(work, rounds=1)
    taken_s = cpu_seconds(work, rounds)
    benchmark.extra_info["cpu_s"] = taken_s
    return taken_s


@pytest.mark.parametrize("name", SEARCHES)
def test_a_transposable_mask_of_a_large_weight(benchmark: Any, weights: np.ndarray, name: str) -> None:
    search, pattern, bar_s = SEARCHES[name]
    assert measured(benchmark, lambda: search(weights, pattern)) < bar_s


@pytest.mark.parametrize("name", ESTIMATES)
def test_an_unbiased_estimate_of_a_large_gradient(benchmark: Any, weights: np.ndarray, name: str) -> None:
    estimate, bar_s = ESTIMATES[name]
    assert measured(benchmark, lambda: estimate(weights, np.random.default_rng(1))) < bar_s


def test_channel_swaps_of_a_layer_of_bert_base(benchmark: Any, weights: np.ndarray) -> None:
    assert measured(benchmark, lambda: swap_channels(weights[:768, :768], TWO_OF_FOUR), rounds=1) < 10


def test_the_permutation_searches_of_apex_table(benchmark: Any) -> None:
    """128 x 64: apex takes 56 s and more for the swaps on a processor, 0.2 s on a V100."""
    table = np.random.RandomState(1).rand(128, 64)

    def search() -> None:
        swap_channels(table, TWO_OF_FOUR)
        search_stripe_groups(table, TWO_OF_FOUR)

    assert measured(benchmark, search) < 1
