"""Which weights an N:M pattern keeps: the N largest magnitudes of each group of M consecutive elements.

A tie keeps the lower index, so that a mask is one function of the weights (the authors' argsort leaves ties to chance).
The mask says what may be non-zero: a kept weight may itself be zero, and a group keeps exactly N wherever it has N.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.groups import join_groups, require_mask, require_same_shape, resolve_axis, split_groups
from nmsim.sparsity.pattern import NMPattern

_BLOCK_ELEMENTS = 1 << 16
"""Elements ranked at a time: small enough for the comparisons to stay in a core's own cache."""


def nm_mask(weights: NDArray[Any], pattern: NMPattern, axis: int = -1) -> NDArray[np.bool_]:
    """Magnitude mask of `weights` (any rank, e.g. [O, I] or [O, R, S, C]) with groups along `axis`; bool, same shape.

    `axis` is the reduction of the GEMM that is to run sparse: -1 (I or C) for `forward`, 0 (O) for `backward_data`. A tail
    shorter than M keeps up to N of what it has. Complex weights, NaN and a missing axis raise InputError; infinities rank first.
    Source: Zhou et al., ICLR 2021 (arXiv 2102.04010), the mask of SR-STE.
    """
    axis = resolve_axis(weights, axis)
    grouped = split_groups(magnitudes(weights), pattern.m, axis)
    before, groups, m, after = grouped.shape
    lanes = np.ascontiguousarray(np.moveaxis(grouped, 2, 0)).reshape(m, -1)
    kept = np.empty(lanes.shape, dtype=np.bool_)
    block = max(1, _BLOCK_ELEMENTS // m)
    for start in range(0, lanes.shape[1], block):
        stop = start + block
        np.less(_rank(lanes[:, start:stop]), pattern.n, out=kept[:, start:stop])
    return join_groups(np.moveaxis(kept.reshape(m, before, groups, after), 0, 2), weights.shape, axis)


def apply(weights: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
    """`weights` where `mask` keeps them and +0 elsewhere, in the type of `weights`; InputError for unequal shapes."""
    require_same_shape(weights=weights, mask=require_mask(mask))
    # A product would turn a pruned infinity into NaN and a pruned negative into -0.
    return np.where(mask, weights, np.zeros((), dtype=weights.dtype))


def density(mask: NDArray[np.bool_]) -> float:
    """Share of elements kept, in [0, 1]; InputError for an empty mask."""
    if require_mask(mask).size == 0:
        raise InputError("an empty mask has no density", path="mask", value=mask.shape)
    return int(np.count_nonzero(mask)) / mask.size


def magnitudes(weights: NDArray[Any]) -> NDArray[Any]:
    """|weights| in a type that holds every magnitude and compares fast; InputError for NaN and for what has no order."""
    if weights.dtype.kind not in "fiub":
        raise InputError("weights are real numbers", path="weights", value=weights.dtype.name)
    if weights.dtype.kind == "i":
        # Two's complement: |lowest| wraps to itself, and read as unsigned it is the right magnitude.
        unsigned: NDArray[Any] = np.abs(weights).view(weights.dtype.str.replace("i", "u"))
        return unsigned
    if weights.dtype.kind != "f":
        return weights
    magnitudes: NDArray[Any] = np.abs(weights.astype(np.float32) if weights.dtype.itemsize == 2 else weights)
    nan = np.isnan(magnitudes)
    if nan.any():
        where = tuple(int(i) for i in np.unravel_index(int(nan.argmax()), nan.shape))
        raise InputError(f"weights hold NaN, the first at {list(where)}: nothing can be ranked", path="weights")
    return magnitudes


def _rank(lanes: NDArray[Any]) -> NDArray[np.uint8]:
    """Place of each element in its group, 0 for the largest; `lanes` is [m, groups], the result has its shape.

    Counts, pair by pair, who beats whom: for the M of real patterns that needs no sort, and a tie costs the later lane.
    """
    beaten_by = np.zeros(lanes.shape, dtype=np.uint8)
    for later in range(1, lanes.shape[0]):
        wins = (lanes[later] > lanes[:later]).view(np.uint8)
        beaten_by[:later] += wins
        beaten_by[later] += later - np.add.reduce(wins, axis=0, dtype=np.uint8)
    return beaten_by
