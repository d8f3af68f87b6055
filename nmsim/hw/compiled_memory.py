"""An SM's loads and stores in the compiled chip level: ports, L2 partitions, blocks looked up.

The wiring of `nmsim.hw.l2`, `noc` and `sm` over plain arrays; every timing rule is the shared one in `nmsim.rules`.
Modelled and not modelled: as there.
"""
# Compiled by numba where the chip loop is; typed by numba, so the signatures carry no annotations.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import numpy as np

from nmsim.hw.compiled_l2 import drop_copies, install, is_resident, miss, place_of, push_strangers_out, use
from nmsim.hw.compiled_state import (
    COUNT_MISSES,
    FILLED,
    LOOKUPS_EVER,
    PARTITION_FREE,
    PARTITION_REMAINDER,
    PARTITION_WORDS,
    PLACE_WORDS,
    PORT_FREE,
    PORT_REMAINDER,
    SM_WORDS,
    TOTAL_READ,
    TOTAL_WRITTEN,
    USED,
    WRITE_FREE,
    WRITE_REMAINDER,
    at,
)
from nmsim.hw.timing import TIMING_INDEX
from nmsim.rules.box import BLOCK_COLUMNS, FIRST_BLOCK, TENSOR, block_range, block_row, l2_bytes
from nmsim.rules.jit import routine, rule
from nmsim.rules.server import serve

_PORT_RATE, _WRITE_RATE = TIMING_INDEX["port_rate"], TIMING_INDEX["write_port_rate"]
_PARTITION_MASK, _L2_RATE = TIMING_INDEX["partition_mask"], TIMING_INDEX["l2_rate"]
_NEAR, _FAR, _COPIES = TIMING_INDEX["l2_near"], TIMING_INDEX["l2_far"], TIMING_INDEX["l2_copies"]
_IDEAL = TIMING_INDEX["ideal_memory"]


@rule
def _shares(blocks, nbytes):
    """(blocks in a range of rows and columns of blocks, bytes of each, how many of the first ones hold one more)."""
    first_row, last_row, first_column, last_column = blocks
    count = (last_row - first_row + 1) * (last_column - first_column + 1)
    share = np.int64(at(nbytes) // at(count))
    return count, share, nbytes - share * count


@rule
def _book(timing, l2, own, partition, now, nbytes):
    """Book a partition: (start, end, hit latency from an SM at partition `own`)."""
    place = partition * PARTITION_WORDS
    start, end, remainder = serve(
        now, l2.partitions[at(place + PARTITION_FREE)], l2.partitions[at(place + PARTITION_REMAINDER)], nbytes, timing[_L2_RATE]
    )
    l2.partitions[at(place + PARTITION_FREE)] = end
    l2.partitions[at(place + PARTITION_REMAINDER)] = remainder
    latency = timing[_NEAR] if partition == own else timing[_FAR]
    return start, end, latency


@rule
def load_blocks(timing, dram, l2, sms, totals, sm, now, t, gather, blocks, nbytes):
    """`Sm.load` of a range of blocks: (tick at which all have landed, the time of the last by part)."""
    first_row, _, first_column, last_column = blocks
    asked = l2_bytes(t, nbytes)
    count, share, larger = _shares(blocks, asked)
    mask, copies, rate = timing[_PARTITION_MASK], timing[_COPIES], timing[_L2_RATE]
    near, far = timing[_NEAR], timing[_FAR]
    landed, began, own = now, now, sm & mask
    dram_queue, dram_row, dram_bus = 0, 0, 0
    look_up = l2.scalars[LOOKUPS_EVER]
    l2.scalars[LOOKUPS_EVER] = look_up + count
    listed, column_block = first_row, first_column
    first_block, block_columns, spread = t[FIRST_BLOCK], t[BLOCK_COLUMNS], t[TENSOR]
    for _ in range(count):
        row_block = block_row(t, gather, listed)
        block_place = (first_block + row_block * block_columns + column_block) * (mask + 1) * PLACE_WORDS
        home = (row_block + column_block + spread) & mask
        partition, place = own, block_place + own * PLACE_WORDS
        used = l2.places[at(place + USED)]
        if home != own and (copies == 0 or not is_resident(used)):
            partition, place = home, block_place + home * PLACE_WORDS
            used = l2.places[at(place + USED)]
        server = partition * PARTITION_WORDS
        free, before = l2.partitions[at(server + PARTITION_FREE)], l2.partitions[at(server + PARTITION_REMAINDER)]
        start, end, remainder = serve(now, free, before, share + (1 if larger > 0 else 0), rate)
        l2.partitions[at(server + PARTITION_FREE)] = end
        l2.partitions[at(server + PARTITION_REMAINDER)] = remainder
        latency = near if partition == own else far
        larger -= 1
        look_up += 1
        data = end + latency
        queue, row, bus = 0, 0, 0
        if is_resident(used):
            use(l2, place, used, look_up, 0)
            queue = max(l2.places[at(place + FILLED)] + latency - latency // 2 - data, 0)
            data += queue
        else:
            filled, queue, row, bus = miss(timing, dram, l2, home, start + latency // 2, t, row_block, column_block, look_up)
            data = max(data, filled + latency - latency // 2)
        if copies and partition != own:
            copied = data - (near - near // 2)
            install(timing, dram, l2, own, t, row_block, column_block, look_up, 0, copied, start + latency // 2)
        if data > landed:
            landed, began = data, start
            dram_queue, dram_row, dram_bus = queue, row, bus
        column_block += 1
        if column_block > last_column:
            column_block = first_column
            listed += 1
    place = sm * SM_WORDS
    _, port_free, remainder = serve(
        now + timing[_NEAR], sms.sms[at(place + PORT_FREE)], sms.sms[at(place + PORT_REMAINDER)], nbytes, timing[_PORT_RATE]
    )
    sms.sms[at(place + PORT_FREE)] = port_free
    sms.sms[at(place + PORT_REMAINDER)] = remainder
    totals[TOTAL_READ] += asked
    arrived = max(landed, port_free)
    latency = landed - began - dram_queue - dram_row - dram_bus
    return arrived, (arrived - landed, began - now, latency, dram_queue, dram_row, dram_bus)


@routine
def load(timing, dram, l2, sms, totals, sm, now, t, gather, box, nbytes):
    """`Sm.load` of a box: the tick at which it has landed."""
    if timing[_IDEAL]:
        return now
    return load_blocks(timing, dram, l2, sms, totals, sm, now, t, gather, block_range(t, gather, box), nbytes)[0]


@routine
def store(timing, dram, l2, sms, totals, sm, now, t, gather, box, nbytes):
    """`Sm.store`: the tick at which a box has left the SM."""
    if timing[_IDEAL]:
        return now
    ports = sm * SM_WORDS
    _, last_end, remainder = serve(now, sms.sms[at(ports + WRITE_FREE)], sms.sms[at(ports + WRITE_REMAINDER)], nbytes, timing[_WRITE_RATE])
    sms.sms[at(ports + WRITE_FREE)] = last_end
    sms.sms[at(ports + WRITE_REMAINDER)] = remainder
    totals[TOTAL_WRITTEN] += nbytes
    blocks = block_range(t, gather, box)
    first_row, last_row, first_column, last_column = blocks
    count, share, larger = _shares(blocks, nbytes)
    look_up = l2.scalars[LOOKUPS_EVER]
    l2.scalars[LOOKUPS_EVER] = look_up + count
    for row in range(first_row, last_row + 1):
        row_block = block_row(t, gather, row)
        for column_block in range(first_column, last_column + 1):
            block = t[FIRST_BLOCK] + row_block * t[BLOCK_COLUMNS] + column_block
            home = (row_block + column_block + t[TENSOR]) & timing[_PARTITION_MASK]
            start, end, latency = _book(timing, l2, sm & timing[_PARTITION_MASK], home, now, share + (1 if larger > 0 else 0))
            larger -= 1
            look_up += 1
            last_end = max(last_end, end)
            place = place_of(timing, block, home)
            used = l2.places[at(place + USED)]
            if is_resident(used):
                use(l2, place, used, look_up, 1)
            else:
                l2.counts[COUNT_MISSES] += 1
                push_strangers_out(timing, dram, l2, t, row_block, column_block, start + latency // 2)
                install(timing, dram, l2, home, t, row_block, column_block, look_up, 1, -1, start + latency // 2)
            if timing[_COPIES]:
                drop_copies(timing, l2, home, t, row_block, column_block)
    return last_end
