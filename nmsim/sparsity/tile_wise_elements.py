"""Tile-element-wise pruning (TEW): tile-wise, with the best of what it pruned put back element by element.

Guo et al., SC20 (arXiv 2008.13006): prune tile-wise by a little more than is wanted, then restore the single elements of largest
magnitude of the whole network. The tiles run as dense, gathered GEMMs; the restored elements are a sparse remainder beside them,
which no tensor core runs. The authors restore 5 % of the elements in 1-D mode and 1 % in 2-D mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.mask import magnitudes
from nmsim.sparsity.ranking import keep_largest
from nmsim.sparsity.tile_wise import DEFAULT_TILE_WIDTH, mask_of_plan, plan_network

DEFAULT_RESTORED = {"1d": 0.05, "2d": 0.01}
"""Share of the network's elements that the authors' scripts restore, by mode."""


class ElementPlan(NamedTuple):
    """Of one weight W[K, N]: kept columns [N], kept rows of each tile [tiles, K], restored elements [K, N] outside the tiles."""

    columns: NDArray[np.bool_]
    rows: NDArray[np.bool_]
    elements: NDArray[np.bool_]


def plan_network_with_elements(
    weights: Mapping[str, NDArray[Any]],
    density: float,
    restored: float,
    tile_width: int = DEFAULT_TILE_WIDTH,
    mode: Literal["1d", "2d"] = "2d",
    least_share: float = 0.0,
) -> dict[str, ElementPlan]:
    """Tiles that keep `density` - `restored` of the network's elements, and the largest `restored` of the others.

    Both are shares of all elements, 0 < restored < density <= 1, else InputError; weights and `least_share`, which the tiles keep of
    each weight, as for `plan_network`.
    """
    if not 0 < restored < density:
        raise InputError("the restored share lies between 0 and the density", path="restored", value=restored)
    if density > 1:
        raise InputError("a density is a share in (0, 1]", path="density", value=density)
    plan = plan_network(weights, density - restored, tile_width, mode, least_share)
    in_tiles = {name: mask_of_plan(*plan[name], tile_width) for name in weights}
    # Below every magnitude, so that what a tile keeps is not restored once more.
    scores = {name: np.where(in_tiles[name], -1.0, magnitudes(weight)) for name, weight in weights.items()}
    pruned = sum(int(np.count_nonzero(~mask)) for mask in in_tiles.values())
    total = sum(weight.size for weight in weights.values())
    elements = keep_largest(scores, min(round(restored * total), pruned))
    return {name: ElementPlan(*plan[name], elements[name]) for name in weights}
