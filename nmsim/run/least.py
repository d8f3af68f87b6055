"""Ticks that no run of a plan can beat, counted without running it: what makes simulating a hopeless candidate unnecessary.

Every run is held to it afterwards (`nmsim.run.physics`), so a bound that were not one would be found out.
"""

from __future__ import annotations

import numpy as np

from nmsim.hw.mainloop import MainloopTicks
from nmsim.hw.timing import ChipTiming
from nmsim.mapping.plan import KernelPlan
from nmsim.mapping.traffic import planned_read_bytes, planned_write_bytes
from nmsim.units import RATE_BITS, TICKS_PER_CYCLE


def least_ticks(timing: ChipTiming, plan: KernelPlan, mainloop: MainloopTicks, read: int, written: int) -> dict[str, float]:
    """Least ticks of the kernel by the unit that imposes them, whatever the order of events and the contents of the L2.

    `pipe`: some SM runs at least its share of the CTAs, no fewer k-tiles than the shortest of them hold, and launches,
    fills and drains around them. The others: bytes the L2 is asked to read and write, over the rate of all ports or
    partitions together, less the tick that each may hold back.
    """
    k_tiles = plan.k_tiles_per_cta
    share = -(-len(k_tiles) // timing.sms)
    shortest = int(np.partition(k_tiles, share - 1)[:share].sum())
    reserved = max(shortest, -(-int(k_tiles.sum()) // timing.sms)) * min(mainloop.period) >> RATE_BITS
    least = {"pipe": float(timing.cta_launch + mainloop.fill + reserved + mainloop.drain)}
    if not timing.ideal_memory:
        least["SM ports"] = _ticks(read, timing.port_rate) / timing.sms - 1
        least["L2"] = _ticks(read + written, timing.l2_rate) / (timing.partition_mask + 1) - 1
    return least


def least_cycles(timing: ChipTiming, plan: KernelPlan, mainloop: MainloopTicks) -> float:
    """Cycles that no run of the plan can beat."""
    least = least_ticks(timing, plan, mainloop, planned_read_bytes(plan), planned_write_bytes(plan))
    return max(least.values()) / TICKS_PER_CYCLE


def _ticks(nbytes: int, rate: int) -> float:
    return nbytes * rate / (1 << RATE_BITS)
