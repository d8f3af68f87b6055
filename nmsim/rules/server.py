"""A FIFO server: the rule of every port, bus and pipe that serves requests in order at a fixed rate."""

from __future__ import annotations

from nmsim.rules.jit import rule
from nmsim.units import RATE_BITS

_MASK = (1 << RATE_BITS) - 1


@rule
def serve(arrival: int, free_at: int, remainder: int, units: int, rate: int) -> tuple[int, int, int]:
    """Reserve a server for `units` of work at `rate` ticks a unit, a fixed-point number of RATE_BITS fraction bits.

    Returns (start, end, remainder). The fraction of a tick that is left over is carried to the next request, so the
    rate holds over a run: nothing is rounded per request.
    """
    start = max(arrival, free_at)
    work = units * rate + remainder
    return start, start + (work >> RATE_BITS), work & _MASK
