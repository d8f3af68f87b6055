"""The CTAs of a launch in the order the hardware starts them: groups, slices of K, batch, then a swizzled raster."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.mapping.plan import BATCH, CTA_FIELDS, GROUP, K0, K1, M0, M1, N0, N1, SLICE, SLICES, TILE
from nmsim.mapping.problem import Group

MAX_CTAS = 20_000_000
"""More than any GEMM that fits a machine's memory; keeps a typing error from taking all of ours."""


def raster(tiles_m: int, tiles_n: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tile coordinates in launch order: bands of `width` tile columns, each walked row by row (CUTLASS's swizzle)."""
    n = np.arange(tiles_n, dtype=np.int64)
    band, in_band = n // width, n % width
    widths = np.minimum(width, tiles_n - band * width)
    m = np.arange(tiles_m, dtype=np.int64)
    order = (band * width)[None, :] * tiles_m + m[:, None] * widths[None, :] + in_band[None, :]
    launch = np.empty(tiles_m * tiles_n, dtype=np.int64)
    launch[order.ravel()] = np.arange(tiles_m * tiles_n)
    return launch // tiles_n, launch % tiles_n


def count_ctas(groups: Sequence[Group], batch: int, tile: tuple[int, int, int], split_k: int) -> int:
    """CTAs a launch will have."""
    return sum(-(-g.m // tile[0]) * -(-g.n // tile[1]) for g in groups) * batch * split_k


def cta_table(groups: Sequence[Group], batch: int, tile: tuple[int, int, int], split_k: int, width: int) -> NDArray[np.int64]:
    """[CTAs, CTA_FIELDS]. Slices of K are whole k-tiles; all first slices start before any second one, so that the serial
    reduction (slice s waits for s - 1) cannot deadlock."""
    total = count_ctas(groups, batch, tile, split_k)
    if total > MAX_CTAS:
        raise InputError(f"the GEMM needs {total:,} CTAs, more than {MAX_CTAS:,}", fix="use smaller dimensions")
    table = np.empty((total, CTA_FIELDS), dtype=np.int64)
    filled = first_tile = 0
    slices = []
    for index, group in enumerate(groups):
        tiles_m, tiles_n = -(-group.m // tile[0]), -(-group.n // tile[1])
        m, n = raster(tiles_m, tiles_n, width)
        per_batch = tiles_m * tiles_n
        rows = np.empty((per_batch * batch, CTA_FIELDS), dtype=np.int64)
        rows[:, GROUP] = index
        rows[:, M0] = np.tile(m * tile[0], batch)
        rows[:, M1] = np.minimum(rows[:, M0] + tile[0], group.m)
        rows[:, N0] = np.tile(n * tile[1], batch)
        rows[:, N1] = np.minimum(rows[:, N0] + tile[1], group.n)
        rows[:, BATCH] = np.repeat(np.arange(batch, dtype=np.int64), per_batch)
        rows[:, TILE] = first_tile + np.arange(len(rows))
        first_tile += len(rows)
        slices.append((group.k, rows))
    for slice_ in range(split_k):
        for k, rows in slices:
            k_tiles = -(-k // tile[2])
            part = table[filled : filled + len(rows)]
            part[:] = rows
            part[:, K0] = k_tiles * slice_ // split_k * tile[2]
            part[:, K1] = min(k, k_tiles * (slice_ + 1) // split_k * tile[2])
            part[:, SLICE], part[:, SLICES] = slice_, split_k
            filled += len(rows)
    return table
