"""What either engine returns for one kernel launch; equal to the tick and to every counter, whichever ran.

Modelled: ticks, stalls and bytes. Not modelled: energy, which is counted from them elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ChipOutcome:
    """Raw result of the chip level, in ticks, bytes and counts."""

    ticks: int
    reserved_ticks: Int64
    """[SMs, c]: ticks the pipe was reserved while c + 1 CTAs were in their mainloop."""
    k_tiles: Int64
    """[SMs, c]: k-tiles of those reservations."""
    stalls: Int64
    """[SMs, stalls]: ticks by `nmsim.rules.stalls.Stall` (chip-level reasons only)."""
    unexplained: int
    """Ticks no reason was found for: zero, or the model is broken."""
    l2_read_bytes: int
    l2_write_bytes: int
    dram_read_bytes: int
    dram_write_bytes: int
    dram_activates: int
    dram_accesses: int
    block_lookups: int
    block_misses: int
    fetched_bytes: int
    """Bytes of the blocks that were read-missed: what DRAM was asked for."""
    written_back_bytes: int
    """Bytes of the dirty blocks that were pushed out."""
    longest_cta: int
    """Ticks of the CTA that took longest from its first instruction to the end of its mainloop, the epilogue not included."""
    drained: int
    """Tick at which the DRAM buses were through with the last posted write."""

    def equals(self, other: ChipOutcome) -> bool:
        """True where every tick and counter is the same."""
        scalars = all(
            getattr(self, name) == getattr(other, name)
            for name in self.__dataclass_fields__
            if not isinstance(getattr(self, name), np.ndarray)
        )
        return scalars and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("reserved_ticks", "k_tiles", "stalls")
        )
