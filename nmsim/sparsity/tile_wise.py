"""Tile-wise pruning (TW): the baseline whose tiles stay dense, so that it needs no sparse tensor core.

Guo et al., SC20 (arXiv 2008.13006). A weight is W[K, N], reduction by output (the transpose of a stored [O, I]). Whole columns
go first; the kept ones are packed into tiles of `tile_width`, the last of a layer may be narrower; then each tile drops rows of
its own. What is left of a tile is a dense, gathered GEMM. Columns and rows are ranked over the *whole network*:

* *2-D*: columns by root mean square down to the square root of the density, then row vectors by L2 norm / width down to the density;
* *1-D*: row vectors alone, on all columns.

Two departures from the authors' code, which ranks by L2 / length and counts units. Columns are ranked by L2 / sqrt(K): the norm of
K like elements grows as sqrt(K), so L2 / K would empty the layers with the longest reduction first whatever their weights are (for
equal K the order is the same). And what is kept is counted in elements, not in units, so that narrow tiles don't bend the density:
the kept share is within half a row vector of the asked one wherever the network is not so small that the next rule binds.
No layer is ever dropped: each keeps at least its best column, and each tile its best row, even where that exceeds the density.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.ranking import keep_best, require_density

DEFAULT_TILE_WIDTH = 128
"""Output columns of a tile: the N of the CUTLASS tile that the authors run (clevercool/TileSparsity)."""

Plan = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""(columns bool [N], rows bool [tiles, K]) of one weight."""


def plan_network(
    weights: Mapping[str, NDArray[Any]],
    density: float,
    tile_width: int = DEFAULT_TILE_WIDTH,
    mode: Literal["1d", "2d"] = "2d",
    least_share: float = 0.0,
) -> dict[str, Plan]:
    """Kept columns and, for each tile of kept columns, kept rows of every weight W[K, N] of a network.

    `density` in (0, 1] is the share of the network's weight elements to keep. Ties keep the earlier layer, tile and index.
    Of each weight at least `least_share` of its elements stay (in 2-D, its square root of the columns and of each tile's rows), even
    where another layer's would rank higher. The authors' code has no such floor: it ranks accumulated Taylor importance
    (clevercool/TileSparsity prune_algo.py), which compares across layers, while magnitudes all but empty layers of small weights.
    InputError for anything but non-empty real matrices without NaN, a density out of range, or an unknown mode.
    """
    _check_request(weights, density, tile_width, mode)
    if not 0 <= least_share <= density:
        raise InputError(
            "a layer can't be promised more than the whole keeps", path="least_share", value=least_share, fix=f"use 0 to {density:g}"
        )
    floor = float(np.sqrt(least_share)) if mode == "2d" else least_share
    total = sum(weight.size for weight in weights.values())
    columns = {name: np.ones(weight.shape[1], dtype=np.bool_) for name, weight in weights.items()}
    if mode == "2d":
        scores = {name: _column_scores(weight)[np.newaxis] for name, weight in weights.items()}
        lengths = [np.full((1, 1), weight.shape[0]) for weight in weights.values()]
        kept = keep_best(list(scores.values()), lengths, float(np.sqrt(density)) * total, floor)
        columns = {name: chosen[0] for name, chosen in zip(weights, kept, strict=True)}
    scores = {name: _row_scores(weight, columns[name], tile_width) for name, weight in weights.items()}
    widths = [_tile_widths(columns[name], tile_width)[:, np.newaxis] for name in weights]
    rows = keep_best(list(scores.values()), widths, density * total, floor)
    return {name: (columns[name], chosen) for name, chosen in zip(weights, rows, strict=True)}


def mask_of_plan(columns: NDArray[np.bool_], rows: NDArray[np.bool_], tile_width: int = DEFAULT_TILE_WIDTH) -> NDArray[np.bool_]:
    """The element mask bool [K, N] of a plan; InputError where `rows` has not one entry a tile."""
    widths = _widths_of_plan(columns, rows, tile_width)
    mask = np.zeros((rows.shape[1], columns.size), dtype=np.bool_)
    mask[:, np.flatnonzero(columns)] = np.repeat(rows, widths, axis=0).T
    return mask


def kept_macs(columns: NDArray[np.bool_], rows: NDArray[np.bool_], tile_width: int = DEFAULT_TILE_WIDTH) -> int:
    """MACs of the gathered tiles for one row of the other operand: the sum over tiles of kept rows x tile columns."""
    return int(np.count_nonzero(rows, axis=1) @ _widths_of_plan(columns, rows, tile_width))


def _column_scores(weight: NDArray[Any]) -> NDArray[np.float64]:
    """Root mean square of each column, [N]."""
    squares = np.zeros(weight.shape[1])
    # A slab of rows at a time: a double-precision copy of a whole large weight would be twice or four times its size.
    for start in range(0, weight.shape[0], 1024):
        slab = weight[start : start + 1024].astype(np.float64)
        squares += np.einsum("kn,kn->n", slab, slab)
    scores: NDArray[np.float64] = np.sqrt(squares / weight.shape[0])
    return scores


def _row_scores(weight: NDArray[Any], columns: NDArray[np.bool_], tile_width: int) -> NDArray[np.float64]:
    """L2 norm / width of each row vector in each tile of kept columns, [tiles, K]."""
    kept = np.flatnonzero(columns)
    scores = np.empty((-(-kept.size // tile_width), weight.shape[0]))
    for tile in range(scores.shape[0]):
        members = kept[tile * tile_width : (tile + 1) * tile_width]
        vectors = weight[:, members].astype(np.float64)
        scores[tile] = np.sqrt(np.einsum("kn,kn->k", vectors, vectors)) / members.size
    return scores


def _tile_widths(columns: NDArray[np.bool_], tile_width: int) -> NDArray[np.int64]:
    """Columns in each tile of kept columns; all `tile_width` but perhaps the last."""
    kept = int(np.count_nonzero(columns))
    widths = np.full(-(-kept // tile_width), tile_width, dtype=np.int64)
    if kept % tile_width:
        widths[-1] = kept % tile_width
    return widths


def _widths_of_plan(columns: NDArray[np.bool_], rows: NDArray[np.bool_], tile_width: int) -> NDArray[np.int64]:
    if tile_width < 1:
        raise InputError("a tile is at least one column wide", path="tile_width", value=tile_width)
    widths = _tile_widths(columns, tile_width)
    if columns.ndim != 1 or rows.ndim != 2 or rows.shape[0] != widths.size:
        kept = int(np.count_nonzero(columns))
        raise InputError(f"{kept} kept columns make {widths.size} tiles of {tile_width}, and rows has one entry a tile", value=rows.shape)
    return widths


def _check_request(weights: Mapping[str, NDArray[Any]], density: float, tile_width: int, mode: str) -> None:
    if not weights:
        raise InputError("there is no weight to prune", path="weights")
    require_density(density)
    if tile_width < 1:
        raise InputError("a tile is at least one column wide", path="tile_width", value=tile_width)
    if mode not in ("1d", "2d"):
        raise InputError("tile-wise pruning is 1d or 2d", path="mode", value=mode)
    for name, weight in weights.items():
        if weight.ndim != 2 or weight.size == 0 or weight.dtype.kind not in "fiu":
            raise InputError(
                "tile-wise pruning takes non-empty real matrices [K, N]", path=name, value=f"{weight.dtype.name} {list(weight.shape)}"
            )
        if weight.dtype.kind == "f" and np.isnan(weight).any():
            raise InputError("the weight holds NaN: nothing can be ranked", path=name)
