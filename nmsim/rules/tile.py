"""Small rules of an output tile: which range an operand follows, and the strips in which an epilogue works it off."""

from __future__ import annotations

from nmsim.rules.jit import rule


@rule
def side(dimension: int, m0: int, m1: int, n0: int, n1: int) -> tuple[int, int, int, int]:
    """(x0, x1, y0, y1): the CTA's range along a tensor's own GEMM dimension (0 = m, 1 = n), then along the other."""
    if dimension == 0:
        return m0, m1, n0, n1
    return n0, n1, m0, m1


@rule
def strip(m0: int, m1: int, rows: int, index: int) -> tuple[int, int]:
    """Rows [first, last + 1) of strip `index` of an output tile of rows [m0, m1), `rows` to a strip; the last may be shorter."""
    return m0 + index * rows, min(m1, m0 + (index + 1) * rows)
