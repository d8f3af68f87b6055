"""The arrays the compiled chip level runs on: flat, with what is read together side by side, and the place of each word.

Modelled: what the units of `dram`, `l2`, `noc`, `sm` keep. Not modelled: as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nmsim.hw.contents import BLOCK, DIRTY, Int64, block_bytes
from nmsim.hw.dram import first_refresh
from nmsim.hw.timing import ChipTiming
from nmsim.mapping.plan import CTA_FIELDS
from nmsim.rules.box import block_chunks
from nmsim.rules.sharing import PARTS
from nmsim.rules.stalls import Stall

at = np.uint64
"""Around an index of compiled code: one that is not negative, so that counting from the end need not be thought of."""

(LOOP_LOOKAHEAD, LOOP_FILL, LOOP_DRAIN, LOOP_EXCHANGE, LOOP_STRIP_ROWS, LOOP_TILE_K, LOOP_OCCUPANCY, LOOP_RING, LOOP_LIMIT) = range(9)
(LOOP_ALONE, LOOP_PERIOD, LOOP_K_TILES) = range(9, 12)
"""Words of the `loop` array: the kernel's own numbers, the places for k-tiles in flight (a power of two) and the tick at which
the run is given up; of `nmsim.hw.compiled_steady`: 1 where SMs may run alone, and the k-tiles (a power of two) after which all
operands' blocks lie alike, 0 where they never do or not all fit; k-tiles in all."""
CTA_K_TILES = CTA_FIELDS
"""Column that the compiled loop adds to the CTA table: k-tiles of each CTA."""

LANES_AT_ONCE = 8
"""Channels that a run of pieces is rounded up to, so that the compiler's loops leave none over."""
LANES = 256 + LANES_AT_ONCE
"""Room for one word of each channel (no machine has more than 256) and for rounding up."""
(OPEN_ROW, COLUMN_READY, PRECHARGE_READY) = range(0, 3 * LANES, LANES)
BANK_WORDS = 3 * LANES
"""Of the banks of one number in all channels: where each word of the first channel's lies, the other channels' behind it."""
(BUS_FREE, BUS_REMAINDER, PENDING_WRITES, REFRESH_WINDOW) = range(0, 4 * LANES, LANES)
"""Of the channels: as of the banks."""
(SERVED_AT, SERVED_ROW, SERVED_BUS) = range(0, 3 * LANES, LANES)
"""Of a run of pieces: tick at which each is there, ticks for its row and on the bus."""
(COUNT_READ, COUNT_WRITTEN, COUNT_ACTIVATES, COUNT_ACCESSES) = range(4)


class DramState(NamedTuple):
    """Banks and channels of the DRAM, and its counters (COUNT_*)."""

    banks: Int64
    """[banks * BANK_WORDS]."""
    channels: Int64
    """[4 * LANES]."""
    served: Int64
    """[3 * LANES]: of the run of pieces that was served last."""
    located: Int64
    """[3 * pieces]: rows, then banks, then channels of the pieces of one block."""
    counts: Int64


PLACE_WORDS = 2
(FILLED, USED) = range(2)
"""Of a block's place in a partition: tick at which what lies there had come; when it was used (see `nmsim.hw.compiled_l2`)."""
PARTITION_WORDS = 4
(PARTITION_FREE, PARTITION_REMAINDER, RESIDENT_BYTES, ORDERED) = range(4)
"""Of a partition: its server; bytes it holds; length of its heap in `order`, -1 before it pushed anything out."""
DIRTY_MARK, ORDER_MARK, NUMBER_SHIFT = 1, 2, 2
"""Of a USED word: the last bits, and where the number of the block's last look-up begins (0 where nothing lies there)."""
(BLOCKS, DIRTY_STRANGERS, LOOKUPS_EVER) = range(3)
"""Scalars of the L2: blocks; dirty bytes of an earlier kernel still to be pushed out; look-ups in all launches."""
(COUNT_MISSES, COUNT_FETCHED, COUNT_WRITTEN_BACK) = range(3)


class L2State(NamedTuple):
    """Blocks and partitions of the L2, and its counters (COUNT_*). A block has a place in each partition, one beside the other."""

    places: Int64
    """[blocks * partitions * PLACE_WORDS]."""
    order: Int64
    """[partitions * blocks]: of each partition a heap of (look-up, block) words, in which the least recently used is found."""
    partitions: Int64
    """[partitions * PARTITION_WORDS]."""
    scalars: Int64
    tensors: Int64
    """Descriptors by ascending first block."""
    counts: Int64


LINE_WORDS = 8
"""Of a line of the processor's cache: what an event reads lies in as few of them as possible."""
SM_WORDS = 2 * LINE_WORDS
(PORT_FREE, PORT_REMAINDER, PIPE_FREE, PIPE_REMAINDER, IN_MAINLOOP, NEXT_SLOT, STARTED, RESERVED) = range(LINE_WORDS)
(WRITE_FREE, WRITE_REMAINDER, LAST_END, LAST_SPLIT_WAIT) = range(LINE_WORDS, LINE_WORDS + 4)
"""Of an SM: its port and its pipe; CTAs in their mainloop, and k-tiles and ticks reserved since their number changed; slot of
its next event; its write port; end and wait of the last CTA that ended."""
SLOT_WORDS = 2 * LINE_WORDS
(EVENT, CTA, K_TILE, K_TILES, CTA_GROUP, CTA_BATCH, NEXT_K, END_K) = range(LINE_WORDS)
(BEGAN, DRAINED, SPLIT_WAIT, ASKED, STRIP, WRITTEN) = range(LINE_WORDS, LINE_WORDS + 6)
"""Of a slot: its one pending event (tick and rank in a word) and the CTA in it; its next k-tile and how many it has; its group
and batch element; the k from which it loads next and at which it ends; ticks of its life; k-tiles at whose start the one for the
freed stage was asked for; its next strip of the output and the tick at which those before it have left the SM."""
PART_WORDS = LINE_WORDS
WALK_WORDS = 4
(WALK_FIXED, WALK_SINCE, WALK_BYTES) = (0, 2, 3)
"""Of an operand of a slot: the side of its boxes that stays (two words) and since which k, bytes of a k-tile of full length."""
STALLS = len(Stall)


class SmState(NamedTuple):
    """SMs, the slots in which CTAs sit on them (those of one SM side by side), and the account."""

    sms: Int64
    """[SMs * SM_WORDS]."""
    slots: Int64
    """[slots * SLOT_WORDS]."""
    landed: Int64
    """[slots * ring]: tick at which each k-tile in flight has landed."""
    parts: Int64
    """[slots * ring * PART_WORDS]: its time by part."""
    walks: Int64
    """[slots * operands * WALK_WORDS]."""
    reserved_ticks: Int64
    """[SMs * c]."""
    k_tiles: Int64
    """[SMs * c]."""
    stalls: Int64
    """[SMs * STALLS]."""
    queue: Int64
    """Tournament of the SMs' next events, see `nmsim.hw.compiled_queue`."""


(STEADY_ANCHOR, STEADY_MARKS, STEADY_SAVED, STEADY_TICK, STEADY_LOOKUPS, STEADY_SKIPPED) = range(6)
"""The slot whose k-tiles are occasions to compare states; how many there were; whether a state is kept, its tick and the look-ups
made by then; k-tiles skipped so far."""


class SteadyState(NamedTuple):
    """A state of the chip that was kept for comparison, see `nmsim.hw.compiled_steady`."""

    words: Int64
    slots: Int64
    landed: Int64
    parts: Int64
    sms: Int64
    stalls: Int64
    partitions: Int64
    totals: Int64


(TOTAL_READ, TOTAL_WRITTEN, TOTAL_UNEXPLAINED, TOTAL_LONGEST) = range(4)
"""Bytes read and written by the SMs; ticks that no reason was found for; ticks of the CTA with the longest mainloop."""


def aligned_zeros(words: int) -> Int64:
    """Zeros that start on a line of the processor's cache."""
    room = np.zeros(words + LINE_WORDS, dtype=np.int64)
    skip = -(room.ctypes.data // room.itemsize) % LINE_WORDS
    return room[skip : skip + words]


def new_dram(timing: ChipTiming, tensors: Int64) -> DramState:
    """Idle channels, all rows closed; room for the pieces of any block of `tensors`."""
    pieces = [block_chunks(t, 0, 0, timing.interleave_shift)[2] for t in tensors.tolist()]
    banks = aligned_zeros((timing.bank_mask + 1) * BANK_WORDS)
    banks.reshape(-1, BANK_WORDS)[:, OPEN_ROW : OPEN_ROW + timing.channels] = -1
    channels = aligned_zeros(4 * LANES)
    channels[REFRESH_WINDOW : REFRESH_WINDOW + timing.channels] = [first_refresh(timing, channel) for channel in range(timing.channels)]
    return DramState(banks, channels, aligned_zeros(3 * LANES), np.zeros(3 * max(pieces), dtype=np.int64), np.zeros(4, dtype=np.int64))


def new_l2(timing: ChipTiming, tensors: Int64, blocks: int, dirty_strangers: int) -> L2State:
    """An L2 that holds nothing of this kernel, and `dirty_strangers` bytes to be written back."""
    count = timing.partition_mask + 1
    partitions = np.zeros(count * PARTITION_WORDS, dtype=np.int64)
    partitions[ORDERED::PARTITION_WORDS] = -1
    return L2State(
        places=aligned_zeros(blocks * count * PLACE_WORDS),
        order=np.zeros(blocks * count, dtype=np.int64),
        partitions=partitions,
        scalars=np.array([blocks, dirty_strangers, 0], dtype=np.int64),
        tensors=tensors,
        counts=np.zeros(3, dtype=np.int64),
    )


def filled_l2(timing: ChipTiming, tensors: Int64, blocks: int, held: Sequence[Int64]) -> L2State:
    """An L2 that holds blocks of other launches, by partition as `held` gives them (`nmsim.hw.contents`), and no strangers."""
    l2 = new_l2(timing, tensors, blocks, 0)
    used = l2.places.reshape(blocks, len(held), PLACE_WORDS)[:, :, USED]
    for partition, part in enumerate(held):
        used[part[:, BLOCK], partition] = np.arange(1, len(part) + 1) << NUMBER_SHIFT | part[:, DIRTY]
        sizes = block_bytes(tensors, part[:, BLOCK], timing.interleave_shift)
        l2.partitions[partition * PARTITION_WORDS + RESIDENT_BYTES] = sizes.sum()
    l2.scalars[LOOKUPS_EVER] = max(map(len, held))
    return l2


def held_in(l2: L2State) -> tuple[Int64, ...]:
    """By partition [blocks, 2]: the blocks and whether they are dirty, least recently used first."""
    blocks = int(l2.scalars[BLOCKS])
    used = l2.places.reshape(blocks, -1, PLACE_WORDS)[:, :, USED]
    found = []
    for partition in range(used.shape[1]):
        (here,) = np.nonzero(used[:, partition] >> NUMBER_SHIFT)
        words = used[here, partition]
        order = np.argsort(words >> NUMBER_SHIFT, kind="stable")
        found.append(np.column_stack((here, words & DIRTY_MARK))[order])
    return tuple(found)


def rewound(l2: L2State) -> L2State:
    """The same contents with all times and counters at zero: what the next launch of the kernel finds."""
    partitions, scalars = l2.partitions.copy(), l2.scalars.copy()
    for word in (PARTITION_FREE, PARTITION_REMAINDER):
        partitions[word::PARTITION_WORDS] = 0
    scalars[DIRTY_STRANGERS] = 0
    l2.places[FILLED::PLACE_WORDS] = 0
    return l2._replace(partitions=partitions, scalars=scalars, counts=np.zeros_like(l2.counts))


def new_sms(sms: int, occupancy: int, operands: int, levels: int, ring: int) -> SmState:
    """Idle SMs; `levels` is how many resident CTAs the mainloop has a rate for, `ring` the places for k-tiles in flight."""
    zeros = aligned_zeros
    slots = sms * occupancy
    return SmState(
        sms=zeros(sms * SM_WORDS),
        slots=zeros(slots * SLOT_WORDS),
        landed=zeros(slots * ring),
        parts=zeros(slots * ring * PART_WORDS),
        walks=zeros(slots * operands * WALK_WORDS),
        reserved_ticks=zeros(sms * levels),
        k_tiles=zeros(sms * levels),
        stalls=zeros(sms * STALLS),
        queue=zeros(2 << (sms - 1).bit_length()),
    )


def new_steady(l2: L2State, sms: SmState, totals: Int64) -> SteadyState:
    """No state kept."""
    words = np.array([-1, 0, 0, 0, 0, 0], dtype=np.int64)
    kept = (sms.slots, sms.landed, sms.parts, sms.sms, sms.stalls, l2.partitions, totals)
    return SteadyState(words, *map(np.zeros_like, kept))


assert PART_WORDS >= PARTS
