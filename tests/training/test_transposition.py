"""Transposable masks in torch: optimal where that is claimed, legal along both axes everywhere."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from nmsim.errors import InputError
from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.transposable import transposable_mask as numpy_mask
from nmsim.training.transposition import SEARCHES, search_operations, transposable_mask


def test_the_optimum_of_the_vectors_is_found(vectors):
    for case in vectors["transposable_2of4_4x4"]["cases"]:
        weights = torch.tensor(case["absW"], dtype=torch.float32)
        mask = transposable_mask(weights, NMPattern(2, 4))
        assert float(weights[mask].sum()) == case["optimum_l1"]
        if case["n_optimal_masks"] == 1:
            assert mask.int().tolist() == case["optimal_mask"]


def test_no_block_of_any_kind_beats_the_exact_search():
    """Every 0/1 matrix of 4 x 4 with row and column sums of 2, enumerated without the search's own list."""
    blocks = [block for block in product((0, 1), repeat=16) if is_regular(np.array(block).reshape(4, 4), 2)]
    assert len(blocks) == 90
    weights = torch.randn(400, 4, 4)
    best = (weights.abs().flatten(1) @ torch.tensor(blocks, dtype=torch.float32).t()).amax(1)
    for block, optimum in zip(weights, best, strict=True):
        mask = transposable_mask(block, NMPattern(2, 4))
        assert float(block[mask].abs().sum()) == pytest.approx(float(optimum), rel=1e-6)


def is_regular(block, kept):
    return (block.sum(0) == kept).all() and (block.sum(1) == kept).all()


@pytest.mark.parametrize("pattern", ["1:2", "2:4", "1:4", "3:4", "4:8", "2:8", "8:16", "1:16", "16:32"])
@pytest.mark.parametrize("shape", [(64, 96), (32, 3, 3, 64), (33, 70), (8, 1, 1, 6)])
def test_both_axes_obey_also_for_convolutions_and_tails(pattern, shape):
    parsed = NMPattern.parse(pattern)
    mask = transposable_mask(torch.randn(shape), parsed).numpy()
    assert mask.shape == shape
    for axis in (0, len(shape) - 1):
        assert check_groups(mask, parsed, axis).violations == 0
    if all(size % parsed.m == 0 for size in (shape[0], shape[-1])):
        assert mask.mean() == pytest.approx(parsed.n / parsed.m)


def test_blocks_are_windows_of_the_operand_and_a_tap_has_its_own():
    weights = torch.randn(8, 3, 3, 8)
    mask = transposable_mask(weights, NMPattern(2, 4))
    for r, s in product(range(3), range(3)):
        assert torch.equal(mask[:, r, s], transposable_mask(weights[:, r, s], NMPattern(2, 4)))


@pytest.mark.parametrize("pattern", ["1:2", "1:4", "2:4", "4:8"])
@pytest.mark.parametrize("shape", [(16, 24), (8, 2, 2, 12), (10, 9)])
def test_the_search_in_torch_keeps_what_the_numpy_one_keeps(pattern, shape):
    """Weights on a grid, so that sums are exact in single precision; equally good masks may differ, so what is kept is compared."""
    parsed = NMPattern.parse(pattern)
    weights = torch.randint(-500, 500, shape).float()
    here, there = transposable_mask(weights, parsed), numpy_mask(weights.numpy(), parsed)
    assert float(weights[here].abs().sum()) == float(np.abs(weights.numpy()[there]).sum())


def test_searches_by_name_and_what_they_cost():
    weights = torch.randn(64, 64)
    kept = {search: float(weights[transposable_mask(weights, NMPattern(4, 8), search)].abs().sum()) for search in SEARCHES}
    assert kept["exact"] > kept["greedy"] > kept["two-approximation"]
    assert search_operations((64, 64), NMPattern(2, 4)) == 2 * 90 * 64 * 64
    with pytest.raises(InputError, match="no such mask search, got 'best'; choose one of exact, two-approximation, greedy"):
        transposable_mask(weights, NMPattern(2, 4), "best")
