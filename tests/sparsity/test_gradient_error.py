from __future__ import annotations

import numpy as np
import pytest

from nmsim.errors import InputError
from nmsim.sparsity.gradient_error import gradient_error
from nmsim.sparsity.mvue import greedy_estimate, least_variance_probabilities, minimum_variance_estimate, total_variance
from nmsim.sparsity.pattern import NMPattern

TWO_OF_FOUR = NMPattern(2, 4)


def test_bias_and_variance_of_noise_of_known_moments() -> None:
    rng = np.random.default_rng(0)
    true, shift = rng.standard_normal(1000), 0.25
    error = gradient_error(true, (true + shift + 0.5 * rng.standard_normal(1000) for _ in range(400)))
    energy = (true**2).sum()
    # 400 x 1000 normal draws: the variance is known to a few tenths of a per cent, the bias to a per cent.
    assert error.variance == pytest.approx(1000 * 0.25 / energy, rel=0.01)
    assert error.bias == pytest.approx(1000 * shift**2 / energy, rel=0.03)
    assert error.mean_squared_error == error.bias + error.variance
    assert error.draws == 400


def test_minimum_variance_estimates_have_variance_and_greedy_ones_have_bias() -> None:
    true = np.random.default_rng(1).standard_normal((64, 32))
    rng = np.random.default_rng(2)
    unbiased = gradient_error(true, (minimum_variance_estimate(true, TWO_OF_FOUR, rng) for _ in range(2000)))
    least = total_variance(true, least_variance_probabilities(true, TWO_OF_FOUR)) / (true**2).sum()
    assert unbiased.variance == pytest.approx(least, rel=0.01)
    # The mean of 2,000 draws is known to within variance / 2000 in squares, of which the estimate is already free.
    assert abs(unbiased.bias) < 0.5 * unbiased.variance / 2000
    greedy = gradient_error(true, [greedy_estimate(true, TWO_OF_FOUR)] * 2)
    assert greedy.variance == 0
    assert greedy.bias == pytest.approx(((greedy_estimate(true, TWO_OF_FOUR) - true) ** 2).sum() / (true**2).sum())
    assert greedy.mean_squared_error < unbiased.mean_squared_error


def test_a_small_variance_beside_a_large_gradient_is_not_lost() -> None:
    true = np.full(10, 1e8)
    error = gradient_error(true, [true - 0.5, true + 0.5])
    assert error.variance * (true**2).sum() == pytest.approx(5.0)


def test_what_has_no_error_is_refused() -> None:
    with pytest.raises(InputError, match="no scale"):
        gradient_error(np.zeros(3), [np.zeros(3)] * 2)
    with pytest.raises(InputError, match="two or more"):
        gradient_error(np.ones(3), [np.ones(3)])
    with pytest.raises(InputError, match="different shapes"):
        gradient_error(np.ones(3), [np.ones((1, 3))] * 2)
