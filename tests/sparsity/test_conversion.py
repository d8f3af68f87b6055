from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.sparsity.conversion import absorb_mean, at_least_zeros_probability, pattern_for_sparsity, refit_kept_weights
from nmsim.sparsity.mask import apply, nm_mask
from nmsim.sparsity.pattern import NMPattern

TWO_OF_FOUR = NMPattern(2, 4)


def output_error(weights: np.ndarray, bias: np.ndarray, dense: np.ndarray, inputs: np.ndarray) -> float:
    return float(((inputs @ weights.T + bias - inputs @ dense.T) ** 2).mean())


def correlated_inputs(samples: int, size: int, seed: int) -> np.ndarray:
    """Inputs that share a few factors, are of unlike scales and have means: what hidden activations look like."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((samples, size // 4)) @ rng.standard_normal((size // 4, size))
    return (factors + rng.standard_normal((samples, size))) * np.geomspace(0.1, 10, size) + rng.standard_normal(size)


def test_the_pattern_of_a_sparsity_equals_the_vectors(vectors: dict[str, Any]) -> None:
    case = vectors["unstructured_to_nm_block8"]
    for sparsity, row in case["table"].items():
        chances = [at_least_zeros_probability(float(sparsity), 8, zeros) for zeros in range(9)]
        # The table is rounded to eight places.
        np.testing.assert_allclose(chances, row["P_at_least_k_zeros"], atol=6e-9)
        pattern = pattern_for_sparsity(float(sparsity), 8, case["conf"])
        assert (pattern.n, pattern.m - pattern.n) == (row["chosen_N_of_8"], row["chosen_zeros"])


def test_the_binomial_rule_is_what_random_masks_do() -> None:
    zeros = (np.random.default_rng(0).random((200_000, 8)) < 0.7).sum(axis=1)
    for count in range(9):
        # Five standard errors of a share of 200,000.
        assert (zeros >= count).mean() == pytest.approx(at_least_zeros_probability(0.7, 8, count), abs=5 * 0.5 / np.sqrt(200_000))


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from([2, 4, 8, 16, 32]))
def test_more_zeros_never_ask_for_more_to_be_kept(one: float, other: float, m: int) -> None:
    fewer, more = sorted([one, other])
    assert pattern_for_sparsity(more, m).n <= pattern_for_sparsity(fewer, m).n
    assert pattern_for_sparsity(0.0, m).n == m
    assert pattern_for_sparsity(1.0, m).n == 1


@pytest.mark.parametrize("axis", [0, 1])
def test_absorbing_the_mean_keeps_the_sum_of_every_group(axis: int) -> None:
    weights = np.random.default_rng(1).standard_normal((10, 22))
    mask = nm_mask(weights, TWO_OF_FOUR, axis)
    absorbed = absorb_mean(weights, mask, 4, axis)
    assert (absorbed[~mask] == 0).all()
    edges = np.arange(0, weights.shape[axis], 4)
    np.testing.assert_allclose(np.add.reduceat(absorbed, edges, axis), np.add.reduceat(weights, edges, axis))
    assert absorb_mean(np.array([1.0, 2.0, 3.0, 6.0]), np.array([False, False, True, True]), 4).tolist() == [0, 0, 4.5, 7.5]
    assert absorb_mean(np.ones(4), np.zeros(4, dtype=bool), 4).tolist() == [0, 0, 0, 0]


def test_the_refit_is_the_least_squares_solution_of_each_output() -> None:
    rng = np.random.default_rng(2)
    dense, inputs = rng.standard_normal((12, 32)), correlated_inputs(500, 32, seed=3)
    mask = nm_mask(dense, TWO_OF_FOUR)
    fitted, bias = refit_kept_weights(dense, mask, inputs, tolerance=1e-10)
    assert (fitted[~mask] == 0).all()
    for row, kept in enumerate(mask):
        design = np.column_stack([inputs[:, kept], np.ones(len(inputs))])
        solution = np.linalg.lstsq(design, inputs @ dense[row], rcond=None)[0]
        np.testing.assert_allclose(np.append(fitted[row, kept], bias[row]), solution, rtol=1e-6, atol=1e-8)


def test_each_step_of_the_conversion_lessens_the_error_of_the_outputs() -> None:
    rng = np.random.default_rng(4)
    dense, inputs = rng.standard_normal((64, 128)) + 0.5, np.abs(rng.standard_normal((2000, 128))) + 1
    mask, none = nm_mask(dense, TWO_OF_FOUR), np.zeros(64)
    pruned, absorbed = apply(dense, mask), absorb_mean(dense, mask, 4)
    errors = [output_error(w, none, dense, inputs) for w in (pruned, absorbed)]
    errors.append(output_error(*refit_kept_weights(dense, mask, inputs), dense, inputs))
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < errors[1] / 1.2


def test_a_mask_that_keeps_all_leaves_the_layer_as_it_is() -> None:
    dense = np.random.default_rng(5).standard_normal((4, 8)).astype(np.float32)
    fitted, bias = refit_kept_weights(dense, np.ones((4, 8), dtype=bool), correlated_inputs(50, 8, seed=6))
    np.testing.assert_array_equal(fitted, dense)
    assert fitted.dtype == bias.dtype == np.float32
    assert (bias == 0).all()


def test_inputs_that_never_vary_or_are_few_leave_a_finite_solution() -> None:
    dense = np.random.default_rng(7).standard_normal((4, 16))
    mask = nm_mask(dense, TWO_OF_FOUR)
    for inputs in (np.ones((10, 16)), correlated_inputs(3, 16, seed=8)):
        fitted, bias = refit_kept_weights(dense, mask, inputs)
        assert output_error(fitted, bias, dense, inputs) < 1e-8
        assert np.abs(fitted).max() < 1e3


def test_shares_and_shapes_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="sparsity"):
        pattern_for_sparsity(1.5, 8)
    with pytest.raises(InputError, match="confidence"):
        pattern_for_sparsity(0.5, 8, -0.1)
    with pytest.raises(InputError, match="N:M"):
        pattern_for_sparsity(0.5, 65)
    with pytest.raises(InputError, match="samples"):
        refit_kept_weights(np.ones((4, 8)), np.ones((4, 8), dtype=bool), np.ones((10, 4)))
