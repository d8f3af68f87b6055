from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.sparsity.granularities import block_masks, unstructured_masks, vector_pattern
from nmsim.sparsity.mask import nm_mask
from nmsim.sparsity.metrics import retained_magnitude
from nmsim.sparsity.tile_wise import mask_of_plan, plan_network


@pytest.mark.parametrize(("name", "density"), [("unstructured50", 0.5), ("unstructured75", 0.25)])
def test_unstructured_masks_retain_what_the_vectors_say(vectors: dict[str, Any], name: str, density: float) -> None:
    weights = np.random.default_rng(0).standard_normal((256, 256))
    mask = unstructured_masks({"w": weights}, density)["w"]
    expected = vectors["retained_l1_fraction_gaussian_256x256_seed0"]["fraction"][name]
    assert retained_magnitude(weights, mask) == pytest.approx(expected, rel=1e-12)


def test_unstructured_pruning_ranks_the_whole_network_and_keeps_the_exact_share() -> None:
    rng = np.random.default_rng(1)
    weights = {"small": 0.1 * rng.standard_normal((20, 30)), "conv": rng.standard_normal((4, 3, 3, 5)), "bias": rng.standard_normal(7)}
    masks = unstructured_masks(weights, 0.3)
    total = sum(weight.size for weight in weights.values())
    assert sum(int(mask.sum()) for mask in masks.values()) == round(0.3 * total)
    least_kept = min(np.abs(weights[name][mask]).min() for name, mask in masks.items() if mask.any())
    assert all(np.abs(weights[name][~mask]).max(initial=0) <= least_kept for name, mask in masks.items())
    assert masks["small"].mean() < masks["conv"].mean()


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1), st.integers(1, 9), st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_block_masks_are_whole_blocks_the_best_ones_and_near_the_share(
    seed: int, density: float, block: int, shape: tuple[int, int]
) -> None:
    weights = np.random.default_rng(seed).standard_normal(shape)
    mask = block_masks({"w": weights}, density, block)["w"]
    kept, pruned = [], []
    for row in range(0, shape[0], block):
        for column in range(0, shape[1], block):
            part = np.s_[row : row + block, column : column + block]
            assert mask[part].all() or not mask[part].any()
            (kept if mask[part].all() else pruned).append(np.sqrt((weights[part] ** 2).mean()))
    assert kept
    assert not pruned or max(pruned) <= min(kept)
    if len(kept) > 1:
        assert abs(mask.sum() - density * mask.size) <= block**2 / 2


def test_blocks_are_ranked_over_the_whole_network() -> None:
    rng = np.random.default_rng(2)
    weights = {"weak": rng.standard_normal((64, 64)), "strong": 3 * rng.standard_normal((64, 64))}
    masks = block_masks(weights, 0.5)
    # One block of `weak` is kept for its layer's sake, and one of `strong` gives way to it.
    assert (masks["weak"].sum(), masks["strong"].sum()) == (1024, 3 * 1024)


def test_vectors_of_sixteen_keep_the_same_number_each() -> None:
    assert [str(vector_pattern(density)) for density in (0.25, 0.5, 0.01, 1.0)] == ["4:16", "8:16", "1:16", "16:16"]
    weights = np.random.default_rng(3).standard_normal((64, 24))
    mask = nm_mask(weights, vector_pattern(0.25), axis=0)
    assert (mask.reshape(4, 16, 24).sum(axis=1) == 4).all()


def test_the_finer_the_unit_the_more_magnitude_is_kept() -> None:
    weights = np.random.default_rng(4).standard_normal((256, 256))
    kept = [
        retained_magnitude(weights, mask)
        for mask in (
            unstructured_masks({"w": weights}, 0.25)["w"],
            nm_mask(weights, vector_pattern(0.25), axis=0),
            nm_mask(weights, vector_pattern(0.25, 4), axis=0),
            mask_of_plan(*plan_network({"w": weights}, 0.25, 32, "1d")["w"], 32),
            block_masks({"w": weights}, 0.25)["w"],
        )
    ]
    assert kept == sorted(kept, reverse=True)


def test_what_has_no_blocks_is_refused() -> None:
    with pytest.raises(InputError, match="layer: blocks are cut"):
        block_masks({"layer": np.zeros((2, 2, 2))}, 0.5)
    with pytest.raises(InputError, match="one element wide"):
        block_masks({"layer": np.zeros((2, 2))}, 0.5, 0)
    with pytest.raises(InputError, match="NaN"):
        unstructured_masks({"layer": np.array([np.nan])}, 0.5)
