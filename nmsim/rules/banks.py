"""Shared-memory banks: where a layout puts the 16-byte pieces of a tile, and how many passes an access to eight of them takes.

A tile is rows of `pitch_bytes`, cut into pieces of 16 bytes, the unit of ldmatrix and of a 128-bit copy. Eight such pieces are one
phase: a row each of an 8 x 8 matrix for ldmatrix, eight that follow one another for a copy. A bank gives or takes one word a pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

LAYOUTS = ("swizzled", "padded", "linear", "permuted")
"""`linear`: rows one after another. `padded`: each row followed by 16 unused bytes. `swizzled`: the place in a 128-byte line XORed with
the number of the row (of the line, where a line holds several rows), CUTLASS's layout for operand tiles. `permuted`: four lines
interleaved as in mma_permuted.cu of Sun et al., arXiv:2206.02874, appendix A, which leaves a two-way conflict to ldmatrix."""
PIECE_BYTES = 16
PHASE_PIECES = 8
"""Addresses served together: a quarter of a warp's 32 lanes."""
PADDING_BYTES = 16


def piece_address(layout: str, pitch_bytes: int, row: int, piece: int, line_bytes: int) -> int:
    """Byte address of piece `piece` of row `row` in a tile whose rows hold `pitch_bytes`; `line_bytes` are those of all banks."""
    if layout == "padded":
        return row * (pitch_bytes + PADDING_BYTES) + piece * PIECE_BYTES
    linear = row * pitch_bytes + piece * PIECE_BYTES
    if layout == "linear":
        return linear
    places = line_bytes // PIECE_BYTES
    line, place = divmod(linear // PIECE_BYTES, places)
    if layout == "swizzled":
        place ^= (row if pitch_bytes > line_bytes else line) % places
    else:
        group, within = divmod(line, places // 2)
        line, place = group * (places // 2) + place // 2, place % 2 * (places // 2) | within ^ place // 2
    return (line * places + place) * PIECE_BYTES


def phase_passes(addresses: Iterable[int], banks: int, bank_bytes: int) -> int:
    """Passes through the banks for pieces at these addresses: the most different words that one bank has to serve."""
    words: dict[int, set[int]] = {}
    for address in addresses:
        for word in range(address // bank_bytes, (address + PIECE_BYTES - 1) // bank_bytes + 1):
            words.setdefault(word % banks, set()).add(word)
    return max(map(len, words.values()))


@cache
def ldmatrix_passes(layout: str, pitch_bytes: int, row: int, piece: int, banks: int, bank_bytes: int) -> int:
    """Passes of one ldmatrix phase: piece `piece` of eight rows from `row` on."""
    line = banks * bank_bytes
    rows = range(row, row + PHASE_PIECES)
    return phase_passes((piece_address(layout, pitch_bytes, one, piece, line) for one in rows), banks, bank_bytes)


@cache
def copy_passes(layout: str, pitch_bytes: int, first: int, banks: int, bank_bytes: int) -> int:
    """Passes of one phase of a copy: eight pieces from the tile's `first` on, counted along its rows."""
    a_row, line = max(1, pitch_bytes // PIECE_BYTES), banks * bank_bytes
    places = (divmod(piece, a_row) for piece in range(first, first + PHASE_PIECES))
    return phase_passes((piece_address(layout, pitch_bytes, row, piece, line) for row, piece in places), banks, bank_bytes)
