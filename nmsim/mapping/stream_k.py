"""Stream-K: the last tiles of a launch cut where the work of equally busy slots ends, instead of where a tile does.

Osama et al., "Stream-K: Work-centric Parallel Decomposition for Dense Matrix-Matrix Multiplication on the GPU" (PPoPP 2023), in its
form with two tiles a slot: whole waves but one stay whole tiles; the k-tiles of the others are dealt out evenly.

Modelled: which k-tiles of which tile a slot gets, and that it walks through its share from the last tile to the first, so that
no slot waits for a share that has not begun. Not modelled: that one CTA runs all of its slot's share (here each part of a tile
is a CTA with a launch of its own, and a slot that is done early may take another's second part), and a workspace: parts add to the output
in place and in order, as a split reduction does (`nmsim.mapping.ctas`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nmsim.mapping.plan import K0, K1, SLICE, SLICES

Int64 = NDArray[np.int64]


def streamed_tiles(tiles: int, slots: int) -> int:
    """How many of a launch's tiles are cut: all beyond the whole waves, and one whole wave with them. None where waves are whole."""
    return 0 if tiles % slots == 0 else tiles - max(tiles // slots - 1, 0) * slots


def stream_k_table(tiles: Int64, k_tiles: Int64, k: Int64, k_tile: int, slots: int) -> Int64:
    """[CTAs, CTA_FIELDS] from one row an output tile, in raster order, with its `k_tiles` and its reduction's length `k`.

    Cut tiles come first, as the hardware must start them: of each slot its last part, then the one before, the parts of those slots
    first that are done first; whole tiles follow.
    """
    cut = streamed_tiles(len(tiles), slots)
    whole = tiles[cut:].copy()
    whole[:, K0], whole[:, K1], whole[:, SLICE], whole[:, SLICES] = 0, k[cut:], 0, 1
    if not cut:
        return whole
    begin_of_tile = np.concatenate(([0], np.cumsum(k_tiles[:cut])))
    total = int(begin_of_tile[-1])
    workers = min(slots, total)
    begin_of_worker = total * np.arange(workers + 1, dtype=np.int64) // workers
    edges = np.unique(np.concatenate((begin_of_tile, begin_of_worker)))
    begin, end = edges[:-1], edges[1:]
    tile = np.searchsorted(begin_of_tile, begin, side="right") - 1
    worker = np.searchsorted(begin_of_worker, begin, side="right") - 1

    parts = tiles[tile].copy()
    first = np.searchsorted(tile, tile)  # index of the tile's first part
    parts[:, SLICE] = np.arange(len(parts)) - first
    parts[:, SLICES] = np.bincount(tile, minlength=cut)[tile]
    parts[:, K0] = (begin - begin_of_tile[tile]) * k_tile
    parts[:, K1] = np.minimum((end - begin_of_tile[tile]) * k_tile, k[tile])

    done_before = begin_of_worker[worker + 1] - end  # what the slot has done when it comes to this part
    turn = np.searchsorted(worker, worker, side="right") - 1 - np.arange(len(parts))
    order = np.lexsort((worker, done_before, turn))
    return np.concatenate((parts[order], whole))
