"""The arrays the compiled chip level runs on, bundled by unit.

Modelled: what the units of `dram`, `l2`, `noc`, `sm` keep. Not modelled: as there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmsim.hw.dram import first_refresh
from nmsim.hw.timing import ChipTiming
from nmsim.rules.sharing import PARTS
from nmsim.rules.stalls import Stall

Int64 = NDArray[np.int64]


class DramState(NamedTuple):
    """Banks ([channels * banks]) and channels ([channels]) of the DRAM, and its counters (see COUNT_*)."""

    open_row: Int64
    column_ready: Int64
    precharge_ready: Int64
    bus_free: Int64
    bus_remainder: Int64
    pending_writes: Int64
    refresh_window: Int64
    counts: Int64


class L2State(NamedTuple):
    """The block table of each partition as a list in order of use, and the partitions.

    A block's place in partition p is p * blocks + block; the heads of the lists follow all places.
    """

    newer: Int64
    older: Int64
    """Neighbours in order of use; -1 in `older` marks a place whose block is not resident. [places + partitions]."""
    dirty: Int64
    """[places]."""
    filled: Int64
    """[places]."""
    resident_bytes: Int64
    """[partitions]."""
    free: Int64
    remainder: Int64
    scalars: Int64
    """Blocks, and dirty bytes of an earlier kernel still to be pushed out."""
    tensors: Int64
    """Descriptors by ascending first block."""
    counts: Int64


class SmState(NamedTuple):
    """Per-SM state, [SMs] unless said otherwise."""

    port_free: Int64
    port_remainder: Int64
    write_free: Int64
    write_remainder: Int64
    in_mainloop: Int64
    pipe_free: Int64
    pipe_remainder: Int64
    reserved_ticks: Int64
    """[SMs, c]."""
    k_tiles: Int64
    """[SMs, c]."""
    stalls: Int64
    """[SMs, stalls]."""
    last_end: Int64
    last_split_wait: Int64


class CtaState(NamedTuple):
    """Per-CTA state, [CTAs]; k-tiles in flight are kept by slot, in a ring of stages."""

    k_tile: Int64
    began: Int64
    drained: Int64
    split_wait: Int64
    slot: Int64
    landed: Int64
    """[slots, RING]."""
    parts: Int64
    """[slots, RING, PARTS]."""


RING = 16
"""Places for k-tiles in flight: a power of two, at least the most stages a tile may have."""
(COUNT_READ, COUNT_WRITTEN, COUNT_ACTIVATES, COUNT_ACCESSES) = range(4)
(COUNT_LOOKUPS, COUNT_MISSES, COUNT_FETCHED, COUNT_WRITTEN_BACK) = range(4)
(BLOCKS, DIRTY_STRANGERS) = range(2)
(TOTAL_READ, TOTAL_WRITTEN, TOTAL_UNEXPLAINED) = range(3)


def new_dram(timing: ChipTiming) -> DramState:
    """Idle channels, all rows closed."""
    banks, channels = timing.channels * (timing.bank_mask + 1), timing.channels
    return DramState(
        open_row=np.full(banks, -1, dtype=np.int64),
        column_ready=np.zeros(banks, dtype=np.int64),
        precharge_ready=np.zeros(banks, dtype=np.int64),
        bus_free=np.zeros(channels, dtype=np.int64),
        bus_remainder=np.zeros(channels, dtype=np.int64),
        pending_writes=np.zeros(channels, dtype=np.int64),
        refresh_window=np.array([first_refresh(timing, channel) for channel in range(channels)], dtype=np.int64),
        counts=np.zeros(4, dtype=np.int64),
    )


def new_l2(timing: ChipTiming, tensors: Int64, blocks: int, dirty_strangers: int) -> L2State:
    """An L2 that holds nothing of this kernel, and `dirty_strangers` bytes to be written back."""
    partitions = timing.partition_mask + 1
    places = partitions * blocks
    older = np.full(places + partitions, -1, dtype=np.int64)
    newer = np.full(places + partitions, -1, dtype=np.int64)
    older[places:] = newer[places:] = np.arange(places, places + partitions)
    return L2State(
        newer=newer,
        older=older,
        dirty=np.zeros(places, dtype=np.int64),
        filled=np.zeros(places, dtype=np.int64),
        resident_bytes=np.zeros(partitions, dtype=np.int64),
        free=np.zeros(partitions, dtype=np.int64),
        remainder=np.zeros(partitions, dtype=np.int64),
        scalars=np.array([blocks, dirty_strangers], dtype=np.int64),
        tensors=tensors,
        counts=np.zeros(4, dtype=np.int64),
    )


def rewound(l2: L2State) -> L2State:
    """The same contents with all times and counters at zero: what the next launch of the kernel finds."""
    fresh = l2._replace(
        filled=np.zeros_like(l2.filled),
        free=np.zeros_like(l2.free),
        remainder=np.zeros_like(l2.remainder),
        counts=np.zeros_like(l2.counts),
        scalars=np.array([l2.scalars[BLOCKS], 0], dtype=np.int64),
    )
    return fresh


def new_sms(timing: ChipTiming, levels: int) -> SmState:
    """Idle SMs; `levels` is how many resident CTAs the mainloop has a rate for."""

    def zeros() -> Int64:
        return np.zeros(timing.sms, dtype=np.int64)

    return SmState(
        port_free=zeros(),
        port_remainder=zeros(),
        write_free=zeros(),
        write_remainder=zeros(),
        in_mainloop=zeros(),
        pipe_free=zeros(),
        pipe_remainder=zeros(),
        reserved_ticks=np.zeros((timing.sms, levels), dtype=np.int64),
        k_tiles=np.zeros((timing.sms, levels), dtype=np.int64),
        stalls=np.zeros((timing.sms, len(Stall)), dtype=np.int64),
        last_end=zeros(),
        last_split_wait=zeros(),
    )


def new_ctas(ctas: int, slots: int) -> CtaState:
    """Every CTA still to come."""
    return CtaState(
        k_tile=np.zeros(ctas, dtype=np.int64),
        began=np.zeros(ctas, dtype=np.int64),
        drained=np.zeros(ctas, dtype=np.int64),
        split_wait=np.zeros(ctas, dtype=np.int64),
        slot=np.zeros(ctas, dtype=np.int64),
        landed=np.zeros((slots, RING), dtype=np.int64),
        parts=np.zeros((slots, RING, PARTS), dtype=np.int64),
    )
