"""Small rules of an output tile: which range an operand follows, and where partial sums lie."""

from __future__ import annotations

from nmsim.rules.jit import rule

PARTIAL_BYTES = 4
"""Partial sums are FP32 (or INT32)."""


@rule
def side(dimension: int, m0: int, m1: int, n0: int, n1: int) -> tuple[int, int, int, int]:
    """(x0, x1, y0, y1): the CTA's range along a tensor's own GEMM dimension (0 = m, 1 = n), then along the other."""
    if dimension == 0:
        return m0, m1, n0, n1
    return n0, n1, m0, m1


@rule
def partial_box(tile: int, tile_m: int, tile_n: int) -> tuple[int, int, int, int]:
    """Box of one output tile's partial sums in the workspace (one tile's rows after another, a tile row wide)."""
    return tile * tile_m, (tile + 1) * tile_m, 0, tile_n * PARTIAL_BYTES


@rule
def partial_bytes(rows: int, columns: int) -> int:
    """Bytes of the in-range partial sums of a tile."""
    return rows * columns * PARTIAL_BYTES
