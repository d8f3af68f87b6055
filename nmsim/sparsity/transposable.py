"""Transposable masks: N:M along the outputs *and* along the inputs, so that one mask serves `forward` and `backward_data`.

Hubara et al., NeurIPS 2021 (arXiv 2102.08124): in each M x M window keep, of every row and of every column, exactly N, and of
the masks that do so the one that keeps the most magnitude. Three ways to such a mask, which are different algorithms:

* `transposable_mask` is optimal: every pattern is scored up to M = 4 (90 for 2:4, Hu et al., ICML 2024, arXiv 2404.01847), and a
  minimum-cost flow is solved above (the paper's exact method);
* `two_approximation_mask` is the paper's fast method: it prunes upwards, and what it loses is at most twice the least possible;
* `keep_greedy_mask` is what the authors' code runs instead: it keeps downwards, can stall below N and has no such bound.

The paper's N counts zeros; here N counts what is kept, as everywhere in nmsim. The edges of a weight that M does not divide are
padded with zeros to whole windows: there a row or column keeps at most N.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.blocks import WEIGHT_AXES, join_blocks, resolve_axes, split_blocks
from nmsim.sparsity.mask import magnitudes, nm_mask
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.regular_flow import cheapest_regular

_LARGEST_ENUMERATED_M = 4
_BLOCKS_AT_A_TIME = 128
"""Blocks scored at a time: a product so small stays on the calling thread, and BLAS's other threads would wait by spinning."""


def transposable_mask(weights: NDArray[Any], pattern: NMPattern, axes: tuple[int, int] = WEIGHT_AXES) -> NDArray[np.bool_]:
    """The mask of most magnitude that keeps exactly N of M along both `axes` of `weights` (rank >= 2); bool, same shape.

    Of equally good masks up to M = 4, the one that keeps the lower indices. InputError for weights that are not finite.
    """
    values = magnitudes(weights)
    if weights.dtype.kind == "f" and np.isinf(values).any():
        raise InputError("weights hold an infinity: sums of magnitudes can't be compared", path="weights")
    blocks = split_blocks(values, pattern.m, axes)
    best = _best_of_all if pattern.m <= _LARGEST_ENUMERATED_M else _best_by_flow
    return join_blocks(best(blocks, pattern), weights.shape, axes)


def two_approximation_mask(weights: NDArray[Any], pattern: NMPattern, axes: tuple[int, int] = WEIGHT_AXES) -> NDArray[np.bool_]:
    """Hubara's 2-approximation: in rising magnitude, prune what lies in a row *or* column that has fewer than M - N pruned.

    A row or column can so lose more than M - N and keep fewer than N. The magnitude lost is at most twice that of the best
    transposable mask. Ties prune the higher index first.
    """
    # While a row lacks prunings, everything of it that comes up is pruned: what it takes is its M - N smallest, and likewise a
    # column. So what is left is the N largest of the row that are also among the N largest of the column. (The bound follows:
    # neither of the two sets pruned weighs more than the best mask loses, since that one too prunes M - N of each row and column.)
    first, second = resolve_axes(weights, axes)
    return nm_mask(weights, pattern, first) & nm_mask(weights, pattern, second)


def keep_greedy_mask(weights: NDArray[Any], pattern: NMPattern, axes: tuple[int, int] = WEIGHT_AXES) -> NDArray[np.bool_]:
    """The greedy of the authors' code (`update_mask_approx2`) and apex's `mn_2d_greedy`: keep the largest that still fits.

    In falling magnitude (ties: lower index, row by row), an element is kept where its row and its column have kept fewer than N.
    It can stall with fewer than N of a row and its one free column, and keeps at least half of the most magnitude possible.
    """
    blocks = split_blocks(magnitudes(weights), pattern.m, axes)
    count, m, _ = blocks.shape
    # Falling order with a stable tie, whatever the type: rising order of the reversed elements, read backwards.
    rising = np.argsort(blocks.reshape(count, m * m)[:, ::-1], axis=1, kind="stable")
    order = np.ascontiguousarray((m * m - 1 - rising[:, ::-1]).T)
    kept = np.zeros((count, m * m), dtype=np.bool_)
    room_in_rows, room_in_columns = np.full((2, count, m), pattern.n, dtype=np.int8)
    every = np.arange(count)
    for element in order:
        row, column = np.divmod(element, m)
        fits = (room_in_rows[every, row] > 0) & (room_in_columns[every, column] > 0)
        kept[every, element] = fits
        room_in_rows[every, row] -= fits
        room_in_columns[every, column] -= fits
    return join_blocks(kept.reshape(blocks.shape), weights.shape, axes)


@cache
def regular_patterns(pattern: NMPattern) -> NDArray[np.bool_]:
    """Every M x M mask with exactly N in each row and column, [masks, M, M], those that keep the lower indices first.

    For M up to 4: 90 for 2:4, 24 for 1:4 and 3:4, 2 for 1:2. InputError above, where there are too many to list.
    """
    if pattern.m > _LARGEST_ENUMERATED_M:
        raise InputError(f"masks are listed up to M = {_LARGEST_ENUMERATED_M}", path="pattern", value=str(pattern))
    rows = [[column in kept for column in range(pattern.m)] for kept in combinations(range(pattern.m), pattern.n)]
    masks = np.array(list(product(rows, repeat=pattern.m)), dtype=np.bool_)
    found: NDArray[np.bool_] = masks[(masks.sum(axis=1) == pattern.n).all(axis=1)]
    found.flags.writeable = False
    return found


def _best_of_all(blocks: NDArray[Any], pattern: NMPattern) -> NDArray[np.bool_]:
    patterns = regular_patterns(pattern)
    elements = pattern.m**2
    flat, masks = blocks.reshape(-1, elements), patterns.reshape(-1, elements)
    weigh = masks.T.astype(np.float64)
    kept = np.empty(flat.shape, dtype=np.bool_)
    for start in range(0, len(flat), _BLOCKS_AT_A_TIME):
        # Doubles: in single precision the sums round, and the best of two near-equal masks would not be found.
        scores = flat[start : start + _BLOCKS_AT_A_TIME].astype(np.float64) @ weigh
        kept[start : start + _BLOCKS_AT_A_TIME] = masks[scores.argmax(axis=1)]
    return kept.reshape(blocks.shape)


def _best_by_flow(blocks: NDArray[Any], pattern: NMPattern) -> NDArray[np.bool_]:
    """Routes whichever is fewer, the kept or the pruned."""
    costs = blocks.astype(np.float64)
    if 2 * pattern.n <= pattern.m:
        return cheapest_regular(-costs, pattern.n)
    return ~cheapest_regular(costs, pattern.m - pattern.n)
