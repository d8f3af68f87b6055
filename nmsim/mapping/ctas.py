"""The CTAs of a launch in the order the hardware starts them: slices of K, then batch, then one swizzled raster over all groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.mapping.plan import BATCH, CTA_FIELDS, GROUP, K0, K1, M0, M1, N0, N1, SLICE, SLICES, TILE
from nmsim.mapping.problem import Group
from nmsim.mapping.stream_k import stream_k_table

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
    reduction (slice s waits for s - 1) cannot deadlock.
    """
    total = count_ctas(groups, batch, tile, split_k)
    if total > MAX_CTAS:
        raise InputError(f"the GEMM needs {total:,} CTAs, more than {MAX_CTAS:,}", fix="use smaller dimensions")
    one = _first_slice(groups, batch, tile, width)
    table = np.tile(one, (split_k, 1))
    k_of_group = np.array([group.k for group in groups], dtype=np.int64)[one[:, GROUP]]
    k_tiles = -(-k_of_group // tile[2])
    for slice_ in range(split_k):
        part = table[slice_ * len(one) : (slice_ + 1) * len(one)]
        part[:, K0] = k_tiles * slice_ // split_k * tile[2]
        part[:, K1] = np.minimum(k_of_group, k_tiles * (slice_ + 1) // split_k * tile[2])
        part[:, SLICE], part[:, SLICES] = slice_, split_k
    return table


def stream_k_ctas(groups: Sequence[Group], batch: int, tile: tuple[int, int, int], width: int, slots: int) -> NDArray[np.int64]:
    """[CTAs, CTA_FIELDS] with the last tiles cut for `slots` CTAs that run at once, see `nmsim.mapping.stream_k`."""
    if (total := count_ctas(groups, batch, tile, 1)) > MAX_CTAS:
        raise InputError(f"the GEMM needs {total:,} CTAs, more than {MAX_CTAS:,}", fix="use smaller dimensions")
    tiles = _first_slice(groups, batch, tile, width)
    k = np.array([group.k for group in groups], dtype=np.int64)[tiles[:, GROUP]]
    return stream_k_table(tiles, -(-k // tile[2]), k, tile[2], slots)


def _first_slice(groups: Sequence[Group], batch: int, tile: tuple[int, int, int], width: int) -> NDArray[np.int64]:
    """CTAs of one slice. The groups' tile columns stand side by side in one raster, so that groups which read the same operand
    (gathered tiles, residues of a stride) do so at the same time; where a group is shorter than the tallest, places stay empty.
    """
    columns = np.array([(index, column) for index, group in enumerate(groups) for column in range(-(-group.n // tile[1]))], dtype=np.int64)
    sides = np.array([(group.m, group.n) for group in groups], dtype=np.int64)
    m, column = raster(-(-int(sides[:, 0].max()) // tile[0]), len(columns), width)
    group, n = columns[column, 0], columns[column, 1]
    there = m * tile[0] < sides[group, 0]
    m, n, group = m[there], n[there], group[there]
    rows = np.zeros((len(m), CTA_FIELDS), dtype=np.int64)
    rows[:, GROUP] = group
    rows[:, M0], rows[:, N0] = m * tile[0], n * tile[1]
    rows[:, M1] = np.minimum(rows[:, M0] + tile[0], sides[group, 0])
    rows[:, N1] = np.minimum(rows[:, N0] + tile[1], sides[group, 1])
    all_rows: NDArray[np.int64] = np.tile(rows, (batch, 1))
    all_rows[:, BATCH] = np.repeat(np.arange(batch, dtype=np.int64), len(rows))
    all_rows[:, TILE] = np.arange(len(all_rows))
    return all_rows
