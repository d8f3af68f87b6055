"""The granularities that tile-wise pruning is measured against: single elements, blocks, and vectors with a fixed number kept.

Guo et al., SC20 (arXiv 2008.13006) and their code (clevercool/TileSparsity): EW ranks all elements of the network together, BW
all 32 x 32 blocks, VW keeps the same number of the largest in every vector of 16 along the reduction. VW *is* an N:M pattern, of
M = 16. Ranks are by magnitude; scores of another kind (the authors accumulate Taylor importance) can be given in the weights' place.

One departure: blocks are ranked by root mean square, not by norm, so that the cut blocks at the edge of a weight are judged by
their elements and not by their size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.mask import magnitudes
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.ranking import keep_best, keep_largest, require_density

DEFAULT_BLOCK, DEFAULT_VECTOR = 32, 16


def unstructured_masks(weights: Mapping[str, NDArray[Any]], density: float) -> dict[str, NDArray[np.bool_]]:
    """The largest magnitudes of the whole network, its share `density` to the element; weights of any shape.

    A layer whose weights are all small can be pruned away whole. Ties keep the earlier layer and lower index.
    """
    sizes = {name: magnitudes(weight) for name, weight in weights.items()}
    total = sum(size.size for size in sizes.values())
    return keep_largest(sizes, round(require_density(density) * total))


def block_masks(weights: Mapping[str, NDArray[Any]], density: float, block: int = DEFAULT_BLOCK) -> dict[str, NDArray[np.bool_]]:
    """The `block` x `block` blocks of largest root mean square in the whole network; weights are non-empty matrices.

    The share kept is the one nearest to `density` that whole blocks allow; every weight keeps at least its best block.
    """
    require_density(density)
    if block < 1:
        raise InputError("a block is at least one element wide", path="block", value=block)
    for name, weight in weights.items():
        if weight.ndim != 2 or weight.size == 0:
            raise InputError("blocks are cut from non-empty matrices", path=name, value=weight.shape)
    counts = {name: _sum_of_blocks(np.ones(weight.shape), block) for name, weight in weights.items()}
    scores = {
        name: np.sqrt(_sum_of_blocks(magnitudes(weight).astype(np.float64) ** 2, block) / counts[name]) for name, weight in weights.items()
    }
    total = sum(weight.size for weight in weights.values())
    kept = keep_best(
        [score.reshape(1, -1) for score in scores.values()],
        [count.reshape(1, -1).astype(np.int64) for count in counts.values()],
        density * total,
    )
    return {
        name: np.repeat(np.repeat(flags.reshape(scores[name].shape), block, axis=0), block, axis=1)[: weight.shape[0], : weight.shape[1]]
        for (name, weight), flags in zip(weights.items(), kept, strict=True)
    }


def vector_pattern(density: float, length: int = DEFAULT_VECTOR) -> NMPattern:
    """The pattern that keeps, of every vector of `length` along the reduction, the number nearest to `density` of it, at least 1."""
    return NMPattern(max(1, round(require_density(density) * length)), length)


def _sum_of_blocks(values: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    rows, columns = (np.arange(0, size, block) for size in values.shape)
    sums: NDArray[np.float64] = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    return sums
