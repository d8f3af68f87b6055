"""Transposable N:M masks in a training step: at most N of every M along rows *and* columns of each M x M block of a weight.

The searches are those of `nmsim.sparsity.transposable`; up to M = 4 the exact one runs in torch, on the weight's own device, by
scoring every admissible block (90 for 2:4) in one matrix product, as Hu et al. do (ICML 2024, arXiv 2404.01847).
Blocks are windows of the GEMM operand itself, [O, I] or one tap of [O, R, S, C], so that both reductions find their groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import log2, prod

import torch
from torch import Tensor
from torch.nn.functional import pad

from nmsim.errors import InputError
from nmsim.sparsity import transposable
from nmsim.sparsity.pattern import NMPattern

LARGEST_SCORED_M = 4
"""Beyond, there are too many admissible blocks to score them all."""
_BLOCKS_AT_ONCE = 1 << 16
SEARCHES = {
    "exact": transposable.transposable_mask,
    "two-approximation": transposable.two_approximation_mask,
    "greedy": transposable.keep_greedy_mask,
}
"""Name -> search: the optimum; Hubara's 2-approximation, which may prune more than it must; the greedy that the authors ship."""


def require_search(search: str) -> None:
    """InputError for an unknown search."""
    if search not in SEARCHES:
        raise InputError("no such mask search", path="--recipe-option search", value=search, fix=f"choose one of {', '.join(SEARCHES)}")


def transposable_mask(weights: Tensor, pattern: NMPattern, search: str = "exact") -> Tensor:
    """Bool mask of `weights`, [O, I] or [O, R, S, C], whose groups of M obey N:M along the last axis and along axis 0.

    Tails shorter than M are zero-padded, so that they keep up to N of what they have.
    """
    require_search(search)
    if search != "exact" or pattern.m > LARGEST_SCORED_M:
        values = weights.detach().float().cpu().numpy()
        return torch.from_numpy(SEARCHES[search](values, pattern)).to(weights.device)
    return _best_block(weights, pattern)


def search_operations(shape: Sequence[int], pattern: NMPattern, search: str = "exact") -> int:
    """Operations of one search, from its complexity: two for each weight and scored block; a flow is M^3 log M a block, a sort
    M^2 log M^2 (Hubara et al., section on complexity).
    """
    elements, m = prod(shape), pattern.m
    if search != "exact":
        return round(elements * log2(m * m))
    return 2 * len(admissible_blocks(pattern)) * elements if m <= LARGEST_SCORED_M else round(elements * m * log2(m))


@cache
def admissible_blocks(pattern: NMPattern) -> Tensor:
    """Every M x M block that keeps exactly N in each row and column, float [count, M * M]: 2 for 1:2, 24 for 1:4, 90 for 2:4."""
    return torch.from_numpy(transposable.regular_patterns(pattern).astype("float32")).flatten(1)


def _best_block(weights: Tensor, pattern: NMPattern) -> Tensor:
    planes = weights.detach().float().abs().movedim(0, -2)
    outputs, inputs = planes.shape[-2:]
    m = pattern.m
    padded = pad(planes, (0, -inputs % m, 0, -outputs % m))
    rows, columns = padded.shape[-2] // m, padded.shape[-1] // m
    blocks = padded.reshape(-1, rows, m, columns, m).transpose(2, 3).reshape(-1, m * m)
    candidates = admissible_blocks(pattern).to(weights.device)
    kept = torch.cat([candidates[(part @ candidates.t()).argmax(1)] > 0 for part in torch.split(blocks, _BLOCKS_AT_ONCE)])
    joined = kept.reshape(-1, rows, columns, m, m).transpose(2, 3).reshape(-1, rows * m, columns * m)
    return joined[:, :outputs, :inputs].reshape(planes.shape).movedim(-2, 0)
