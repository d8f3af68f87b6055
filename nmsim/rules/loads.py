"""Which accesses to shared memory a warp's k-step and a k-tile's copies make, and what each costs the banks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nmsim.rules.banks import PHASE_PIECES, PIECE_BYTES, copy_passes, ldmatrix_passes
from nmsim.rules.fragments import WARP_LOAD_BYTES, Instruction

Banks = tuple[int, int]
"""(banks, bytes of each)."""


class _Key(Protocol):
    @property
    def cta_tile(self) -> tuple[int, int, int]: ...
    @property
    def warp_tile(self) -> tuple[int, int]: ...
    @property
    def mma_shape(self) -> tuple[int, int, int]: ...
    @property
    def layout(self) -> str: ...


@dataclass(frozen=True)
class Access:
    """One warp-wide access: its bytes, and the bytes that the port could have moved in the passes it takes."""

    nbytes: int
    port_bytes: int


def step_loads(key: _Key, one: Instruction, rows_of_a: int, step: int, banks: Banks) -> tuple[Access, ...]:
    """The loads that bring `rows_of_a` rows of A (and their E) and all the warp's columns of B for k-step `step`.

    ldmatrix reads 8 rows of 16 bytes a phase. A and B lie K-contiguous, each with its own pitch (a compressed A with the
    kept elements' one); E is stored in the order it is read in, and meets no conflicts.
    """
    steps = -(-key.cta_tile[2] // key.mma_shape[2])
    return (
        *_fragment(key.layout, one.a_row_bits, rows_of_a, step, steps, banks),
        *_fragment(key.layout, one.b_row_bits, key.warp_tile[1], step, steps, banks),
        *_cut(-(-rows_of_a * one.e_row_bits // 8), 1, 1),
    )


def copies(layout: str, row_bytes: int, nbytes: int, banks: Banks) -> tuple[Access, ...]:
    """The writes of `nbytes` of a tile whose rows hold `row_bytes`, 16 bytes a lane."""
    phases = range(max(1, row_bytes // PIECE_BYTES))
    passes = [copy_passes(layout, row_bytes, phase * PHASE_PIECES, *banks) for phase in phases]
    return _cut(nbytes, sum(passes), len(passes))


def _fragment(layout: str, row_bits: int, rows: int, step: int, steps: int, banks: Banks) -> tuple[Access, ...]:
    """Loads of one operand's fragment: `rows` rows, of which a k-step takes `row_bits` and the tile holds `steps` times that."""
    first, last = step * row_bits // 8 // PIECE_BYTES, -(-(step + 1) * row_bits // 8 // PIECE_BYTES)
    passes = [
        ldmatrix_passes(layout, row_bits * steps // 8, row, piece, *banks)
        for row in range(0, rows, PHASE_PIECES)
        for piece in range(first, max(last, first + 1))
    ]
    return _cut(rows * row_bits // 8, sum(passes), len(passes))


def _cut(nbytes: int, passes: int, phases: int) -> tuple[Access, ...]:
    """Accesses of at most WARP_LOAD_BYTES, each taking the mean passes a phase."""
    full, rest = divmod(nbytes, WARP_LOAD_BYTES)
    sizes = (WARP_LOAD_BYTES,) * full + ((rest,) if rest else ())
    return tuple(Access(size, -(-size * passes // phases)) for size in sizes)
