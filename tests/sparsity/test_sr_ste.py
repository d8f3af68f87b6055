from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nmsim.errors import InputError
from nmsim.sparsity.mask import apply, nm_mask
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.sr_ste import DEFAULT_DECAY, decay_pruned_weights, effective_gradient, sgd_step

Case = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def case(vectors: dict[str, Any]) -> Case:
    """Weights, the gradient at the sparse weights, and the mask of the vector."""
    vector = vectors["sr_ste_update"]
    return np.array(vector["W"]), np.array(vector["grad_wrt_sparse_W"]), np.array(vector["mask"], dtype=bool)


def adam_first_step(weights: np.ndarray, gradient: np.ndarray, learning_rate: float, eps: float) -> np.ndarray:
    """Bias-corrected moments of the first step are g and g^2, whatever the betas."""
    return weights - learning_rate * gradient / (np.abs(gradient) + eps)


def test_the_update_equals_the_vectors(vectors: dict[str, Any], case: Case) -> None:
    vector, (weights, gradient, mask) = vectors["sr_ste_update"], case
    decay, learning_rate = vector["lambda_w"], vector["lr"]
    assert decay == DEFAULT_DECAY
    np.testing.assert_array_equal(nm_mask(weights, NMPattern(vector["N"], vector["M"])), mask)
    np.testing.assert_array_equal(apply(weights, mask), vector["sparse_W"])
    np.testing.assert_allclose(effective_gradient(gradient, weights, mask, decay), vector["effective_grad"], rtol=1e-15)
    np.testing.assert_allclose(sgd_step(weights, gradient, mask, learning_rate, decay), vector["W_next_plain_sgd"], rtol=1e-15)
    wrong = np.array(vector["masked_decay_on_kept_instead_of_pruned_is_wrong"])
    assert not np.allclose(effective_gradient(gradient, weights, mask, decay), wrong, atol=1e-6)


def test_without_decay_it_is_the_straight_through_estimator(vectors: dict[str, Any], case: Case) -> None:
    weights, gradient, mask = case
    np.testing.assert_array_equal(effective_gradient(gradient, weights, mask, 0), vectors["sr_ste_update"]["ste_effective_grad"])


def test_the_effective_gradient_is_the_gradient_of_the_loss_plus_half_decay_times_the_pruned_energy(case: Case) -> None:
    weights, gradient, mask = case
    decay, step = 0.3, 1e-5

    def objective(w: np.ndarray) -> float:
        return float((gradient * w).sum() + decay / 2 * (np.where(mask, 0, w) ** 2).sum())

    for index in np.ndindex(weights.shape):
        nudge = np.zeros_like(weights)
        nudge[index] = step
        slope = (objective(weights + nudge) - objective(weights - nudge)) / (2 * step)
        assert slope == pytest.approx(effective_gradient(gradient, weights, mask, decay)[index], abs=1e-9)


def test_under_adam_decay_on_gradients_and_on_weights_are_the_vectors_two_answers(vectors: dict[str, Any], case: Case) -> None:
    vector, (weights, gradient, mask) = vectors["masked_decay_adam_step1"], case
    decay, learning_rate, eps = vector["lambda_w"], vector["lr"], vector["eps"]
    on_gradient = adam_first_step(weights, effective_gradient(gradient, weights, mask, decay), learning_rate, eps)
    on_weights = adam_first_step(decay_pruned_weights(weights, mask, learning_rate, decay), gradient, learning_rate, eps)
    np.testing.assert_allclose(on_gradient, vector["W_next_decay_on_grad"], rtol=1e-13)
    np.testing.assert_allclose(on_weights, vector["W_next_decay_on_weight"], rtol=1e-13)


def test_under_plain_sgd_the_two_placements_of_the_decay_agree(case: Case) -> None:
    weights, gradient, mask = case
    on_weights = decay_pruned_weights(weights, mask, 0.1, 0.02) - 0.1 * gradient
    np.testing.assert_allclose(on_weights, sgd_step(weights, gradient, mask, 0.1, 0.02), rtol=1e-14)


def test_with_no_gradient_pruned_weights_shrink_geometrically_and_kept_ones_stay(case: Case) -> None:
    weights, _, mask = case
    after = weights
    for _ in range(10):
        after = sgd_step(after, np.zeros_like(after), mask, learning_rate=0.5, decay=0.1)
    np.testing.assert_allclose(after[~mask], weights[~mask] * 0.95**10)
    np.testing.assert_array_equal(after[mask], weights[mask])


def test_single_precision_stays_single(case: Case) -> None:
    weights, gradient, mask = case
    assert sgd_step(weights.astype(np.float32), gradient.astype(np.float32), mask, 0.1).dtype == np.float32


def test_arrays_of_other_shapes_are_refused_not_broadcast(case: Case) -> None:
    weights, gradient, mask = case
    with pytest.raises(InputError, match="different shapes"):
        effective_gradient(gradient, weights, mask[:1])
    with pytest.raises(InputError, match="different shapes"):
        decay_pruned_weights(weights, mask[:, :1], 0.1, 0.1)
