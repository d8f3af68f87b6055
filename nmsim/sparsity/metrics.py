"""What a mask keeps, how much masks change over training, and how many masks a pattern admits."""

from __future__ import annotations

from fractions import Fraction
from math import comb, factorial, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.groups import require_mask, require_same_shape
from nmsim.sparsity.pattern import NMPattern


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

    Exact for N = 1 and an upper bound beyond: for 2:4 it counts 144 masks of a 4x4 block where there are 90.
    InputError unless `elements` is a positive multiple of M^2.
    """
    per_block = prod(factorial(pattern.m - i) for i in range(pattern.n))
    return int(per_block ** _blocks(elements, pattern.m**2))


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
