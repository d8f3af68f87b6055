"""What the compiled L2 holds: a block's places, who is pushed out for it, and the order of use that decides it.

The wiring of `nmsim.hw.l2` over plain arrays. A look-up only notes its number in the place. A partition's order of use is made
when it has to push something out for the first time, as a heap of the numbers noted so far; a block that was looked up since its
number was taken is put back with its present number when it comes up. So the least recently used block is found, and look-ups
stay cheap. Modelled and not modelled: as there.
"""
# Compiled by numba where the chip loop is; typed by numba, so the signatures carry no annotations.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from nmsim.hw.compiled_dram import read_pieces, write_pieces
from nmsim.hw.compiled_state import (
    BLOCKS,
    COUNT_FETCHED,
    COUNT_MISSES,
    COUNT_WRITTEN_BACK,
    DIRTY_MARK,
    DIRTY_STRANGERS,
    FILLED,
    NUMBER_SHIFT,
    ORDER_MARK,
    ORDERED,
    PARTITION_WORDS,
    PLACE_WORDS,
    RESIDENT_BYTES,
    USED,
    at,
)
from nmsim.hw.timing import TIMING_INDEX
from nmsim.rules.box import BLOCK_COLUMNS, FIRST_BLOCK, block_chunks
from nmsim.rules.jit import routine, rule

_CAPACITY, _INTERLEAVE_SHIFT = TIMING_INDEX["l2_capacity"], TIMING_INDEX["interleave_shift"]
_PARTITION_MASK = TIMING_INDEX["partition_mask"]


@rule
def place_of(timing, block, partition):
    """Where the L2 notes what it knows of a block in a partition."""
    return (block * (timing[_PARTITION_MASK] + 1) + partition) * PLACE_WORDS


@rule
def is_resident(used):
    """Whether a block lies in the place of this USED word."""
    return used > (DIRTY_MARK | ORDER_MARK)


@rule
def use(l2, place, used, look_up, dirty):
    """Note that a block was looked up, and whether that makes it dirty."""
    l2.places[at(place + USED)] = (look_up << NUMBER_SHIFT) | (used & (DIRTY_MARK | ORDER_MARK)) | dirty


@routine
def miss(timing, dram, l2, home, arrival, t, row_block, column_block, look_up):
    """A read-missed block on its way in: (tick at which it is filled, and the queue, row and bus ticks of its last piece)."""
    address, step, pieces, unit, size = block_chunks(t, row_block, column_block, timing[_INTERLEAVE_SHIFT])
    l2.counts[COUNT_MISSES] += 1
    l2.counts[COUNT_FETCHED] += size
    filled, queue, row, bus = read_pieces(timing, dram, arrival, address, step, pieces, unit, size)
    push_strangers_out(timing, dram, l2, t, row_block, column_block, arrival)
    install(timing, dram, l2, home, t, row_block, column_block, look_up, 0, filled, arrival)
    return filled, queue, row, bus


@routine
def push_strangers_out(timing, dram, l2, t, row_block, column_block, now):
    """`L2._push_strangers_out`: write back as many dirty bytes of an earlier kernel as a block brings."""
    address, step, _, unit, size = block_chunks(t, row_block, column_block, timing[_INTERLEAVE_SHIFT])
    strangers = min(size, l2.scalars[DIRTY_STRANGERS])
    if strangers > 0:
        l2.scalars[DIRTY_STRANGERS] -= strangers
        l2.counts[COUNT_WRITTEN_BACK] += strangers
        write_pieces(timing, dram, now, address, step, unit, strangers)


@routine
def install(timing, dram, l2, partition, t, row_block, column_block, look_up, dirty, filled, now):
    """`L2._install`: place a block in a partition, pushing out the least recently used blocks until it fits.

    `filled` is the tick at which it has come; -1 for a block that is written, which nobody waits for anew.
    """
    block = t[FIRST_BLOCK] + row_block * t[BLOCK_COLUMNS] + column_block
    place, own = place_of(timing, block, partition), partition * PARTITION_WORDS
    if filled >= 0:
        l2.places[at(place + FILLED)] = filled
    use(l2, place, l2.places[at(place + USED)] & ORDER_MARK, look_up, dirty)
    l2.partitions[at(own + RESIDENT_BYTES)] += block_chunks(t, row_block, column_block, timing[_INTERLEAVE_SHIFT])[4]
    over = l2.partitions[at(own + RESIDENT_BYTES)] > timing[_CAPACITY]
    if l2.partitions[at(own + ORDERED)] >= 0:
        _append(timing, l2, partition, block)
    elif over:
        _make_order(timing, l2, partition)
    while over and _evict(timing, dram, l2, partition, block, now):
        over = l2.partitions[at(own + RESIDENT_BYTES)] > timing[_CAPACITY]


@routine
def drop_copies(timing, l2, home, t, row_block, column_block):
    """What a write does to the copies of its block in other partitions."""
    block = t[FIRST_BLOCK] + row_block * t[BLOCK_COLUMNS] + column_block
    for partition in range(timing[_PARTITION_MASK] + 1):
        place = place_of(timing, block, partition)
        used = l2.places[at(place + USED)]
        if partition != home and is_resident(used):
            l2.places[at(place + USED)] = used & ORDER_MARK
            size = block_chunks(t, row_block, column_block, timing[_INTERLEAVE_SHIFT])[4]
            l2.partitions[at(partition * PARTITION_WORDS + RESIDENT_BYTES)] -= size


@rule
def _order_word(timing, l2, partition, block):
    """Look-up and block in a word that sorts by look-up."""
    return (l2.places[at(place_of(timing, block, partition) + USED)] >> NUMBER_SHIFT) * l2.scalars[BLOCKS] + block


@rule
def _append(timing, l2, partition, block):
    """Put the block looked up last of all at the end of the order, unless an older word of it is still there."""
    place = place_of(timing, block, partition)
    if l2.places[at(place + USED)] & ORDER_MARK == 0:
        l2.places[at(place + USED)] |= ORDER_MARK
        size = l2.partitions[at(partition * PARTITION_WORDS + ORDERED)]
        l2.order[at(partition * l2.scalars[BLOCKS] + size)] = _order_word(timing, l2, partition, block)
        l2.partitions[at(partition * PARTITION_WORDS + ORDERED)] = size + 1


@rule
def _make_order(timing, l2, partition):
    """The heap of all blocks of a partition."""
    first, size = partition * l2.scalars[BLOCKS], 0
    for block in range(l2.scalars[BLOCKS]):
        place = place_of(timing, block, partition)
        if is_resident(l2.places[at(place + USED)]):
            l2.places[at(place + USED)] |= ORDER_MARK
            word, child = _order_word(timing, l2, partition, block), size
            while child > 0 and l2.order[at(first + ((child - 1) >> 1))] > word:
                l2.order[at(first + child)] = l2.order[at(first + ((child - 1) >> 1))]
                child = (child - 1) >> 1
            l2.order[at(first + child)] = word
            size += 1
    l2.partitions[at(partition * PARTITION_WORDS + ORDERED)] = size


@rule
def _sink(order, first, size, word):
    """Put `word` in the place of the first word of the heap and restore its order.

    Which of two children is the earlier is a toss-up: a select, not a branch.
    """
    parent, child = 0, 1
    while child < size:
        other = min(child + 1, size - 1)
        here, there = order[at(first + child)], order[at(first + other)]
        child = other if there < here else child
        least = min(here, there)
        if word <= least:
            break
        order[at(first + parent)] = least
        parent, child = child, 2 * child + 1
    order[at(first + parent)] = word


@rule
def _evict(timing, dram, l2, partition, newest, now):
    """Push the least recently used block out, or find that its word is out of date and see to that.

    Returns 0 where only the block just installed is left, which stays.
    """
    first, own = partition * l2.scalars[BLOCKS], partition * PARTITION_WORDS
    size, word = l2.partitions[at(own + ORDERED)], l2.order[at(first)]
    block = word % l2.scalars[BLOCKS]
    place = place_of(timing, block, partition)
    used = l2.places[at(place + USED)]
    present = _order_word(timing, l2, partition, block)
    if is_resident(used) and present != word:
        _sink(l2.order, first, size, present)
        return 1
    if block == newest:
        return 0
    l2.places[at(place + USED)] = 0
    l2.partitions[at(own + ORDERED)] = size - 1
    _sink(l2.order, first, size - 1, l2.order[at(first + size - 1)])
    if is_resident(used):
        _let_go(timing, dram, l2, partition, block, used & DIRTY_MARK, now)
    return 1


@rule
def _let_go(timing, dram, l2, partition, block, dirty, now):
    owner = l2.tensors.shape[0] - 1
    while l2.tensors[owner, FIRST_BLOCK] > block:
        owner -= 1
    t = l2.tensors[owner]
    row_block, column_block = (block - t[FIRST_BLOCK]) // t[BLOCK_COLUMNS], (block - t[FIRST_BLOCK]) % t[BLOCK_COLUMNS]
    address, step, _, unit, size = block_chunks(t, row_block, column_block, timing[_INTERLEAVE_SHIFT])
    l2.partitions[at(partition * PARTITION_WORDS + RESIDENT_BYTES)] -= size
    if dirty:
        l2.counts[COUNT_WRITTEN_BACK] += size
        write_pieces(timing, dram, now, address, step, unit, size)
