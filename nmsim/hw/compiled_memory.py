"""The memory side of the compiled chip level: DRAM access, L2 look-up and write, an SM's loads and stores.

The wiring of `nmsim.hw.dram`, `l2`, `noc` and `sm` over plain arrays; every timing rule is the shared one in
`nmsim.rules`. Modelled and not modelled: as there.
"""
# Compiled by numba where the chip loop is; typed by numba, so the signatures carry no annotations.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from nmsim.hw.compiled_state import (
    BLOCKS,
    COUNT_ACCESSES,
    COUNT_ACTIVATES,
    COUNT_FETCHED,
    COUNT_LOOKUPS,
    COUNT_MISSES,
    COUNT_READ,
    COUNT_WRITTEN,
    COUNT_WRITTEN_BACK,
    DIRTY_STRANGERS,
    TOTAL_READ,
    TOTAL_WRITTEN,
)
from nmsim.hw.timing import TIMING_INDEX
from nmsim.rules.box import BLOCK_COLUMNS, FIRST_BLOCK, TENSOR, block_chunks, block_range
from nmsim.rules.dram import after_refresh, drain_ticks, locate, open_column
from nmsim.rules.jit import rule
from nmsim.rules.server import serve

_PORT_RATE, _WRITE_RATE = TIMING_INDEX["port_rate"], TIMING_INDEX["write_port_rate"]
_PARTITION_MASK, _L2_RATE = TIMING_INDEX["partition_mask"], TIMING_INDEX["l2_rate"]
_NEAR, _FAR = TIMING_INDEX["l2_near"], TIMING_INDEX["l2_far"]
_CAPACITY, _COPIES = TIMING_INDEX["l2_capacity"], TIMING_INDEX["l2_copies"]
_CHANNELS, _PER_CHANNEL, _INTERLEAVE_SHIFT = TIMING_INDEX["channels"], TIMING_INDEX["per_channel"], TIMING_INDEX["interleave_shift"]
_ROW_SHIFT, _BANK_MASK = TIMING_INDEX["row_shift"], TIMING_INDEX["bank_mask"]
_BUS_RATE, _CONTROLLER = TIMING_INDEX["bus_rate"], TIMING_INDEX["controller"]
_COLUMN, _ACTIVATE, _PRECHARGE = TIMING_INDEX["column_access"], TIMING_INDEX["activate"], TIMING_INDEX["precharge"]
_ROW_ACTIVE, _TURNAROUND, _WRITE_BATCH = TIMING_INDEX["row_active"], TIMING_INDEX["turnaround"], TIMING_INDEX["write_batch"]
_REFRESH_INTERVAL, _REFRESH = TIMING_INDEX["refresh_interval"], TIMING_INDEX["refresh"]
_IDEAL = TIMING_INDEX["ideal_memory"]


@rule
def dram_access(timing, dram, arrival, address, nbytes, is_write):
    """`Dram.access`: (end, queue, row, bus)."""
    channel, in_channel, row = locate(
        address >> timing[_INTERLEAVE_SHIFT], timing[_CHANNELS], timing[_PER_CHANNEL], timing[_ROW_SHIFT], timing[_BANK_MASK]
    )
    bank = channel * (timing[_BANK_MASK] + 1) + in_channel
    column, began, activated = open_column(
        arrival,
        row,
        dram.open_row[bank],
        dram.column_ready[bank],
        dram.precharge_ready[bank],
        timing[_PRECHARGE],
        timing[_ACTIVATE],
    )
    data = column + timing[_COLUMN]
    slot = max(arrival, dram.bus_free[channel])
    if is_write:
        dram.pending_writes[channel] += 1
        turn = drain_ticks(dram.pending_writes[channel], timing[_WRITE_BATCH], timing[_TURNAROUND])
        if turn:
            dram.pending_writes[channel] = 0
            slot += turn
    slot, dram.refresh_window[channel] = after_refresh(slot, dram.refresh_window[channel], timing[_REFRESH_INTERVAL], timing[_REFRESH])
    start, end, dram.bus_remainder[channel] = serve(slot, slot, dram.bus_remainder[channel], nbytes, timing[_BUS_RATE])
    dram.bus_free[channel] = end
    burst = end - start
    dram.open_row[bank] = row
    active_until = column - timing[_ACTIVATE] + timing[_ROW_ACTIVE]
    dram.precharge_ready[bank] = max(active_until if activated else dram.precharge_ready[bank], data)
    dram.counts[COUNT_ACTIVATES] += activated
    dram.column_ready[bank] = column + burst
    dram.counts[COUNT_ACCESSES] += 1
    dram.counts[COUNT_WRITTEN if is_write else COUNT_READ] += nbytes
    row_ticks = data - began
    landed = max(end, data + burst)
    return landed, landed - arrival - row_ticks - burst, row_ticks, burst


@rule
def _fetch(timing, dram, l2, arrival, t, row_block, column_block):
    """`L2._fetch`: (filled, queue, row, bus) of the last piece of a block."""
    address, step, chunks, unit, size = block_chunks(t, row_block, column_block, timing[_INTERLEAVE_SHIFT])
    l2.counts[COUNT_FETCHED] += size
    last, queue, row, bus = arrival, 0, 0, 0
    for chunk in range(chunks):
        nbytes = min(unit, size - chunk * unit)
        end, chunk_queue, chunk_row, chunk_bus = dram_access(timing, dram, arrival, address + chunk * step, nbytes, 0)
        if end > last:
            last, queue, row, bus = end, chunk_queue, chunk_row, chunk_bus
    return last + timing[_CONTROLLER], queue, row, bus + timing[_CONTROLLER]


@rule
def _unlink(l2, place):
    l2.newer[l2.older[place]] = l2.newer[place]
    l2.older[l2.newer[place]] = l2.older[place]


@rule
def _link_newest(l2, partition, place):
    head = l2.dirty.size + partition
    l2.older[place] = l2.older[head]
    l2.newer[place] = head
    l2.newer[l2.older[head]] = place
    l2.older[head] = place


@rule
def _write_back(timing, dram, l2, block, now):
    owner = l2.tensors.shape[0] - 1
    while l2.tensors[owner, FIRST_BLOCK] > block:
        owner -= 1
    t = l2.tensors[owner]
    row_block = (block - t[FIRST_BLOCK]) // t[BLOCK_COLUMNS]
    column_block = (block - t[FIRST_BLOCK]) % t[BLOCK_COLUMNS]
    address, step, chunks, unit, size = block_chunks(t, row_block, column_block, timing[_INTERLEAVE_SHIFT])
    l2.counts[COUNT_WRITTEN_BACK] += size
    for chunk in range(chunks):
        dram_access(timing, dram, now, address + chunk * step, min(unit, size - chunk * unit), 1)


@rule
def _block_size(timing, l2, block):
    owner = l2.tensors.shape[0] - 1
    while l2.tensors[owner, FIRST_BLOCK] > block:
        owner -= 1
    t = l2.tensors[owner]
    row_block = (block - t[FIRST_BLOCK]) // t[BLOCK_COLUMNS]
    column_block = (block - t[FIRST_BLOCK]) % t[BLOCK_COLUMNS]
    return block_chunks(t, row_block, column_block, timing[_INTERLEAVE_SHIFT])[4]


@rule
def _push_strangers_out(timing, dram, l2, t, row_block, column_block, now):
    """`L2._push_strangers_out`: write back as many dirty bytes of an earlier kernel as a block brings."""
    address, step, chunks, unit, size = block_chunks(t, row_block, column_block, timing[_INTERLEAVE_SHIFT])
    for chunk in range(chunks):
        nbytes = min(unit, size - chunk * unit, l2.scalars[DIRTY_STRANGERS])
        if nbytes:
            l2.scalars[DIRTY_STRANGERS] -= nbytes
            l2.counts[COUNT_WRITTEN_BACK] += nbytes
            dram_access(timing, dram, now, address + chunk * step, nbytes, 1)


@rule
def _install(timing, dram, l2, partition, block, t, row_block, column_block, dirty, now):
    """`L2._install`: place a block in a partition, pushing out the least recently used blocks until it fits."""
    size = block_chunks(t, row_block, column_block, timing[_INTERLEAVE_SHIFT])[4]
    head, first = l2.dirty.size + partition, partition * l2.scalars[BLOCKS]
    place = first + block
    _link_newest(l2, partition, place)
    l2.dirty[place] = dirty
    l2.resident_bytes[partition] += size
    while l2.resident_bytes[partition] > timing[_CAPACITY] and l2.newer[head] != place:
        victim = l2.newer[head]
        _unlink(l2, victim)
        l2.older[victim] = -1
        l2.resident_bytes[partition] -= _block_size(timing, l2, victim - first)
        if l2.dirty[victim]:
            _write_back(timing, dram, l2, victim - first, now)


@rule
def _drop_copies(timing, l2, home, block):
    """What a write does to the copies of its block in other partitions."""
    for partition in range(timing[_PARTITION_MASK] + 1):
        place = partition * l2.scalars[BLOCKS] + block
        if partition != home and l2.older[place] >= 0:
            _unlink(l2, place)
            l2.older[place] = -1
            l2.resident_bytes[partition] -= _block_size(timing, l2, block)


@rule
def sm_load(timing, dram, l2, sms, totals, sm, now, t, box, nbytes):
    """`Sm.load`: (tick at which a box has landed, its time by part)."""
    if timing[_IDEAL]:
        return now, (0, 0, 0, 0, 0, 0)
    first_row, last_row, first_column, last_column = block_range(t, box)
    count = (last_row - first_row + 1) * (last_column - first_column + 1)
    share = nbytes // count
    larger = nbytes - share * count
    landed, own, blocks = now, sm & timing[_PARTITION_MASK], l2.scalars[BLOCKS]
    l2_queue, l2_latency, dram_queue, dram_row, dram_bus = 0, 0, 0, 0, 0
    done = 0
    for row_block in range(first_row, last_row + 1):
        for column_block in range(first_column, last_column + 1):
            block = t[FIRST_BLOCK] + row_block * t[BLOCK_COLUMNS] + column_block
            home = (row_block + column_block + t[TENSOR]) & timing[_PARTITION_MASK]
            copy = own * blocks + block
            partition = own if timing[_COPIES] and l2.older[copy] >= 0 else home
            place = partition * blocks + block
            part_bytes = share + 1 if done < larger else share
            done += 1
            start, end, l2.remainder[partition] = serve(now, l2.free[partition], l2.remainder[partition], part_bytes, timing[_L2_RATE])
            l2.free[partition] = end
            latency = timing[_NEAR] if partition == own else timing[_FAR]
            request = latency // 2
            data = end + latency
            queue, row, bus = 0, 0, 0
            if l2.older[place] >= 0:
                _unlink(l2, place)
                _link_newest(l2, partition, place)
                filled = l2.filled[place] + latency - request
                if filled > data:
                    queue = filled - data
                    data = filled
            else:
                l2.counts[COUNT_MISSES] += 1
                filled, queue, row, bus = _fetch(timing, dram, l2, start + request, t, row_block, column_block)
                l2.filled[place] = filled
                data = max(data, filled + latency - request)
                if l2.scalars[DIRTY_STRANGERS]:
                    _push_strangers_out(timing, dram, l2, t, row_block, column_block, start + request)
                _install(timing, dram, l2, home, block, t, row_block, column_block, 0, start + request)
            if timing[_COPIES] and partition != own:
                l2.filled[copy] = data - (timing[_NEAR] - timing[_NEAR] // 2)
                _install(timing, dram, l2, own, block, t, row_block, column_block, 0, start + request)
            if data > landed:
                landed = data
                l2_queue, l2_latency = start - now, data - start - queue - row - bus
                dram_queue, dram_row, dram_bus = queue, row, bus
    l2.counts[COUNT_LOOKUPS] += done
    _, sms.port_free[sm], sms.port_remainder[sm] = serve(
        now + timing[_NEAR], sms.port_free[sm], sms.port_remainder[sm], nbytes, timing[_PORT_RATE]
    )
    totals[TOTAL_READ] += nbytes
    arrived = max(landed, sms.port_free[sm])
    return arrived, (arrived - landed, l2_queue, l2_latency, dram_queue, dram_row, dram_bus)


@rule
def sm_store(timing, dram, l2, sms, totals, sm, now, t, box, nbytes):
    """`Sm.store`: the tick at which a box has left the SM."""
    if timing[_IDEAL]:
        return now
    _, sms.write_free[sm], sms.write_remainder[sm] = serve(now, sms.write_free[sm], sms.write_remainder[sm], nbytes, timing[_WRITE_RATE])
    totals[TOTAL_WRITTEN] += nbytes
    last_end = sms.write_free[sm]
    first_row, last_row, first_column, last_column = block_range(t, box)
    count = (last_row - first_row + 1) * (last_column - first_column + 1)
    share = nbytes // count
    larger = nbytes - share * count
    done = 0
    for row_block in range(first_row, last_row + 1):
        for column_block in range(first_column, last_column + 1):
            block = t[FIRST_BLOCK] + row_block * t[BLOCK_COLUMNS] + column_block
            home = (row_block + column_block + t[TENSOR]) & timing[_PARTITION_MASK]
            place = home * l2.scalars[BLOCKS] + block
            part_bytes = share + 1 if done < larger else share
            done += 1
            start, end, l2.remainder[home] = serve(now, l2.free[home], l2.remainder[home], part_bytes, timing[_L2_RATE])
            l2.free[home] = end
            last_end = max(last_end, end)
            if l2.older[place] >= 0:
                l2.dirty[place] = 1
                _unlink(l2, place)
                _link_newest(l2, home, place)
            else:
                l2.counts[COUNT_MISSES] += 1
                latency = timing[_NEAR] if home == sm & timing[_PARTITION_MASK] else timing[_FAR]
                if l2.scalars[DIRTY_STRANGERS]:
                    _push_strangers_out(timing, dram, l2, t, row_block, column_block, start + latency // 2)
                _install(timing, dram, l2, home, block, t, row_block, column_block, 1, start + latency // 2)
            if timing[_COPIES]:
                _drop_copies(timing, l2, home, block)
    l2.counts[COUNT_LOOKUPS] += done
    return last_end
