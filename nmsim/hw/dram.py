"""DRAM: channels with banks and open rows behind one data bus each.

A controller that reorders is modelled by booking bus and banks apart: the bus gives slots in order of arrival and never
waits for a bank, a bank works through its rows in order of arrival and never waits for the bus, and data are there when both
are done. Writes are posted into a buffer and drained in batches, so that the bus turns around once a batch.

Modelled: address spread over channels and banks, row hit / empty / conflict, activates of banks overlapping, tRAS, the bus
at its exact rate, write batches with their turnaround, refresh of a whole channel.
Not modelled: bank groups, tFAW, row hits gained by reordering, ECC traffic, anything finer than one channel interleave.
"""

from __future__ import annotations

from nmsim.hw.timing import ChipTiming
from nmsim.rules.dram import after_refresh, drain_ticks, locate, open_column
from nmsim.rules.server import serve


def first_refresh(timing: ChipTiming, channel: int) -> int:
    """Tick of a channel's first refresh: the channels take turns over one interval."""
    return timing.refresh_interval * (channel + 1) // timing.channels


class Dram:
    """All channels; times in ticks."""

    def __init__(self, timing: ChipTiming) -> None:
        self._t = timing
        banks = timing.channels * (timing.bank_mask + 1)
        self._open_row = [-1] * banks
        self._column_ready = [0] * banks
        self._precharge_ready = [0] * banks
        self._bus_free = [0] * timing.channels
        self._bus_remainder = [0] * timing.channels
        self._pending_writes = [0] * timing.channels
        self._refresh_window = [first_refresh(timing, channel) for channel in range(timing.channels)]
        self.read_bytes = self.write_bytes = self.activates = self.accesses = 0

    @property
    def drained(self) -> int:
        """Tick at which the last channel's bus is through with everything booked so far."""
        return max(self._bus_free)

    def access(self, arrival: int, address: int, nbytes: int, is_write: int) -> tuple[int, int, int, int]:
        """One access of at most an interleave. Returns (end, queue, row, bus): when its last byte is there, and why so late."""
        t = self._t
        channel, in_channel, row = locate(address >> t.interleave_shift, t.channels, t.per_channel, t.row_shift, t.bank_mask)
        bank = channel * (t.bank_mask + 1) + in_channel
        column, began, activated = open_column(
            arrival, row, self._open_row[bank], self._column_ready[bank], self._precharge_ready[bank], t.precharge, t.activate
        )
        data = column + t.column_access
        slot = max(arrival, self._bus_free[channel])
        if is_write:
            self._pending_writes[channel] += 1
            turn = drain_ticks(self._pending_writes[channel], t.write_batch, t.turnaround)
            if turn:
                self._pending_writes[channel] = 0
                slot += turn
        slot, self._refresh_window[channel] = after_refresh(slot, self._refresh_window[channel], t.refresh_interval, t.refresh)
        start, end, self._bus_remainder[channel] = serve(slot, slot, self._bus_remainder[channel], nbytes, t.bus_rate)
        self._bus_free[channel] = end
        burst = end - start
        self._open_row[bank] = row
        active_until = column - t.activate + t.row_active if activated else self._precharge_ready[bank]
        self._precharge_ready[bank] = max(active_until, data)
        self.activates += activated
        self._column_ready[bank] = column + burst
        self.accesses += 1
        if is_write:
            self.write_bytes += nbytes
        else:
            self.read_bytes += nbytes
        row_ticks = data - began
        landed = max(end, data + burst)
        return landed, landed - arrival - row_ticks - burst, row_ticks, burst
