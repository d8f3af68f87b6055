"""Minimum-variance unbiased estimates: N:M versions of a gradient whose mean is the gradient.

Chmiel et al., ICLR 2023 (arXiv 2203.10991): keeping the largest of each group is the best choice for weights, but for neural
gradients its bias accumulates. There each kept element is drawn at random and divided by its probability. Of an output gradient
dY[T, O] the groups run along the tokens, the reduction of `backward_weight`, so that this product too has a sparse operand.

An element that is kept with probability p and then stands for a / p has variance a^2 (1/p - 1). With N kept in a group, the sum
is least for p = min(1, c |a|), c such that the probabilities sum to N: for 1:2 that is the paper's |a_1| / (|a_1| + |a_2|), for
2:4 it is 2 |a| / S where the largest is at most the sum of the others, else the largest is kept for sure. Any way of drawing N
elements with these probabilities attains the minimum; here one uniform number a group places N equally spaced points on the
cumulated probabilities (systematic sampling).

`two_draw_estimate` is the approximation that GPUs run for 2:4 (huyz2023/2by4-pretrain): one element drawn in proportion to its
magnitude, then another of the rest. It is unbiased too, with up to twice the variance. `greedy_estimate` is the biased way.

All take a numpy Generator, never the global state; the draws depend on the values, the axis and the generator alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.groups import join_groups, require_same_shape, resolve_axis, split_groups
from nmsim.sparsity.mask import apply, magnitudes, nm_mask
from nmsim.sparsity.pattern import NMPattern

TWO_OF_FOUR = NMPattern(2, 4)
_BLOCK_ELEMENTS = 1 << 16
"""Elements worked on at a time: small enough for the temporaries to stay in a core's own cache."""
_LARGEST_UNIFORM = 1 - 2.0**-40
"""Added to a sum of probabilities below 64, a larger one could round up to the next whole number and draw one too many."""

_Lanes = NDArray[np.float64]
"""One chunk of groups, [m, groups]."""


def minimum_variance_estimate(values: NDArray[Any], pattern: NMPattern, rng: np.random.Generator, axis: int = -1) -> NDArray[Any]:
    """An N:M array along `axis`, same shape and type, whose mean over draws is `values` and whose variance is the least there is.

    At most N of each group are non-zero, and zeros stay zero. A kept element can be larger than any of `values` (S / N for a
    group of sum S). InputError for what is not real, finite numbers or where there is no such axis.
    """
    return _by_lanes(values, pattern.m, axis, lambda lanes: _draw_systematic(lanes, pattern.n, rng))


def two_draw_estimate(values: NDArray[Any], rng: np.random.Generator, axis: int = -1) -> NDArray[Any]:
    """The unbiased 2:4 array of two successive draws: what `minimum_variance_estimate` is, at up to twice the variance."""
    return _by_lanes(values, TWO_OF_FOUR.m, axis, lambda lanes: _draw_twice(lanes, rng))


def greedy_estimate(values: NDArray[Any], pattern: NMPattern, axis: int = -1) -> NDArray[Any]:
    """The N largest of each group as they are: the least squared error of one array, and biased towards zero."""
    return apply(values, nm_mask(values, pattern, axis))


def least_variance_probabilities(values: NDArray[Any], pattern: NMPattern, axis: int = -1) -> NDArray[np.float64]:
    """The chance of each element in `minimum_variance_estimate`: min(1, c |a|), adding up to N (or to the non-zeros, if fewer)."""
    return _by_lanes(values.astype(np.float64), pattern.m, axis, lambda lanes: _probabilities(lanes, pattern.n))


def two_draw_probabilities(values: NDArray[Any], axis: int = -1) -> NDArray[np.float64]:
    """The chance of each element in `two_draw_estimate`: with t = |a| / S, t_i + |a_i| sum over j != i of t_j / (S - |a_j|)."""
    return _by_lanes(values.astype(np.float64), TWO_OF_FOUR.m, axis, _two_draw_probabilities)


def total_variance(values: NDArray[Any], probabilities: NDArray[np.float64]) -> float:
    """Sum over elements of a^2 (1/p - 1): the expected squared error of an unbiased estimate that keeps a with chance p.

    Infinite where an element that is not zero is never kept.
    """
    require_same_shape(values=values, probabilities=probabilities)
    counted = values != 0
    squares, chances = values[counted].astype(np.float64) ** 2, probabilities[counted]
    if (chances == 0).any():
        return float("inf")
    return float((squares * (1 / chances - 1)).sum())


def _by_lanes(values: NDArray[Any], m: int, axis: int, of_lanes: Callable[[_Lanes], _Lanes]) -> NDArray[Any]:
    """Applies a function of signed lanes [m, groups] chunk by chunk; the result has the shape and the type of `values`."""
    axis = resolve_axis(values, axis)
    if values.dtype.kind != "f" or not np.isfinite(magnitudes(values)).all():
        raise InputError("an unbiased estimate is of finite floating-point numbers", path="values", value=values.dtype.name)
    grouped = split_groups(values, m, axis)
    before, groups, _, after = grouped.shape
    lanes = np.ascontiguousarray(np.moveaxis(grouped, 2, 0)).reshape(m, -1)
    result = np.empty_like(lanes)
    step = max(1, _BLOCK_ELEMENTS // m)
    for start in range(0, lanes.shape[1], step):
        result[:, start : start + step] = of_lanes(lanes[:, start : start + step].astype(np.float64))
    return join_groups(np.moveaxis(result.reshape(m, before, groups, after), 0, 2), values.shape, axis)


def _probabilities(lanes: _Lanes, n: int) -> _Lanes:
    sizes = np.abs(lanes)
    certain = np.zeros(sizes.shape, dtype=np.bool_)
    # Raising c makes some of the largest certain, which leaves more chance to the others, so that more may become certain:
    # each round adds at least one, and no more than N can be.
    for _ in range(n):
        share, left = _share_of_the_rest(sizes, certain, n)
        newly = ~certain & (sizes > 0) & (sizes * share >= left)
        if not newly.any():
            break
        certain |= newly
    share, left = _share_of_the_rest(sizes, certain, n)
    return np.where(certain, 1.0, sizes * (share / np.where(left > 0, left, 1.0)))


def _share_of_the_rest(sizes: _Lanes, certain: NDArray[np.bool_], n: int) -> tuple[Any, _Lanes]:
    """How many elements of each group are still to be drawn, and the magnitude among which they are."""
    return n - np.count_nonzero(certain, axis=0), np.where(certain, 0.0, sizes).sum(axis=0)


def _draw_systematic(lanes: _Lanes, n: int, rng: np.random.Generator) -> _Lanes:
    chances = _probabilities(lanes, n)
    offset = np.minimum(rng.random(lanes.shape[1]), _LARGEST_UNIFORM)
    points = np.floor(np.minimum(np.cumsum(chances, axis=0), n) + offset)
    drawn = np.diff(points, axis=0, prepend=0.0) > 0
    return np.divide(lanes, chances, out=np.zeros_like(lanes), where=drawn)


def _two_draw_probabilities(lanes: _Lanes) -> _Lanes:
    sizes = np.abs(lanes)
    total = sizes.sum(axis=0)
    shares = sizes / np.where(total > 0, total, 1.0)
    others = _sum_of_others(sizes)
    # Where one element is all there is, no second is drawn, and nothing is left to divide by.
    ratios = np.divide(shares, others, out=np.zeros_like(shares), where=others > 0)
    return np.minimum(shares + sizes * _sum_of_others(ratios), 1.0)


def _draw_twice(lanes: _Lanes, rng: np.random.Generator) -> _Lanes:
    sizes = np.abs(lanes)
    first = _draw_one(sizes, rng)
    second = _draw_one(np.where(first, 0.0, sizes), rng)
    return np.divide(lanes, _two_draw_probabilities(lanes), out=np.zeros_like(lanes), where=first | second)


def _draw_one(sizes: _Lanes, rng: np.random.Generator) -> NDArray[np.bool_]:
    """One element of each group in proportion to its size, none where all are zero."""
    cumulated = np.cumsum(sizes, axis=0)
    point = rng.random(sizes.shape[1]) * cumulated[-1]
    passed: NDArray[np.bool_] = cumulated > point
    passed[1:] &= ~passed[:-1]
    return passed


def _sum_of_others(lanes: _Lanes) -> _Lanes:
    """Added up without the element itself, not subtracted from the sum: the difference would be rounding where one dominates."""
    return np.stack([np.delete(lanes, lane, axis=0).sum(axis=0) for lane in range(lanes.shape[0])])
