"""Transposable N:M masks in torch: at most N of every M along rows *and* columns of each M x M block of a weight.

M up to 4: the exact optimum, by scoring every admissible block (90 for 2:4) in one matrix product, as Hu et al. do (ICML 2024,
arXiv 2404.01847). Larger M: descending keep-greedy, the search that Hubara et al. ship (NeurIPS 2021, arXiv 2102.08124), which
may leave a block short of N M entries and has no useful bound; `nmsim.sparsity` holds solvers with guarantees.
Blocks are windows of the GEMM operand itself, [O, I] or one tap of [O, R, S, C], so that both reductions find their groups.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import combinations, product
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import pad

from nmsim.sparsity.pattern import NMPattern

LARGEST_EXACT_M = 4
LARGEST_COUNTED_M = 8
"""Beyond, counting takes longer than it is worth."""
_BLOCKS_AT_ONCE = 1 << 16


@cache
def admissible_blocks(pattern: NMPattern) -> Tensor:
    """Every M x M block that keeps exactly N in each row and column, float [count, M * M]: 2 for 1:2, 24 for 1:4, 90 for 2:4."""
    rows = [tuple(int(i in chosen) for i in range(pattern.m)) for chosen in combinations(range(pattern.m), pattern.n)]
    blocks = [block for block in product(rows, repeat=pattern.m) if all(sum(column) == pattern.n for column in zip(*block, strict=True))]
    return torch.tensor(blocks, dtype=torch.float32).flatten(1)


@cache
def admissible_block_count(pattern: NMPattern) -> int:
    """How many M x M blocks keep exactly N in each row and column: 90 for 2:4, 116,963,796,250 for 4:8."""
    # Columns are alike, so what counts is how much room each has left, sorted.
    rooms = Counter({(pattern.n,) * pattern.m: 1})
    for _ in range(pattern.m):
        after: Counter[tuple[int, ...]] = Counter()
        for room, ways in rooms.items():
            for chosen in combinations(range(pattern.m), pattern.n):
                if all(room[column] for column in chosen):
                    after[tuple(sorted(left - (column in chosen) for column, left in enumerate(room)))] += ways
        rooms = after
    return rooms[(0,) * pattern.m]


def transposable_mask(weights: Tensor, pattern: NMPattern) -> Tensor:
    """Bool mask of `weights`, [O, I] or [O, R, S, C], whose groups of M obey N:M along the last axis and along axis 0.

    Tails shorter than M are zero-padded, so that they keep up to N of what they have.
    """
    planes = weights.detach().float().abs().movedim(0, -2)
    outputs, inputs = planes.shape[-2:]
    m = pattern.m
    padded = pad(planes, (0, -inputs % m, 0, -outputs % m))
    rows, columns = padded.shape[-2] // m, padded.shape[-1] // m
    leading = padded.numel() // (padded.shape[-2] * padded.shape[-1])
    blocks = padded.reshape(leading, rows, m, columns, m).transpose(2, 3).reshape(-1, m * m)
    search = _exact if m <= LARGEST_EXACT_M else _greedy
    kept = torch.cat([search(part, pattern) for part in torch.split(blocks, _BLOCKS_AT_ONCE)])
    joined = kept.reshape(leading, rows, columns, m, m).transpose(2, 3).reshape(leading, rows * m, columns * m)
    return joined[:, :outputs, :inputs].reshape(planes.shape).movedim(-2, 0)


def search_operations(shape: tuple[int, ...], pattern: NMPattern) -> int:
    """Operations of one search: two for each weight and admissible block, or a sort and two counters for each weight."""
    elements = prod(shape)
    if pattern.m <= LARGEST_EXACT_M:
        return 2 * len(admissible_blocks(pattern)) * elements
    return elements * (2 * (pattern.m - 1).bit_length() + 2)


def _exact(blocks: Tensor, pattern: NMPattern) -> Tensor:
    """The best admissible block for each of `blocks` [count, M * M]."""
    candidates = admissible_blocks(pattern).to(blocks.device)
    return candidates[(blocks @ candidates.t()).argmax(1)] > 0


def _greedy(blocks: Tensor, pattern: NMPattern) -> Tensor:
    """Entries of each block in falling magnitude, each kept while its row and its column have room."""
    m = pattern.m
    count = torch.arange(len(blocks), device=blocks.device)
    order = blocks.argsort(stable=True, dim=1, descending=True)
    in_row = torch.zeros(len(blocks), m, dtype=torch.uint8, device=blocks.device)
    in_column = torch.zeros_like(in_row)
    kept = torch.zeros_like(blocks, dtype=torch.bool)
    for place in order.unbind(1):
        row, column = place // m, place % m
        fits = (in_row[count, row] < pattern.n) & (in_column[count, column] < pattern.n)
        kept[count, place] = fits
        in_row[count, row] += fits
        in_column[count, column] += fits
    return kept
