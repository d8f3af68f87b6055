"""What a mask keeps, how much masks change over training, and how many masks a pattern admits."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from math import comb, factorial, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.groups import require_mask, require_same_shape
from nmsim.sparsity.pattern import NMPattern

_MAX_COUNTED_STATES = 10_000
"""States over which transposable masks are counted; 4:16 has 4,845."""


def sad(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> int:
    """Sparse architecture divergence ||E_i - E_j||_1: elements on which two masks differ (Zhou et al., ICLR 2021)."""
    return newly_kept(before, after) + newly_pruned(before, after)


def flip_rate(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> float:
    """SAD over the number of elements, in [0, 1] (Hu et al., ICML 2024); InputError for empty masks."""
    changed = sad(before, after)
    if before.size == 0:
        raise InputError("an empty mask has no flip rate", path="before", value=before.shape)
    return changed / before.size


def newly_pruned(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> int:
    """Elements kept before and not after; equals `newly_kept` where both masks keep exactly N of every M."""
    require_same_shape(before=require_mask(before), after=require_mask(after))
    return int(np.count_nonzero(before & ~after))


def newly_kept(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> int:
    """Elements kept after and not before."""
    return newly_pruned(after, before)


def retained_magnitude(weights: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """Share of the L1 norm of `weights` that `mask` keeps, in [0, 1]; InputError where all weights are zero."""
    require_same_shape(weights=weights, mask=require_mask(mask))
    magnitudes = np.abs(weights.astype(np.float64))
    total = float(magnitudes.sum())
    if total == 0:
        raise InputError("weights that are all zero have no magnitude to retain", path="weights")
    return float(magnitudes[mask].sum()) / total


def mask_diversity(elements: int, pattern: NMPattern) -> int:
    """Masks that keep exactly N of every M of `elements` elements: C(M, N) ** (elements / M), exact.

    InputError unless `elements` is a positive multiple of M. Source: Hubara et al., NeurIPS 2021 (arXiv 2102.08124).
    """
    return int(comb(pattern.m, pattern.n) ** _blocks(elements, pattern.m))


def transposable_mask_diversity_formula(elements: int, pattern: NMPattern) -> int:
    """The product formula for masks that keep N of M along rows *and* columns: (M! (M-1)! ... (M-N+1)!) ** (elements / M^2).

    Exact for N = 1 and no bound beyond: for 2:4 it says 144 masks of a 4x4 block where there are 90, for 2:16 it says fewer than
    there are (`transposable_mask_diversity` counts them). It is given as that of Hubara et al., NeurIPS 2021, in a third
    party's summary of the paper.
    InputError unless `elements` is a positive multiple of M^2.
    """
    per_block = prod(factorial(pattern.m - i) for i in range(pattern.n))
    return int(per_block ** _blocks(elements, pattern.m**2))


def transposable_mask_diversity(elements: int, pattern: NMPattern) -> int:
    """Masks that keep exactly N of every M along rows *and* columns of M x M blocks, counted: 90 a block for 2:4.

    Counted this way 4:8 both ways admits fewer masks than 2:4 along rows alone; the product formula says the reverse.
    InputError unless `elements` is a positive multiple of M^2, and where the counting would not end in seconds (8:16).
    """
    blocks = _blocks(elements, pattern.m**2)
    # As many masks keep N as prune N.
    fewer = min(pattern.n, pattern.m - pattern.n)
    states = comb(pattern.m + fewer, fewer)
    if states > _MAX_COUNTED_STATES:
        raise InputError(
            f"counting takes C(M + N, N) states, here {states:,}, and is done up to {_MAX_COUNTED_STATES:,}",
            path="pattern",
            value=str(pattern),
            fix="take the product formula for the order of magnitude",
        )
    return int(_ways_to_fill((0,) * fewer + (pattern.m,), fewer) ** blocks)


@cache
def _ways_to_fill(columns_with_room: tuple[int, ...], quota: int) -> int:
    """Ways to choose `quota` elements in each row until no column has room; entry i counts the columns with room for i more."""
    if not any(columns_with_room[1:]):
        return 1
    total = 0
    for taken in _splits(quota, columns_with_room[1:]):
        left, ways = list(columns_with_room), 1
        for room, count in enumerate(taken, start=1):
            ways *= comb(columns_with_room[room], count)
            left[room] -= count
            left[room - 1] += count
        total += ways * _ways_to_fill(tuple(left), quota)
    return total


def _splits(total: int, limits: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Every way to write `total` as one count for each limit, none above its limit."""
    if not limits:
        if total == 0:
            yield ()
        return
    for first in range(min(total, limits[0]) + 1):
        for rest in _splits(total - first, limits[1:]):
            yield (first, *rest)


def double_prune_extra_zeros(pattern: NMPattern) -> Fraction:
    """Expected share of all elements that a second N:M pruning, across the first one's groups, zeroes in addition.

    After the first pruning an element is kept with probability N/M, independently along the other axis, so a group there holds
    X ~ Binomial(M, N/M) non-zeros and loses max(0, X - N). Source: SLoPe (arXiv 2405.16325), which prunes W^T once more.
    """
    return sum((Fraction(x - pattern.n, pattern.m) * _probability(pattern, x) for x in range(pattern.n + 1, pattern.m + 1)), Fraction(0))


def crosswise_legal_probability(pattern: NMPattern) -> Fraction:
    """Probability that a group *across* the groups of a random N:M mask happens to obey N:M too (11/16 for 2:4).

    It is far from 1, and one bad group forbids the sparse kernel: a mask made for `forward` does not serve `backward_data`.
    """
    return sum((_probability(pattern, x) for x in range(pattern.n + 1)), Fraction(0))


def _probability(pattern: NMPattern, nonzeros: int) -> Fraction:
    """P(X = nonzeros) for X ~ Binomial(M, N/M)."""
    kept = pattern.density
    return comb(pattern.m, nonzeros) * kept**nonzeros * (1 - kept) ** (pattern.m - nonzeros)


def _blocks(elements: int, block: int) -> int:
    if elements < 1 or elements % block:
        raise InputError(f"the masks are counted over whole blocks of {block} elements", path="elements", value=elements)
    return elements // block
