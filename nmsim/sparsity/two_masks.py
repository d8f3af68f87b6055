"""Two masks of one weight, one for each product that has it: groups along the inputs for `forward`, along the outputs for `backward_data`.

Where a transposable mask is one that serves both, these methods let `backward_data` see other weights than `forward` did, each
within its own N:M. They differ in what the second mask is taken from:

* *BDWP* (Fang et al., arXiv 2309.13015): from the dense weight, so that each product keeps the most it can;
* *double pruning* (SLoPe, arXiv 2405.16325): from the weight that `forward` already pruned, so that nothing is used backwards that
  was not used forwards; the second pruning zeroes further elements (`nmsim.sparsity.metrics.double_prune_extra_zeros`);
* *Bi-Mask* (Zhang et al., ICML 2023, arXiv 2302.06058): the same after reordering the outputs, so that fewer are lost.

Masks are of the shape of the weights, [O, I] or [O, R, S, C]; outputs are axis 0 and inputs the last one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.groups import split_groups
from nmsim.sparsity.mask import apply, nm_mask
from nmsim.sparsity.pattern import NMPattern

OUTPUTS, INPUTS = 0, -1
DEFAULT_CANDIDATES = 100
"""Random orders among which the authors of Bi-Mask choose, anew every 100 steps."""


class TwoMasks(NamedTuple):
    """Both masks, bool, in the order of the weights."""

    forward: NDArray[np.bool_]
    backward_data: NDArray[np.bool_]


def bidirectional_masks(weights: NDArray[Any], pattern: NMPattern) -> TwoMasks:
    """BDWP: each mask the best along its own reduction; the two overlap in part only."""
    return TwoMasks(nm_mask(weights, pattern, INPUTS), nm_mask(weights, pattern, OUTPUTS))


def double_pruned_masks(weights: NDArray[Any], pattern: NMPattern) -> TwoMasks:
    """SLoPe: the N largest of every M inputs, and of those again the N largest of every M outputs."""
    forward = nm_mask(weights, pattern, INPUTS)
    return TwoMasks(forward, _prune_again(weights, forward, pattern))


def bi_masks(weights: NDArray[Any], pattern: NMPattern, order: NDArray[np.int64]) -> TwoMasks:
    """Bi-Mask: double pruning with the groups of the second mask taken in `order`, a permutation of the outputs.

    So `backward_data[order]` obeys the pattern along axis 0, and `backward_data` itself need not: the hardware has to read dY
    and the weight in that order. InputError where `order` is no permutation of the outputs.
    """
    if not np.array_equal(np.sort(order), np.arange(weights.shape[OUTPUTS])):
        raise InputError(f"an order of the outputs is a permutation of 0 to {weights.shape[OUTPUTS] - 1}", path="order")
    forward = nm_mask(weights, pattern, INPUTS)
    backward_data = np.empty_like(forward)
    backward_data[order] = _prune_again(weights[order], forward[order], pattern)
    return TwoMasks(forward, backward_data)


def best_output_order(
    weights: NDArray[Any], pattern: NMPattern, rng: np.random.Generator, candidates: int = DEFAULT_CANDIDATES
) -> NDArray[np.int64]:
    """Of `candidates` random orders of the outputs the one in which the second pruning leaves the most elements, [O]."""
    if candidates < 1:
        raise InputError("an order is chosen of at least one candidate", path="candidates", value=candidates)
    forward = nm_mask(weights, pattern, INPUTS)
    orders = [rng.permutation(weights.shape[OUTPUTS]) for _ in range(candidates)]
    return max(orders, key=lambda order: _kept_of_groups(forward[order], pattern))


def _prune_again(weights: NDArray[Any], forward: NDArray[np.bool_], pattern: NMPattern) -> NDArray[np.bool_]:
    # A group with fewer than N left would fill up with pruned elements.
    again: NDArray[np.bool_] = forward & nm_mask(apply(weights, forward), pattern, OUTPUTS)
    return again


def _kept_of_groups(mask: NDArray[np.bool_], pattern: NMPattern) -> int:
    """Elements that N:M along the outputs leaves of a mask, whichever they are."""
    left = np.count_nonzero(split_groups(mask, pattern.m, OUTPUTS), axis=2)
    return int(np.minimum(left, pattern.n).sum())
