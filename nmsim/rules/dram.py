"""DRAM rules: where an address lies, and when an access of one channel finishes (open-page banks, one data bus)."""

from __future__ import annotations

from nmsim.rules.jit import rule

_SPREAD = 40503
"""Odd multiplier near 2**16 / golden ratio: spreads power-of-two strides over the channels and banks (an assumption:
the vendors' address hashes are not published)."""


@rule
def locate(chunk: int, channels: int, chunks_per_row: int, banks: int) -> tuple[int, int, int]:
    """(channel, bank, row) of the `chunk`-th interleave unit of memory.

    Each stripe of `channels` consecutive chunks visits every channel once, rotated by a hash of the stripe; a bank's
    row holds `chunks_per_row` chunks of one channel.
    """
    stripe = chunk // channels
    channel = (chunk + ((stripe * _SPREAD) >> 7)) % channels
    row = stripe // chunks_per_row
    bank = ((row * _SPREAD) >> 5) % banks
    return channel, bank, row


@rule
def open_column(
    arrival: int, row: int, open_row: int, column_ready: int, precharge_ready: int, precharge: int, activate: int
) -> tuple[int, int, int]:
    """When a bank can take a column command for `row`.

    Returns (column, began, activated): the tick of the column command, the tick at which the bank began to serve this
    request, and 1 where a row had to be activated. `open_row` is -1 for a bank that never had one.
    """
    if open_row == row:
        column = max(arrival, column_ready)
        return column, column, 0
    began = max(arrival, precharge_ready)
    opened = began + precharge if open_row >= 0 else began
    return opened + activate, began, 1


@rule
def after_refresh(start: int, stagger: int, interval: int, length: int) -> int:
    """The first tick >= `start` outside the channel's refresh window (each `interval` it stops for `length`)."""
    phase = (start + stagger) % interval
    if phase < length:
        return start + length - phase
    return start


@rule
def bus_ready(bus_free: int, last_was_write: int, is_write: int, turnaround: int) -> int:
    """When the channel's data bus can carry the next burst: a change of direction costs `turnaround`."""
    if last_was_write != is_write:
        return bus_free + turnaround
    return bus_free
