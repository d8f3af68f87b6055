"""Which units of a whole network to keep, whatever a unit is: an element, a block, a column, a row of a tile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError


def keep_best(
    scores: list[NDArray[np.float64]], sizes: list[NDArray[np.int64]], budget: float, floor: float = 0.0
) -> list[NDArray[np.bool_]]:
    """Keeps the best units of a network: per weight, scores [owners, units] and how many elements a unit has, broadcast to them.

    The best unit of each owner, and as many as make its share `floor`, are kept whatever they cost; then units go in by falling
    score, and the cut is where the kept elements are nearest to `budget` (the smaller of two equally near). Ties keep the
    earlier weight, owner and unit.
    """
    best = [_place(score) < max(1, int(np.ceil(floor * score.shape[1] - 1e-9))) for score in scores]
    forced = np.concatenate([flags.ravel() for flags in best])
    flat = np.concatenate([score.ravel() for score in scores])
    elements = np.concatenate([np.broadcast_to(size, score.shape).ravel() for size, score in zip(sizes, scores, strict=True)])
    order = np.lexsort((-flat, ~forced))
    filled = np.concatenate([[0], np.cumsum(elements[order])])
    count = max(int(np.abs(filled - budget).argmin()), int(np.count_nonzero(forced)))
    kept = np.zeros(flat.size, dtype=np.bool_)
    kept[order[:count]] = True
    ends = np.cumsum([score.size for score in scores])[:-1]
    return [part.reshape(score.shape) for part, score in zip(np.split(kept, ends), scores, strict=True)]


def keep_largest(scores: Mapping[str, NDArray[Any]], count: int) -> dict[str, NDArray[np.bool_]]:
    """The `count` largest scores of all arrays together, as a bool mask of each; ties keep the earlier array and lower index.

    InputError unless 0 <= count <= the number of elements.
    """
    total = sum(score.size for score in scores.values())
    if not 0 <= count <= total:
        raise InputError(f"there are {total} elements to choose from", path="count", value=count)
    if not scores:
        return {}
    # Selection, not sorting: networks have 10^8 elements.
    flat = np.concatenate([score.ravel() for score in scores.values()])
    kept = np.zeros(total, dtype=np.bool_)
    if count:
        least = np.partition(flat, total - count)[total - count]
        kept = flat > least
        kept[np.flatnonzero(flat == least)[: count - int(np.count_nonzero(kept))]] = True
    ends = np.cumsum([score.size for score in scores.values()])[:-1]
    parts = np.split(kept, ends)
    return {name: part.reshape(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}


def require_density(density: float) -> float:
    """`density` itself; InputError unless it is a share in (0, 1]."""
    if not 0 < density <= 1:
        raise InputError("a density is a share in (0, 1]", path="density", value=density)
    return density


def _place(score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Place of each unit among its owner's by falling score, 0 for the best; of equals the first comes first."""
    order = np.argsort(-score, axis=1, kind="stable")
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.broadcast_to(np.arange(score.shape[1]), score.shape), axis=1)
    return place
