from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog, minimize

from nmsim.errors import InputError
from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.mvue import (
    greedy_estimate,
    least_variance_probabilities,
    minimum_variance_estimate,
    total_variance,
    two_draw_estimate,
    two_draw_probabilities,
)
from nmsim.sparsity.pattern import NMPattern

ONE_OF_TWO, TWO_OF_FOUR = NMPattern(1, 2), NMPattern(2, 4)
DRAWS = 400_000
GROUPS = [[1.0, 2.0, 3.0, 4.0], [1.0, -1.0, 1.0, 3.0], [1.0, 2.0, -3.0, 20.0], [0.0, 5.0, 0.0, -1.0], [0.0, 0.0, -7.0, 0.0], [2.0, 2, 2, 2]]

Estimate = Callable[[np.ndarray, np.random.Generator], np.ndarray]
ESTIMATES: dict[str, tuple[Estimate, Callable[[np.ndarray], np.ndarray]]] = {
    "exact 2:4": (lambda v, rng: minimum_variance_estimate(v, TWO_OF_FOUR, rng), lambda v: least_variance_probabilities(v, TWO_OF_FOUR)),
    "two draws": (two_draw_estimate, two_draw_probabilities),
    "exact 1:2": (lambda v, rng: minimum_variance_estimate(v, ONE_OF_TWO, rng), lambda v: least_variance_probabilities(v, ONE_OF_TWO)),
    "exact 3:4": (
        lambda v, rng: minimum_variance_estimate(v, NMPattern(3, 4), rng),
        lambda v: least_variance_probabilities(v, NMPattern(3, 4)),
    ),
}
FINITE = st.floats(-1e3, 1e3, width=32).map(lambda x: 0.0 if abs(x) < 1e-3 else x)


def ratio_of_variances(group: list[float]) -> float:
    values = np.array(group)
    least = total_variance(values, least_variance_probabilities(values, TWO_OF_FOUR))
    return total_variance(values, two_draw_probabilities(values)) / least


def two_draw_pairs(group: np.ndarray) -> np.ndarray:
    """The chance of each element by going through both draws."""
    sizes = np.abs(group)
    chances = np.zeros(4)
    for first, second in ((i, j) for i in range(4) for j in range(4) if i != j):
        rest = sizes.sum() - sizes[first]
        chance = sizes[first] / sizes.sum() * (sizes[second] / rest if rest else 0.0)
        chances[[first, second]] += chance
    return chances


def test_one_of_two_equals_the_vectors(vectors: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    for case in vectors["mvue_1of2"]["cases"]:
        pair = np.array(case["block"])
        chances = least_variance_probabilities(pair, ONE_OF_TWO)
        np.testing.assert_allclose(chances, case["p"], rtol=1e-15)
        assert total_variance(pair, chances) == pytest.approx(case["total_variance"], rel=1e-14)
        assert ((greedy_estimate(pair, ONE_OF_TWO) - pair) ** 2).sum() == case["mse_of_greedy_keep_max"]
        drawn = minimum_variance_estimate(np.tile(pair, (100, 1)), ONE_OF_TWO, rng)
        kept = drawn != 0
        assert (kept.sum(axis=1) == 1).all()
        np.testing.assert_allclose(drawn[kept], np.tile(case["kept_value"], (100, 1))[kept], rtol=1e-14)


def test_the_least_variance_of_a_pair_is_where_a_grid_finds_it(vectors: dict[str, Any]) -> None:
    pair, grid = np.array([3.0, 1.0]), np.linspace(0.01, 0.99, 99)
    variances = [total_variance(pair, np.array([p, 1 - p])) for p in grid]
    assert grid[int(np.argmin(variances))] == pytest.approx(vectors["mvue_1of2"]["grid_argmin_p_for_[3,1]"])


@pytest.mark.parametrize("name", ESTIMATES)
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_estimates_are_unbiased_and_have_the_stated_variance(name: str, group: list[float]) -> None:
    estimate, probabilities = ESTIMATES[name]
    values = np.array(group)
    drawn = estimate(np.tile(values, (DRAWS, 1)), np.random.default_rng(1))
    chances = probabilities(values)
    each = np.where(values != 0, values**2 * (1 / np.where(chances > 0, chances, 1) - 1), 0)
    # Three standard errors of the mean; where an element is certain the mean is exact.
    assert (np.abs(drawn.mean(axis=0) - values) <= 3 * np.sqrt(each / DRAWS) + 1e-12 * np.abs(values)).all()
    # The squared error of one group is bounded, so its mean over the draws has a standard error of its own.
    errors = ((drawn - values) ** 2).sum(axis=1)
    assert abs(errors.mean() - total_variance(values, chances)) <= 3 * errors.std() / np.sqrt(DRAWS) + 1e-9


@pytest.mark.parametrize(("group", "ratio"), [([1, 2, 3, 4], 1.024), ([1, 1, 1, 3], 1.125), ([1, 2, 3, 20], 1.614)])
def test_two_draws_have_the_variance_that_the_enumeration_found(group: list[float], ratio: float) -> None:
    assert ratio_of_variances(group) == pytest.approx(ratio, abs=5e-4)


def test_two_draws_cost_at_most_twice_the_least_variance_and_that_in_the_limit() -> None:
    groups = np.abs(np.random.default_rng(2).standard_cauchy((3000, 4)))
    ratios = [ratio_of_variances(list(group)) for group in groups]
    assert min(ratios) >= 1 - 1e-9
    assert max(ratios) < 2
    assert ratio_of_variances([1, 1, 1, 1e6]) == pytest.approx(2, abs=1e-4)


def test_greedy_has_less_error_and_a_bias() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    greedy = greedy_estimate(values, TWO_OF_FOUR)
    assert ((greedy - values) ** 2).sum() == 5.0
    assert total_variance(values, least_variance_probabilities(values, TWO_OF_FOUR)) == pytest.approx(20.0, rel=1e-14)
    assert greedy.sum() == 7.0 != values.sum()


@given(st.lists(st.floats(0.01, 100), min_size=4, max_size=4))
def test_the_two_of_four_probabilities_are_the_closed_form(sizes: list[float]) -> None:
    group = np.array(sizes)
    largest, total = group.max(), group.sum()
    expected = 2 * group / total
    if largest > total - largest:
        expected = group / (total - largest)
        expected[group.argmax()] = 1
    np.testing.assert_allclose(least_variance_probabilities(group, TWO_OF_FOUR), expected, rtol=1e-12)


@pytest.mark.parametrize("group", [[1.0, 2, 3, 4], [1.0, 1, 1, 3], [1.0, 2, 3, 20], [5.0, 4, 4, 0.5]], ids=str)
def test_no_distribution_over_pairs_has_less_variance(group: list[float]) -> None:
    """The best over the six pair probabilities, found by a general optimiser."""
    values = np.array(group)
    member = np.array([[i in pair for pair in combinations(range(4), 2)] for i in range(4)], dtype=float)
    start, whole = np.full(6, 1 / 6), {"type": "eq", "fun": lambda pairs: pairs.sum() - 1}
    found = minimize(
        lambda pairs: (values**2 / np.maximum(member @ pairs, 1e-9)).sum(), start, bounds=[(0, 1)] * 6, constraints=whole, tol=1e-12
    )
    least = total_variance(values, least_variance_probabilities(values, TWO_OF_FOUR))
    assert found.fun - (values**2).sum() == pytest.approx(least, rel=1e-5)


@given(arrays(np.float64, (5, 8), elements=FINITE), st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 4), (4, 8), (2, 8)]))
def test_probabilities_are_proportional_but_for_the_certain_and_sum_to_n(values: np.ndarray, counts: tuple[int, int]) -> None:
    pattern = NMPattern(*counts)
    chances = least_variance_probabilities(values, pattern).reshape(-1, pattern.m)
    groups = np.abs(values).reshape(-1, pattern.m)
    np.testing.assert_allclose(chances.sum(axis=1), np.minimum(pattern.n, (groups > 0).sum(axis=1)), rtol=1e-12)
    assert ((chances > 0) == (groups > 0)).all()
    for chance, group in zip(chances, groups, strict=True):
        drawn = (chance > 0) & (chance < 1)
        scale = chance[drawn] / group[drawn]
        np.testing.assert_allclose(scale, np.broadcast_to(scale[:1], scale.shape), rtol=1e-12)
        assert not drawn.any() or (group[chance == 1] * scale[0] >= 1 - 1e-12).all()


@given(arrays(np.float64, 4, elements=FINITE))
def test_the_chances_of_two_draws_are_those_of_going_through_both(group: np.ndarray) -> None:
    chances, nonzero = two_draw_probabilities(group), np.count_nonzero(group)
    if nonzero > 1:
        np.testing.assert_allclose(chances, two_draw_pairs(group), rtol=1e-9)
    assert chances.sum() == pytest.approx(min(2, nonzero), rel=1e-9)


def test_there_are_pairs_with_the_least_variance_probabilities() -> None:
    member = np.array([[i in pair for pair in combinations(range(4), 2)] for i in range(4)], dtype=float)
    for group in np.random.default_rng(3).standard_cauchy((200, 4)):
        chances = least_variance_probabilities(group, TWO_OF_FOUR)
        assert linprog(np.zeros(6), A_eq=member, b_eq=chances, bounds=(0, 1)).status == 0


@given(
    arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 19), st.integers(1, 5)), elements=FINITE),
    st.sampled_from(["1:2", "2:4", "1:4", "2:8", "4:8", "16:32"]),
    st.integers(0, 2),
)
def test_estimates_obey_the_pattern_along_their_axis_and_keep_signs_and_zeros(values: np.ndarray, text: str, axis: int) -> None:
    pattern = NMPattern.parse(text)
    rng = np.random.default_rng(4)
    results = [(pattern, minimum_variance_estimate(values, pattern, rng, axis)), (TWO_OF_FOUR, two_draw_estimate(values, rng, axis))]
    for kept, drawn in results:
        assert (drawn.dtype, drawn.shape) == (values.dtype, values.shape)
        assert check_groups(drawn != 0, kept, axis).legal
        assert ((drawn == 0) | (np.sign(drawn) == np.sign(values))).all()
        # Dividing by a probability makes nothing smaller; single precision rounds.
        assert ((drawn == 0) | (np.abs(drawn) >= np.abs(values) * (1 - 1e-6))).all()


def test_a_gradient_that_already_obeys_the_pattern_passes_unchanged() -> None:
    values = greedy_estimate(np.random.default_rng(5).standard_normal((16, 32)), TWO_OF_FOUR)
    rng = np.random.default_rng(6)
    np.testing.assert_array_equal(minimum_variance_estimate(values, TWO_OF_FOUR, rng), values)
    np.testing.assert_allclose(two_draw_estimate(values, rng), values, rtol=1e-14)


def test_a_generator_in_the_same_state_draws_the_same() -> None:
    values = np.random.default_rng(7).standard_normal((64, 4096))
    for estimate, _ in ESTIMATES.values():
        once, again, other = (estimate(values, np.random.default_rng(seed)) for seed in (8, 8, 9))
        np.testing.assert_array_equal(once, again)
        assert (once != other).any()


def test_an_element_that_is_never_kept_makes_the_variance_infinite() -> None:
    assert total_variance(np.array([1.0, 1.0]), np.array([1.0, 0.0])) == np.inf
    assert total_variance(np.array([1.0, 0.0]), np.array([1.0, 0.0])) == 0.0


@pytest.mark.parametrize("bad", [np.array([1.0, np.nan]), np.array([1.0, np.inf]), np.array([1, 2])])
def test_what_has_no_unbiased_estimate_is_refused(bad: np.ndarray) -> None:
    rng = np.random.default_rng(10)
    with pytest.raises(InputError):
        minimum_variance_estimate(bad, ONE_OF_TWO, rng)
    with pytest.raises(InputError):
        two_draw_estimate(bad, rng)
