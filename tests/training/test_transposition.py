"""Transposable masks in torch: optimal where that is claimed, legal along both axes everywhere."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.pattern import NMPattern
from nmsim.training.transposition import admissible_block_count, admissible_blocks, transposable_mask


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
        # The greedy search may stall short of the full count, the exact one never does.
        assert mask.mean() >= (1 if parsed.m <= 4 else 0.9) * parsed.n / parsed.m - 1e-9


def test_blocks_are_windows_of_the_operand_and_a_tap_has_its_own():
    weights = torch.randn(8, 3, 3, 8)
    mask = transposable_mask(weights, NMPattern(2, 4))
    for r, s in product(range(3), range(3)):
        assert torch.equal(mask[:, r, s], transposable_mask(weights[:, r, s], NMPattern(2, 4)))


def test_the_greedy_search_of_large_blocks_keeps_nearly_what_rows_alone_would(vectors):
    """Algorithm sheet, 4:8 on Gaussian weights: optimal .742, keep-greedy .734 of the L1 norm, against .767 along rows alone."""
    weights = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    mask = transposable_mask(weights, NMPattern(4, 8))
    assert float(weights[mask].abs().sum() / weights.abs().sum()) == pytest.approx(0.734, abs=0.005)


def test_admissible_blocks_are_counted_as_in_the_literature(vectors):
    counts = vectors["mask_diversity_8x8"]["counts"]
    assert admissible_block_count(NMPattern(4, 8)) == int(counts["4:8-T exact"])
    assert admissible_block_count(NMPattern(2, 8)) == int(counts["2:8-T exact"])
    assert admissible_block_count(NMPattern(2, 4)) ** 4 == int(counts["2:4-T exact"])
    for pattern in (NMPattern(1, 2), NMPattern(1, 4), NMPattern(2, 4), NMPattern(3, 4)):
        assert len(admissible_blocks(pattern)) == admissible_block_count(pattern)
