"""Estimators of a gradient: unbiased, of least variance, and N:M along the tokens whatever the numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.mvue import least_variance_probabilities, two_draw_probabilities
from nmsim.sparsity.pattern import NMPattern
from nmsim.training.gradient_sampling import (
    approximate_probabilities,
    exact_probabilities,
    gradient_statistics,
    sampled,
    variance,
)

DRAWS = 400_000


def drawn(block, pattern, estimator, draws=DRAWS):
    """`draws` estimates of one group, [M, draws]: a column each."""
    rows = torch.tensor(block).unsqueeze(1).expand(-1, draws).contiguous()
    return sampled(rows, pattern, estimator, torch.Generator().manual_seed(1)).double()


def group(block):
    return torch.tensor(block, dtype=torch.float32).reshape(1, -1, 1)


def test_one_of_two_has_the_published_probabilities_values_and_variance(vectors):
    pattern = NMPattern(1, 2)
    for case in vectors["mvue_1of2"]["cases"]:
        block = group(case["block"])
        probabilities = exact_probabilities(block, pattern)
        assert probabilities.flatten().tolist() == pytest.approx(case["p"])
        assert float(variance(block, probabilities)) == pytest.approx(case["total_variance"], abs=1e-5)
        draws = drawn(case["block"], pattern, "exact", 2000)
        for values, expected, probability in zip(draws, case["kept_value"], case["p"], strict=True):
            kept = values[values != 0]
            if probability:
                assert kept.tolist() == pytest.approx([expected] * len(kept))


@pytest.mark.parametrize("estimator", ["exact", "approximate"])
@pytest.mark.parametrize("block", [[1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0, 3.0], [1.0, -2.0, 3.0, 20.0], [0.0, 0.0, 5.0, -1.0]])
def test_two_of_four_is_unbiased_to_three_standard_errors_and_has_the_stated_variance(estimator, block):
    estimates = drawn(block, NMPattern(2, 4), estimator)
    values = group(block)
    probabilities = exact_probabilities(values, NMPattern(2, 4)) if estimator == "exact" else approximate_probabilities(values)
    assert float(probabilities.sum()) == pytest.approx(min(2, sum(one != 0 for one in block)), abs=1e-5)
    error = estimates.mean(1) - torch.tensor(block)
    standard = (estimates.var(1) / DRAWS).sqrt()
    assert (error.abs() <= 3 * standard + 1e-6).all()
    total = float(estimates.var(1).sum())
    # The variance of a sample variance of 4e5 draws is well under a per cent for these bounded values.
    assert total == pytest.approx(float(variance(values, probabilities)), rel=0.01, abs=1e-6)


def test_the_approximate_estimator_has_more_variance_by_the_published_ratios():
    """Algorithm sheet, section 3: 1.024 for [1,2,3,4], 1.125 for [1,1,1,3], 1.614 for [1,2,3,20], towards 2 for [1,1,1,B]."""
    for block, ratio in (([1, 2, 3, 4], 1.024), ([1, 1, 1, 3], 1.125), ([1, 2, 3, 20], 1.614), ([1, 1, 1, 1e5], 2.0)):
        values = group(block).double()
        exact = variance(values, exact_probabilities(values, NMPattern(2, 4)))
        assert float(variance(values, approximate_probabilities(values)) / exact) == pytest.approx(ratio, rel=2e-3)


def test_greedy_has_less_error_in_one_draw_and_never_less_bias():
    statistics = gradient_statistics(torch.tensor([[1.0], [2.0], [3.0], [4.0]]), NMPattern(2, 4))
    # Variance 20 of the exact estimator against the squared error 5 of greedy, over the squared norm 30.
    assert statistics == pytest.approx({"mvue_variance": 20 / 30, "greedy_bias": 5 / 30})


@pytest.mark.parametrize("estimator", ["exact", "approximate", "greedy"])
@given(
    rows=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40),
    seed=st.integers(0, 2**31),
    columns=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_draw_is_n_of_m_along_the_tokens_and_keeps_signs(estimator, rows, seed, columns):
    pattern = NMPattern(2, 4)
    gradient = torch.tensor(rows).unsqueeze(1).repeat(1, columns)
    estimate = sampled(gradient, pattern, estimator, torch.Generator().manual_seed(seed))
    assert estimate.shape == gradient.shape
    assert check_groups((estimate != 0).numpy(), pattern, 0).violations == 0
    assert torch.isfinite(estimate).all()
    assert (estimate * gradient >= 0).all()


@pytest.mark.parametrize("pattern", ["1:2", "1:4", "2:4", "4:8", "8:32", "3:16"])
def test_any_pattern_is_sampled_legally_in_bf16_over_many_groups(pattern):
    """Half a million groups: sums that round above N would show as a group of N + 1."""
    parsed = NMPattern.parse(pattern)
    gradient = torch.randn(parsed.m * 2000, 64, dtype=torch.bfloat16)
    estimate = sampled(gradient, parsed, "exact", torch.Generator().manual_seed(0))
    assert estimate.dtype == torch.bfloat16
    assert check_groups((estimate != 0).float().bool().numpy(), parsed, 0).violations == 0
    # Unbiased over the whole: the mean of 64 k groups against its standard error, at most the scale of the variance.
    error = (estimate.double() - gradient.double()).sum() / gradient.double().square().sum().sqrt()
    assert abs(float(error)) < 4 * (parsed.m / parsed.n)


@pytest.mark.parametrize("pattern", ["1:2", "2:4", "1:4", "4:8", "3:16"])
def test_probabilities_are_those_of_the_numpy_reference(pattern):
    parsed = NMPattern.parse(pattern)
    groups = torch.randn(50, parsed.m, 3, dtype=torch.float64) ** 5
    expected = least_variance_probabilities(groups.numpy(), parsed, axis=1)
    assert exact_probabilities(groups, parsed).numpy() == pytest.approx(expected)
    if parsed == NMPattern(2, 4):
        assert approximate_probabilities(groups).numpy() == pytest.approx(two_draw_probabilities(groups.numpy(), axis=1))
