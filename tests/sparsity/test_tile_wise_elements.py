from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nmsim.errors import InputError
from nmsim.sparsity.metrics import retained_magnitude
from nmsim.sparsity.tile_wise import mask_of_plan, plan_network
from nmsim.sparsity.tile_wise_elements import DEFAULT_RESTORED, plan_network_with_elements

MODES: tuple[Any, ...] = ("1d", "2d")


def two_layers() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"up": rng.standard_normal((128, 256)), "down": 0.5 * rng.standard_normal((256, 128)).astype(np.float32)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("density", [0.25, 0.5])
def test_tiles_and_restored_elements_together_keep_the_density(mode: Any, density: float) -> None:
    weights, restored = two_layers(), DEFAULT_RESTORED[mode]
    plan = plan_network_with_elements(weights, density, restored, 32, mode)
    total = sum(weight.size for weight in weights.values())
    tiles = {name: mask_of_plan(columns, rows, 32) for name, (columns, rows, _) in plan.items()}
    assert not any((tiles[name] & plan[name].elements).any() for name in weights)
    assert sum(int(part.elements.sum()) for part in plan.values()) == round(restored * total)
    kept = sum(int((tiles[name] | plan[name].elements).sum()) for name in weights)
    # Tiles are kept to within half a row vector of their share.
    assert abs(kept - density * total) <= 17


@pytest.mark.parametrize("mode", MODES)
def test_the_tiles_are_those_of_the_smaller_density_and_the_elements_the_largest_left_over(mode: Any) -> None:
    weights = two_layers()
    plan = plan_network_with_elements(weights, 0.3, 0.05, 32, mode)
    least, most = np.inf, 0.0
    for name, (columns, rows) in plan_network(weights, 0.3 - 0.05, 32, mode).items():
        np.testing.assert_array_equal(plan[name].columns, columns)
        np.testing.assert_array_equal(plan[name].rows, rows)
        left = ~mask_of_plan(columns, rows, 32) & ~plan[name].elements
        least = min(least, np.abs(weights[name][plan[name].elements]).min())
        most = max(most, np.abs(weights[name][left]).max())
    assert least >= most


def test_restoring_elements_keeps_more_than_tiles_alone_of_the_same_density() -> None:
    weights = two_layers()
    tiles = plan_network(weights, 0.25, 32)
    kept = []
    for restored in (0.01, 0.05):
        plan = plan_network_with_elements(weights, 0.25, restored, 32)
        masks = {name: mask_of_plan(part.columns, part.rows, 32) | part.elements for name, part in plan.items()}
        kept.append(np.mean([retained_magnitude(weights[name], masks[name]) for name in weights]))
    assert np.mean([retained_magnitude(weights[name], mask_of_plan(*tiles[name], 32)) for name in weights]) < kept[0] < kept[1]


@pytest.mark.parametrize("restored", [0.0, 0.25, 0.5, -0.1])
def test_the_restored_share_lies_between_nothing_and_the_density(restored: float) -> None:
    with pytest.raises(InputError, match="restored"):
        plan_network_with_elements(two_layers(), 0.25, restored)
    with pytest.raises(InputError, match="density"):
        plan_network_with_elements(two_layers(), 1.5, 0.1)
