"""Shared-memory banks: how many passes a warp's access takes."""

from __future__ import annotations

from nmsim.rules.jit import rule

MATRIX_ROWS = 8
"""Rows of the 8 x 8 matrix one ldmatrix phase reads, one per group of lanes."""
ROW_BYTES = 16
"""Bytes of one such row."""


@rule
def ldmatrix_passes(pitch_bytes: int, banks: int, bank_bytes: int, swizzled: int) -> int:
    """Passes through the banks that one ldmatrix phase (8 rows of 16 bytes, `pitch_bytes` apart) takes.

    Swizzled: the 16-byte chunk of a row is XORed with the row's number in its 128-byte line, the layout that CUTLASS
    uses for operand tiles; then any pitch that divides or is a multiple of 128 bytes is free of conflicts.
    """
    line = banks * bank_bytes
    chunks = line // ROW_BYTES
    worst = 0
    for chunk in range(chunks):
        hits = 0
        for row in range(MATRIX_ROWS):
            byte = row * pitch_bytes
            place = byte // ROW_BYTES % chunks
            if swizzled:
                rows_per_line = max(1, line // pitch_bytes)
                place ^= row // rows_per_line % chunks
            if place == chunk:
                hits += 1
        worst = max(worst, hits)
    return worst
