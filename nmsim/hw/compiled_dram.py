"""DRAM in the compiled chip level: the wiring of `nmsim.hw.dram` over plain arrays, by runs of pieces of a block.

Pieces that follow one another in a stripe of the channels lie in one bank and row, each on a channel of its own, so that none waits for
another: such a run is served by a loop over its channels without a branch, which the compiler runs eight channels at a time. Pieces
too far apart for that are served one by one.
Every timing rule is the shared one in `nmsim.rules`. Modelled and not modelled: as there.
"""
# Compiled by numba where the chip loop is; typed by numba, so the signatures carry no annotations.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from nmsim.hw.compiled_state import (
    BANK_WORDS,
    BUS_FREE,
    BUS_REMAINDER,
    COLUMN_READY,
    COUNT_ACCESSES,
    COUNT_ACTIVATES,
    COUNT_READ,
    COUNT_WRITTEN,
    LANES_AT_ONCE,
    OPEN_ROW,
    PENDING_WRITES,
    PRECHARGE_READY,
    REFRESH_WINDOW,
    SERVED_AT,
    SERVED_BUS,
    SERVED_ROW,
    at,
)
from nmsim.hw.timing import TIMING_INDEX
from nmsim.rules.dram import after_refresh, after_this_refresh, drain_ticks, has_passed, locate, open_column, stripe_of
from nmsim.rules.jit import routine, rule
from nmsim.rules.server import serve

_CHANNELS, _PER_CHANNEL, _INTERLEAVE_SHIFT = TIMING_INDEX["channels"], TIMING_INDEX["per_channel"], TIMING_INDEX["interleave_shift"]
_ROW_SHIFT, _BANK_MASK = TIMING_INDEX["row_shift"], TIMING_INDEX["bank_mask"]
_BUS_RATE, _CONTROLLER = TIMING_INDEX["bus_rate"], TIMING_INDEX["controller"]
_COLUMN, _ACTIVATE, _PRECHARGE = TIMING_INDEX["column_access"], TIMING_INDEX["activate"], TIMING_INDEX["precharge"]
_ROW_ACTIVE, _TURNAROUND, _WRITE_BATCH = TIMING_INDEX["row_active"], TIMING_INDEX["turnaround"], TIMING_INDEX["write_batch"]
_REFRESH_INTERVAL, _REFRESH = TIMING_INDEX["refresh_interval"], TIMING_INDEX["refresh"]
_WIDEST_RUN = 2
"""Shift of the most channels from one piece to the next that are still served as a run: beyond, most lanes would do nothing."""


@rule
def _locate(timing, located, address, step, pieces):
    """Note (row, bank, channel) of each piece: a loop of arithmetic alone, which the compiler runs several pieces at a time."""
    shift, channels, per_channel = timing[_INTERLEAVE_SHIFT], timing[_CHANNELS], timing[_PER_CHANNEL]
    row_shift, bank_mask = timing[_ROW_SHIFT], timing[_BANK_MASK]
    longest = located.size // 3
    for piece in range(pieces):
        channel, bank, row = locate((address + piece * step) >> shift, channels, per_channel, row_shift, bank_mask)
        located[at(piece)] = row
        located[at(longest + piece)] = bank * BANK_WORDS + channel
        located[at(2 * longest + piece)] = channel


@rule
def _access(timing, banks, channels, located, piece, arrival, nbytes, is_write):
    """`Dram.access`: (tick at which the last byte is there, ticks for the row, ticks on the bus, rows activated)."""
    longest = located.size // 3
    row, bank, channel = located[at(piece)], located[at(longest + piece)], located[at(2 * longest + piece)]
    precharge_ready = banks[at(bank + PRECHARGE_READY)]
    column, began, activated = open_column(
        arrival,
        row,
        banks[at(bank + OPEN_ROW)],
        banks[at(bank + COLUMN_READY)],
        precharge_ready,
        timing[_PRECHARGE],
        timing[_ACTIVATE],
    )
    data = column + timing[_COLUMN]
    slot = max(arrival, channels[at(channel + BUS_FREE)])
    if is_write:
        pending = channels[at(channel + PENDING_WRITES)] + 1
        turn = drain_ticks(pending, timing[_WRITE_BATCH], timing[_TURNAROUND])
        channels[at(channel + PENDING_WRITES)] = 0 if turn else pending
        slot += turn
    slot, window = after_refresh(slot, channels[at(channel + REFRESH_WINDOW)], timing[_REFRESH_INTERVAL], timing[_REFRESH])
    start, end, remainder = serve(slot, slot, channels[at(channel + BUS_REMAINDER)], nbytes, timing[_BUS_RATE])
    channels[at(channel + BUS_FREE)] = end
    channels[at(channel + BUS_REMAINDER)] = remainder
    channels[at(channel + REFRESH_WINDOW)] = window
    burst = end - start
    active_until = column - timing[_ACTIVATE] + timing[_ROW_ACTIVE]
    banks[at(bank + OPEN_ROW)] = row
    banks[at(bank + COLUMN_READY)] = column + burst
    banks[at(bank + PRECHARGE_READY)] = max(active_until if activated else precharge_ready, data)
    return max(end, data + burst), data - began, burst, activated


@rule
def _pass_refreshes(timing, channels, channel, lanes, last, apart, arrival, is_write):
    """What `after_refresh` does first, for each lane that is in use: refreshes that ended before its piece comes are past."""
    interval, length = timing[_REFRESH_INTERVAL], timing[_REFRESH]
    batch, turnaround = timing[_WRITE_BATCH], timing[_TURNAROUND]
    missed = 1
    while missed > 0:
        missed = 0
        for lane in range(lanes):
            used = (lane <= last) & (lane & apart == 0)
            slot = max(arrival, channels[at(channel + lane + BUS_FREE)])
            if is_write:
                slot += drain_ticks(channels[at(channel + lane + PENDING_WRITES)] + 1, batch, turnaround)
            window = channels[at(channel + lane + REFRESH_WINDOW)]
            late = used & has_passed(slot, window, length)
            channels[at(channel + lane + REFRESH_WINDOW)] = window + interval if late else window
            missed += 1 if late else 0


@rule
def _serve_run(timing, banks, channels, served, bank, channel, row, last, apart, arrival, nbytes, is_write):
    """`_access` of a run of pieces, of which lane 0 is on `channel` and lane `last` the last, every (`apart` + 1)-th lane one.

    Returns (rows activated, tick at which the latest is there); leaves what `_access` returns in `served`, 0 where a lane is not in use.
    """
    lanes = (last // LANES_AT_ONCE + 1) * LANES_AT_ONCE
    _pass_refreshes(timing, channels, channel, lanes, last, apart, arrival, is_write)
    precharge, activate, column_access, row_active = timing[_PRECHARGE], timing[_ACTIVATE], timing[_COLUMN], timing[_ROW_ACTIVE]
    interval, length, rate = timing[_REFRESH_INTERVAL], timing[_REFRESH], timing[_BUS_RATE]
    batch, turnaround = timing[_WRITE_BATCH], timing[_TURNAROUND]
    first, activates, latest = bank * BANK_WORDS + channel, 0, 0
    for lane in range(lanes):
        used = (lane <= last) & (lane & apart == 0)
        open_row, column_ready = banks[at(first + lane + OPEN_ROW)], banks[at(first + lane + COLUMN_READY)]
        precharge_ready = banks[at(first + lane + PRECHARGE_READY)]
        bus_free, before = channels[at(channel + lane + BUS_FREE)], channels[at(channel + lane + BUS_REMAINDER)]
        window = channels[at(channel + lane + REFRESH_WINDOW)]
        column, began, activated = open_column(arrival, row, open_row, column_ready, precharge_ready, precharge, activate)
        data = column + column_access
        slot = max(arrival, bus_free)
        if is_write:
            pending = channels[at(channel + lane + PENDING_WRITES)]
            turn = drain_ticks(pending + 1, batch, turnaround)
            channels[at(channel + lane + PENDING_WRITES)] = (0 if turn else pending + 1) if used else pending
            slot += turn
        slot, next_window = after_this_refresh(slot, window, interval, length)
        start, end, remainder = serve(slot, slot, before, nbytes, rate)
        burst = end - start
        until = max(column - activate + row_active if activated else precharge_ready, data)
        channels[at(channel + lane + BUS_FREE)] = end if used else bus_free
        channels[at(channel + lane + BUS_REMAINDER)] = remainder if used else before
        channels[at(channel + lane + REFRESH_WINDOW)] = next_window if used else window
        banks[at(first + lane + OPEN_ROW)] = row if used else open_row
        banks[at(first + lane + COLUMN_READY)] = column + burst if used else column_ready
        banks[at(first + lane + PRECHARGE_READY)] = until if used else precharge_ready
        there = max(end, data + burst) if used else 0
        latest = max(latest, there)
        served[at(lane + SERVED_AT)] = there
        served[at(lane + SERVED_ROW)] = data - began
        served[at(lane + SERVED_BUS)] = burst
        activates += activated if used else 0
    return activates, latest


@rule
def _run_length(timing, chunk, channel, shift, left):
    """How many of `left` pieces, each 2**shift chunks after the one before, stay in the stripe and do not pass the last channel."""
    channels = timing[_CHANNELS]
    offset = chunk - stripe_of(chunk, timing[_PER_CHANNEL]) * channels
    return min(left, ((channels - 1 - max(offset, channel)) >> shift) + 1)


@rule
def _shift_of(timing, step):
    """How many channels (a shift) lie from one piece to the next where pieces can be served in runs; -1 where not."""
    shift = timing[_INTERLEAVE_SHIFT]
    found = -1
    for wider in range(_WIDEST_RUN + 1):
        found = wider if step == 1 << (shift + wider) else found
    return found


@rule
def _first_lane(served, latest, last):
    """The first lane of a run that is there at the latest tick."""
    lanes = (last // LANES_AT_ONCE + 1) * LANES_AT_ONCE
    first = lanes
    for lane in range(lanes):
        first = min(first, lane if served[at(lane + SERVED_AT)] == latest else lanes)
    return first


@routine
def read_pieces(timing, dram, arrival, address, step, pieces, unit, size):
    """Read `size` bytes in pieces of at most `unit`; (tick at which the last is there, and its queue, row and bus ticks)."""
    end, end_row, end_bus, activates = arrival, 0, 0, 0
    shift, piece = _shift_of(timing, step), 0
    if shift >= 0:
        whole, chunk = size // unit, address >> timing[_INTERLEAVE_SHIFT]
        while piece < whole:
            channel, bank, row = locate(chunk, timing[_CHANNELS], timing[_PER_CHANNEL], timing[_ROW_SHIFT], timing[_BANK_MASK])
            count = _run_length(timing, chunk, channel, shift, whole - piece)
            last, apart = (count - 1) << shift, (1 << shift) - 1
            activated, latest = _serve_run(
                timing, dram.banks, dram.channels, dram.served, bank, channel, row, last, apart, arrival, unit, 0
            )
            activates += activated
            if latest > end:
                lane = _first_lane(dram.served, latest, last)
                end, end_row, end_bus = latest, dram.served[at(lane + SERVED_ROW)], dram.served[at(lane + SERVED_BUS)]
            piece += count
            chunk += count << shift
    left = size - piece * unit
    if left > 0:
        _locate(timing, dram.located, address + piece * step, step, pieces - piece)
        for one in range(pieces - piece):
            there, row, bus, activated = _access(timing, dram.banks, dram.channels, dram.located, one, arrival, min(unit, left), 0)
            later = there > end
            end_row, end_bus = row if later else end_row, bus if later else end_bus
            end = there if later else end
            activates += activated
            left -= unit
    dram.counts[COUNT_ACTIVATES] += activates
    dram.counts[COUNT_ACCESSES] += pieces
    dram.counts[COUNT_READ] += size
    return end + timing[_CONTROLLER], end - arrival - end_row - end_bus, end_row, end_bus + timing[_CONTROLLER]


@routine
def write_pieces(timing, dram, arrival, address, step, unit, size):
    """Write the first `size` bytes of a block in pieces of at most `unit` (posted: nobody waits for them)."""
    activates, pieces = 0, -(-size // unit)
    shift, piece = _shift_of(timing, step), 0
    if shift >= 0:
        whole, chunk = size // unit, address >> timing[_INTERLEAVE_SHIFT]
        while piece < whole:
            channel, bank, row = locate(chunk, timing[_CHANNELS], timing[_PER_CHANNEL], timing[_ROW_SHIFT], timing[_BANK_MASK])
            count = _run_length(timing, chunk, channel, shift, whole - piece)
            last, apart = (count - 1) << shift, (1 << shift) - 1
            activated, _ = _serve_run(timing, dram.banks, dram.channels, dram.served, bank, channel, row, last, apart, arrival, unit, 1)
            activates += activated
            piece += count
            chunk += count << shift
    left = size - piece * unit
    if left > 0:
        _locate(timing, dram.located, address + piece * step, step, pieces - piece)
        for one in range(pieces - piece):
            _, _, _, activated = _access(timing, dram.banks, dram.channels, dram.located, one, arrival, min(unit, left), 1)
            activates += activated
            left -= unit
    dram.counts[COUNT_ACTIVATES] += activates
    dram.counts[COUNT_ACCESSES] += pieces
    dram.counts[COUNT_WRITTEN] += size
