"""DRAM in the compiled chip level: the wiring of `nmsim.hw.dram` over plain arrays, by runs of pieces of a block.

Every timing rule is the shared one in `nmsim.rules`. Modelled and not modelled: as there.
"""
# Compiled by numba where the chip loop is; typed by numba, so the signatures carry no annotations.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from nmsim.hw.compiled_state import (
    BANK_WORDS,
    BUS_FREE,
    BUS_REMAINDER,
    CHANNEL_WORDS,
    COLUMN_READY,
    COUNT_ACCESSES,
    COUNT_ACTIVATES,
    COUNT_READ,
    COUNT_WRITTEN,
    OPEN_ROW,
    PENDING_WRITES,
    PRECHARGE_READY,
    REFRESH_WINDOW,
    at,
)
from nmsim.hw.timing import TIMING_INDEX
from nmsim.rules.dram import after_refresh, drain_ticks, locate, open_column
from nmsim.rules.jit import routine, rule
from nmsim.rules.server import serve

_CHANNELS, _PER_CHANNEL, _INTERLEAVE_SHIFT = TIMING_INDEX["channels"], TIMING_INDEX["per_channel"], TIMING_INDEX["interleave_shift"]
_ROW_SHIFT, _BANK_MASK = TIMING_INDEX["row_shift"], TIMING_INDEX["bank_mask"]
_BUS_RATE, _CONTROLLER = TIMING_INDEX["bus_rate"], TIMING_INDEX["controller"]
_COLUMN, _ACTIVATE, _PRECHARGE = TIMING_INDEX["column_access"], TIMING_INDEX["activate"], TIMING_INDEX["precharge"]
_ROW_ACTIVE, _TURNAROUND, _WRITE_BATCH = TIMING_INDEX["row_active"], TIMING_INDEX["turnaround"], TIMING_INDEX["write_batch"]
_REFRESH_INTERVAL, _REFRESH = TIMING_INDEX["refresh_interval"], TIMING_INDEX["refresh"]


@rule
def _locate(timing, located, address, step, pieces):
    """Note (row, bank, channel) of each piece: a loop of arithmetic alone, which the compiler runs several pieces at a time."""
    shift, channels, per_channel = timing[_INTERLEAVE_SHIFT], timing[_CHANNELS], timing[_PER_CHANNEL]
    row_shift, bank_mask = timing[_ROW_SHIFT], timing[_BANK_MASK]
    longest = located.size // 3
    for piece in range(pieces):
        channel, bank, row = locate((address + piece * step) >> shift, channels, per_channel, row_shift, bank_mask)
        located[at(piece)] = row
        located[at(longest + piece)] = (channel * (bank_mask + 1) + bank) * BANK_WORDS
        located[at(2 * longest + piece)] = channel * CHANNEL_WORDS


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


@routine
def read_pieces(timing, dram, arrival, address, step, pieces, unit, size):
    """Read `size` bytes in pieces of at most `unit`; (tick at which the last is there, and its queue, row and bus ticks)."""
    last, last_row, last_bus, activates = arrival, 0, 0, 0
    left = size
    _locate(timing, dram.located, address, step, pieces)
    for piece in range(pieces):
        end, row, bus, activated = _access(timing, dram.banks, dram.channels, dram.located, piece, arrival, min(unit, left), 0)
        later = end > last
        last_row, last_bus = row if later else last_row, bus if later else last_bus
        last = end if later else last
        activates += activated
        left -= unit
    dram.counts[COUNT_ACTIVATES] += activates
    dram.counts[COUNT_ACCESSES] += pieces
    dram.counts[COUNT_READ] += size
    return last + timing[_CONTROLLER], last - arrival - last_row - last_bus, last_row, last_bus + timing[_CONTROLLER]


@routine
def write_pieces(timing, dram, arrival, address, step, unit, size):
    """Write the first `size` bytes of a block in pieces of at most `unit` (posted: nobody waits for them)."""
    activates, left, pieces = 0, size, -(-size // unit)
    _locate(timing, dram.located, address, step, pieces)
    for piece in range(pieces):
        _, _, _, activated = _access(timing, dram.banks, dram.channels, dram.located, piece, arrival, min(unit, left), 1)
        activates += activated
        left -= unit
    dram.counts[COUNT_ACTIVATES] += activates
    dram.counts[COUNT_ACCESSES] += pieces
    dram.counts[COUNT_WRITTEN] += size
