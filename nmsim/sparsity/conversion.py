"""AdaPrune: a trained network with unstructured sparsity becomes N:M with little or no training.

Hubara et al., NeurIPS 2021 (arXiv 2102.08124), section on conversion, and the authors' code: for each layer choose the N that
nearly all groups of an unstructured mask of that sparsity obey already, hand what is pruned to the neighbours, then refit the
kept weights so that the layer's outputs on a few samples change least.

The authors refit by Adam on batches (1,000 steps). The problem is a least-squares one for each output, so here conjugate
gradients on the second moments of the inputs solve it, with nothing to tune.
"""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.groups import join_groups, require_mask, require_same_shape, split_groups
from nmsim.sparsity.pattern import NMPattern

DEFAULT_CONFIDENCE = 0.95
"""Share of the groups that must already have as many zeros as the pattern asks for."""


def at_least_zeros_probability(sparsity: float, m: int, zeros: int) -> float:
    """P(Binomial(M, sparsity) >= zeros): how often a group of a random mask has room for a pattern with that many zeros."""
    return sum(comb(m, k) * sparsity**k * (1 - sparsity) ** (m - k) for k in range(zeros, m + 1))


def pattern_for_sparsity(sparsity: float, m: int, confidence: float = DEFAULT_CONFIDENCE) -> NMPattern:
    """The N:M of fewest N for which more than `confidence` of the groups of an unstructured mask have M - N zeros already.

    `sparsity` is the share of zeros of the layer, in [0, 1]. N is at least 1. InputError for shares out of range.
    """
    for name, share in (("sparsity", sparsity), ("confidence", confidence)):
        if not 0 <= share <= 1:
            raise InputError("a share lies in [0, 1]", path=name, value=share)
    NMPattern(m, m)
    likely = [zeros for zeros in range(m) if at_least_zeros_probability(sparsity, m, zeros) > confidence]
    return NMPattern(m - max(likely, default=0), m)


def absorb_mean(weights: NDArray[Any], mask: NDArray[np.bool_], m: int, axis: int = -1) -> NDArray[Any]:
    """Pruned `weights` whose groups of M along `axis` sum to what they did: each kept one takes an equal part of the pruned sum.

    Inputs with like means then give like outputs. A group of which `mask` keeps nothing becomes zero. Same shape and type.
    """
    require_same_shape(weights=weights, mask=require_mask(mask))
    groups, kept = split_groups(weights, m, axis), split_groups(mask, m, axis)
    pruned_sum = np.where(kept, 0, groups).sum(axis=2, keepdims=True)
    takers = np.maximum(kept.sum(axis=2, keepdims=True), 1)
    absorbed = np.where(kept, groups + pruned_sum / takers, 0).astype(weights.dtype)
    return join_groups(absorbed, weights.shape, axis % weights.ndim)


def refit_kept_weights(
    weights: NDArray[Any], mask: NDArray[np.bool_], inputs: NDArray[Any], *, iterations: int = 200, tolerance: float = 1e-6
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The pruned weights, and the change of the bias, for which a linear layer's outputs on `inputs` change least in squares.

    `weights` and `mask` are [O, I], `inputs` [samples, I]; gives weights [O, I] in their type and the change of the bias [O].
    Stops once each output's residual is `tolerance` of what it was at the pruned weights. With fewer samples than kept inputs
    many weights fit equally well; those nearest the pruned ones along the way are given.
    """
    require_same_shape(weights=weights, mask=require_mask(mask))
    if weights.ndim != 2 or inputs.ndim != 2 or inputs.shape[1] != weights.shape[1] or len(inputs) == 0:
        raise InputError("weights are [O, I] and inputs [samples, I]", path="inputs", value=(weights.shape, inputs.shape))
    mean = inputs.mean(axis=0, dtype=np.float64)
    # A bias is free to follow, so only the scatter about the mean has to be matched.
    centred = inputs - mean
    moments = centred.T @ centred / len(inputs)
    dense = weights.astype(np.float64)
    fitted = np.where(mask, dense, 0.0)
    fitted += _conjugate_gradients(moments, mask, ((dense - fitted) @ moments) * mask, iterations, tolerance)
    return fitted.astype(weights.dtype), ((dense - fitted) @ mean).astype(weights.dtype)


def _conjugate_gradients(
    moments: NDArray[np.float64], mask: NDArray[np.bool_], residual: NDArray[np.float64], iterations: int, tolerance: float
) -> NDArray[np.float64]:
    """The step [O, I] on the kept elements with step @ moments = residual there; every row is a system of its own."""
    # Jacobi: inputs of unlike scale would otherwise take as many iterations as the scales are apart.
    scale = np.divide(1.0, np.diag(moments), out=np.zeros(len(moments)), where=np.diag(moments) > 0)
    step, preconditioned = np.zeros_like(residual), residual * scale
    direction = preconditioned.copy()
    energy = (residual * preconditioned).sum(axis=1)
    goal = energy * tolerance**2
    for _ in range(iterations):
        active = energy > goal
        if not active.any():
            break
        along = (direction @ moments) * mask
        curvature = (direction * along).sum(axis=1)
        # Rows that are done, or whose direction the inputs never excite, stay where they are.
        length = np.divide(energy, curvature, out=np.zeros_like(energy), where=active & (curvature > 0))[:, np.newaxis]
        step += length * direction
        residual = residual - length * along
        preconditioned = residual * scale
        following = (residual * preconditioned).sum(axis=1)
        turn = np.divide(following, energy, out=np.zeros_like(energy), where=energy > 0)
        direction, energy = preconditioned + turn[:, np.newaxis] * direction, following
    return step
