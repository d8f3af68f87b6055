"""What an order of the channels is worth: reordering the inputs of a weight changes which of them share a group of M.

The function stays as it is if the producer's outputs are reordered alike, so the order costs nothing at run time (Pool & Yu,
NeurIPS 2021; NVIDIA apex's permutation search). An order is an int64 array [C], the old channel for each new place:
`weights[:, order]` is the reordered weight. Searches for good orders: `channel_swap`, `stripe_search`. Ordering the inputs
helps `forward` only; for `backward_data` the outputs are ordered: give the transpose.

Weights are matrices [rows, C], channels along the columns. A convolution [O, R, S, C] is the matrix [O R S, C]; several weights
that share their inputs are searched as one, stacked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.mask import magnitudes, nm_mask
from nmsim.sparsity.pattern import NMPattern

Order = NDArray[np.int64]
"""[C]: the old channel for each new place."""


def kept_magnitude(weights: NDArray[Any], pattern: NMPattern) -> float:
    """L1 norm of what the magnitude mask keeps along the columns: what the searches raise."""
    sizes = channel_magnitudes(weights)
    return float(sizes[nm_mask(sizes, pattern)].sum())


def free_rows_magnitude(weights: NDArray[Any], pattern: NMPattern) -> float:
    """L1 norm kept where each row is free to place its share of kept elements, N / M rounded down: no order can keep more."""
    sizes = np.sort(channel_magnitudes(weights), axis=1)
    pruned = sizes.shape[1] - sizes.shape[1] * pattern.n // pattern.m
    return float(sizes[:, pruned:].sum())


def efficacy(weights: NDArray[Any], pattern: NMPattern, order: Order) -> float:
    """How much of what grouping costs an order wins back: 0 for the present order, 1 for rows that are free.

    InputError where grouping costs nothing, or where `order` is no permutation of the channels.
    """
    present, free = kept_magnitude(weights, pattern), free_rows_magnitude(weights, pattern)
    if free <= present:
        raise InputError("the pattern costs nothing in the present order, so there is nothing to win back", path="weights")
    return (kept_magnitude(weights[:, require_order(order, weights.shape[1])], pattern) - present) / (free - present)


def inverse(order: Order) -> Order:
    """The order that undoes `order`: the new place of each old channel."""
    return np.argsort(require_order(order, order.size)).astype(np.int64)


def require_order(order: Order, channels: int) -> Order:
    """`order` itself; InputError unless it is a permutation of 0 to `channels` - 1."""
    if not np.array_equal(np.sort(order), np.arange(channels)):
        raise InputError(f"an order of {channels} channels is a permutation of 0 to {channels - 1}", path="order")
    return order


def channel_magnitudes(weights: NDArray[Any]) -> NDArray[np.float64]:
    """|weights| in double precision; InputError unless they are a finite real matrix."""
    if weights.ndim != 2:
        raise InputError("channels are the columns of a matrix", path="weights", value=weights.shape, fix="reshape to (-1, channels)")
    sizes = magnitudes(weights).astype(np.float64)
    if np.isinf(sizes).any():
        raise InputError("weights hold an infinity: sums of magnitudes can't be compared", path="weights")
    return sizes


def require_generator(escapes: int, rng: np.random.Generator | None) -> np.random.Generator:
    """The generator of the escapes; InputError where there are escapes and none is given."""
    if escapes < 0:
        raise InputError("there are 0 or more escapes", path="escapes", value=escapes)
    if escapes and rng is None:
        raise InputError("escapes are random", path="rng", fix="pass numpy.random.default_rng(seed)")
    return rng or np.random.default_rng(0)
