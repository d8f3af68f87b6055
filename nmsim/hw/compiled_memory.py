"""The memory side of the compiled chip level: DRAM access, L2 look-up and write, an SM's loads and stores.

The wiring of `nmsim.hw.dram`, `l2`, `noc` and `sm` over plain arrays; every timing rule is the shared one in
`nmsim.rules`. Modelled and not modelled: as there.
"""
# Compiled by numba where the chip loop is; typed by numba, so the signatures carry no annotations.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from nmsim.hw.compiled_state import (
    COUNT_ACCESSES,
    COUNT_ACTIVATES,
    COUNT_FETCHED,
    COUNT_LOOKUPS,
    COUNT_MISSES,
    COUNT_READ,
    COUNT_WRITTEN,
    COUNT_WRITTEN_BACK,
    DIRTY_STRANGERS,
    RESIDENT_BYTES,
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
_NEAR, _FAR, _CAPACITY = TIMING_INDEX["l2_near"], TIMING_INDEX["l2_far"], TIMING_INDEX["l2_capacity"]
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
def _unlink(l2, block):
    l2.newer[l2.older[block]] = l2.newer[block]
    l2.older[l2.newer[block]] = l2.older[block]


@rule
def _link_newest(l2, block):
    head = l2.newer.size - 1
    l2.older[block] = l2.older[head]
    l2.newer[block] = head
    l2.newer[l2.older[head]] = block
    l2.older[head] = block


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
def _install(timing, dram, l2, block, t, row_block, column_block, dirty, now):
    """`L2._install`: place a block, pushing dirty strangers out first, then the least recently used blocks until it fits."""
    address, step, chunks, unit, size = block_chunks(t, row_block, column_block, timing[_INTERLEAVE_SHIFT])
    if l2.scalars[DIRTY_STRANGERS]:
        for chunk in range(chunks):
            nbytes = min(unit, size - chunk * unit, l2.scalars[DIRTY_STRANGERS])
            if nbytes:
                l2.scalars[DIRTY_STRANGERS] -= nbytes
                l2.counts[COUNT_WRITTEN_BACK] += nbytes
                dram_access(timing, dram, now, address + chunk * step, nbytes, 1)
    head = l2.newer.size - 1
    _link_newest(l2, block)
    l2.dirty[block] = dirty
    l2.scalars[RESIDENT_BYTES] += size
    while l2.scalars[RESIDENT_BYTES] > timing[_CAPACITY] and l2.newer[head] != block:
        victim = l2.newer[head]
        _unlink(l2, victim)
        l2.older[victim] = -1
        l2.scalars[RESIDENT_BYTES] -= _block_size(timing, l2, victim)
        if l2.dirty[victim]:
            _write_back(timing, dram, l2, victim, now)


@rule
def sm_load(timing, dram, l2, sms, totals, sm, now, t, box, nbytes):
    """`Sm.load`: (tick at which a box has landed, its time by part)."""
    if timing[_IDEAL]:
        return now, (0, 0, 0, 0, 0, 0)
    first_row, last_row, first_column, last_column = block_range(t, box)
    count = (last_row - first_row + 1) * (last_column - first_column + 1)
    share = nbytes // count
    larger = nbytes - share * count
    landed = now
    l2_queue, l2_latency, dram_queue, dram_row, dram_bus = 0, 0, 0, 0, 0
    done = 0
    for row_block in range(first_row, last_row + 1):
        for column_block in range(first_column, last_column + 1):
            block = t[FIRST_BLOCK] + row_block * t[BLOCK_COLUMNS] + column_block
            partition = (row_block + column_block + t[TENSOR]) & timing[_PARTITION_MASK]
            part_bytes = share + 1 if done < larger else share
            done += 1
            start, end, l2.remainder[partition] = serve(now, l2.free[partition], l2.remainder[partition], part_bytes, timing[_L2_RATE])
            l2.free[partition] = end
            latency = timing[_NEAR] if partition == sm & timing[_PARTITION_MASK] else timing[_FAR]
            request = latency // 2
            data = end + latency
            queue, row, bus = 0, 0, 0
            if l2.older[block] >= 0:
                _unlink(l2, block)
                _link_newest(l2, block)
                filled = l2.filled[block] + latency - request
                if filled > data:
                    queue = filled - data
                    data = filled
            else:
                l2.counts[COUNT_MISSES] += 1
                filled, queue, row, bus = _fetch(timing, dram, l2, start + request, t, row_block, column_block)
                l2.filled[block] = filled
                data = max(data, filled + latency - request)
                _install(timing, dram, l2, block, t, row_block, column_block, 0, start + request)
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
            partition = (row_block + column_block + t[TENSOR]) & timing[_PARTITION_MASK]
            part_bytes = share + 1 if done < larger else share
            done += 1
            start, end, l2.remainder[partition] = serve(now, l2.free[partition], l2.remainder[partition], part_bytes, timing[_L2_RATE])
            l2.free[partition] = end
            last_end = max(last_end, end)
            if l2.older[block] >= 0:
                l2.dirty[block] = 1
                _unlink(l2, block)
                _link_newest(l2, block)
            else:
                l2.counts[COUNT_MISSES] += 1
                latency = timing[_NEAR] if partition == sm & timing[_PARTITION_MASK] else timing[_FAR]
                _install(timing, dram, l2, block, t, row_block, column_block, 1, start + latency // 2)
    l2.counts[COUNT_LOOKUPS] += done
    return last_end
