"""DRAM rules: where an address lies, and when an access of one channel finishes (open-page banks, one data bus)."""

from __future__ import annotations

from nmsim.rules.jit import rule

_SPREAD = 40503
"""Odd multiplier near 2**16 / golden ratio: spreads power-of-two strides over the channels and banks (an assumption:
the vendors' address hashes are not published)."""


RECIPROCAL_BITS = 36
"""Fixed-point bits of 1 / channels: exact as long as chunk * channels < 2**36."""


def reciprocal(channels: int) -> int:
    """What `locate` multiplies by to divide by the number of channels."""
    return -(-(1 << RECIPROCAL_BITS) // channels)


@rule
def stripe_of(chunk: int, per_channel: int) -> int:
    """The stripe of `channels` consecutive chunks in which a chunk lies."""
    return (chunk * per_channel) >> RECIPROCAL_BITS


@rule
def locate(chunk: int, channels: int, per_channel: int, row_shift: int, bank_mask: int) -> tuple[int, int, int]:
    """(channel, bank, row) of the `chunk`-th interleave unit of memory; `per_channel` is `reciprocal(channels)`.

    Each stripe of `channels` consecutive chunks visits every channel once, rotated by a hash of the stripe; a bank's
    row holds 2**row_shift chunks of one channel.
    """
    stripe = stripe_of(chunk, per_channel)
    rotation = (((stripe * _SPREAD) >> 7) & 1023) * channels >> 10
    channel = chunk - stripe * channels + rotation
    if channel >= channels:
        channel -= channels
    row = stripe >> row_shift
    bank = ((row * _SPREAD) >> 5) & bank_mask
    return channel, bank, row


@rule
def open_column(
    arrival: int, row: int, open_row: int, column_ready: int, precharge_ready: int, precharge: int, activate: int
) -> tuple[int, int, int]:
    """When a bank can take a column command for `row`.

    Returns (column, began, activated): the tick of the column command, the tick at which the bank began to serve this
    request, and 1 where a row had to be activated. `open_row` is -1 for a bank that never had one.
    """
    hit = open_row == row  # selects, not branches: whether a row is open is the least predictable thing of a run
    began = max(arrival, column_ready if hit else precharge_ready)
    opened = began + (precharge if open_row >= 0 else 0) + activate
    return (began if hit else opened), began, (0 if hit else 1)


@rule
def has_passed(start: int, window: int, length: int) -> bool:
    """Whether a channel's refresh that begins at `window` is over by `start`."""
    return start >= window + length


@rule
def after_this_refresh(start: int, window: int, interval: int, length: int) -> tuple[int, int]:
    """`after_refresh` where the refresh at `window` has not passed."""
    inside = start >= window
    return (window + length if inside else start), (window + interval if inside else window)


@rule
def after_refresh(start: int, window: int, interval: int, length: int) -> tuple[int, int]:
    """(first tick >= `start` outside the channel's refresh windows, the window it has not passed yet).

    The channel stops for `length` ticks every `interval`; `window` is the start of the next such stop. A channel's
    requests reach its bus in ascending order, so that past windows need not be kept.
    """
    while has_passed(start, window, length):
        window += interval
    return after_this_refresh(start, window, interval, length)


@rule
def drain_ticks(pending: int, batch: int, turnaround: int) -> int:
    """Turnaround that a write adds to the bus: none until the buffer holds a batch, then there and back for all of it."""
    return 0 if pending < batch else 2 * turnaround
