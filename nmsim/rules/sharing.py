"""How an exposed wait is split over the parts of the request that caused it."""

from __future__ import annotations

from nmsim.rules.jit import rule

PARTS = 6
"""noc_queue, l2_queue, l2_latency, dram_queue, dram_row, dram_bus: the order in which a request meets them."""


@rule
def charge_exposed(exposed: int, parts, charged) -> int:  # type: ignore[no-untyped-def]  # both indexable, PARTS long
    """Add an exposed wait to `charged`, latest part of the request first: what was hidden is its early life.

    Returns what is left over (the wait was longer than the request: it was not issued in time).
    """
    left = exposed
    for part in range(PARTS - 1, -1, -1):
        taken = min(left, parts[part])
        charged[part] += taken
        left -= taken
    return left
