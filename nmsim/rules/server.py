"""A FIFO server: the rule of every port, bus and pipe that serves requests in order at a fixed rate."""

from __future__ import annotations

from nmsim.rules.jit import rule


@rule
def serve(arrival: int, free_at: int, remainder: int, units: int, numerator: int, denominator: int) -> tuple[int, int, int]:
    """Reserve a server for `units` of work at `numerator / denominator` ticks a unit.

    Returns (start, end, remainder). The remainder of the division is carried to the next request, so the rate is
    exact over a run: nothing is rounded per request.
    """
    start = max(arrival, free_at)
    work = units * numerator + remainder
    return start, start + work // denominator, work % denominator
