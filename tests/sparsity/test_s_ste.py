from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nmsim.errors import InputError
from nmsim.sparsity.mask import nm_mask
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.s_ste import least_squares_scale, soft_threshold

TWO_OF_FOUR = NMPattern(2, 4)


def test_threshold_and_scale_equal_the_vector(vectors: dict[str, Any]) -> None:
    case = vectors["s_ste_soft_threshold"]
    weights = np.array(case["w"])
    soft = soft_threshold(weights, TWO_OF_FOUR)
    np.testing.assert_array_equal(soft, case["soft"])
    assert not np.signbit(soft[soft == 0]).any()
    assert np.sort(np.abs(weights))[1] == case["threshold"]
    assert least_squares_scale(weights, soft) == pytest.approx(case["beta"], rel=1e-15)
    np.testing.assert_allclose(least_squares_scale(weights, soft) * soft, case["scaled"], rtol=1e-15)


@pytest.mark.parametrize("pattern", [NMPattern(1, 2), TWO_OF_FOUR, NMPattern(1, 4), NMPattern(4, 8), NMPattern(3, 3)], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_what_survives_is_the_magnitude_mask_moved_by_the_largest_pruned(pattern: NMPattern, axis: int) -> None:
    weights = np.random.default_rng(0).standard_normal((24, 24)).astype(np.float32)
    soft = soft_threshold(weights, pattern, axis)
    assert soft.dtype == np.float32
    np.testing.assert_array_equal(soft != 0, nm_mask(weights, pattern, axis))
    groups = np.moveaxis(weights, axis, 1).reshape(24, -1, pattern.m)
    largest_pruned = np.sort(np.abs(groups), axis=2)[:, :, pattern.m - pattern.n - 1] if pattern.n < pattern.m else np.zeros((24, 1))
    moved = np.abs(groups) - np.abs(np.moveaxis(soft, axis, 1).reshape(groups.shape))
    np.testing.assert_allclose(np.where(moved == np.abs(groups), 0, moved - largest_pruned[..., np.newaxis]), 0, atol=1e-6)


def test_the_weights_move_no_further_than_what_moves_them() -> None:
    """Continuity, the point of the method: a hard mask jumps by a whole magnitude where two weights change places."""
    rng = np.random.default_rng(1)
    weights, step = rng.standard_normal((4000, 4)), 1e-6
    nudged = weights + rng.uniform(-step, step, weights.shape)
    assert np.abs(soft_threshold(nudged, TWO_OF_FOUR) - soft_threshold(weights, TWO_OF_FOUR)).max() <= 2 * step
    close = np.array([3.0, 1.0, 1.0 - 1e-9, 0.5])
    other = np.array([3.0, 1.0 - 1e-9, 1.0, 0.5])
    assert np.abs(soft_threshold(close, TWO_OF_FOUR) - soft_threshold(other, TWO_OF_FOUR)).max() <= 2e-9
    assert np.abs(close * nm_mask(close, TWO_OF_FOUR) - other * nm_mask(other, TWO_OF_FOUR)).max() > 0.9


def test_no_other_scale_brings_the_result_nearer() -> None:
    weights = np.random.default_rng(2).standard_normal((16, 16))
    soft = soft_threshold(weights, TWO_OF_FOUR)
    beta = least_squares_scale(weights, soft)
    errors = [((weights - scale * soft) ** 2).sum() for scale in (beta, beta * 1.001, beta * 0.999)]
    assert errors[0] == min(errors)


def test_what_has_no_threshold_or_scale_is_refused() -> None:
    with pytest.raises(InputError, match="floating-point"):
        soft_threshold(np.array([1, 2, 3, 4]), TWO_OF_FOUR)
    with pytest.raises(InputError, match="no scale"):
        least_squares_scale(np.ones(4), soft_threshold(np.ones(4), TWO_OF_FOUR))
