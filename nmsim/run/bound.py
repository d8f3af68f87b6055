"""What bounds a kernel, and the sentence that says why sparse was slower than dense."""

from __future__ import annotations

from collections.abc import Mapping

from nmsim.rules.stalls import BOUND_OF_STALL, BOUNDS, Stall


def bound_of(busy_cycles: float, stall_cycles: Mapping[str, float], launch_cycles: float = 0.0) -> str:
    """The largest of busy and the stall families; a launch that outlasts them counts as latency."""
    share = dict.fromkeys(BOUNDS, 0.0)
    share["tensor"] += busy_cycles
    share["latency"] += launch_cycles
    for stall in Stall:
        share[BOUND_OF_STALL[stall]] += stall_cycles[stall.name.lower()]
    return max(BOUNDS, key=lambda bound: share[bound])


def why_slower(what: str, time_us: float, dense_us: float, busy_us: float, launch_us: float, bound: str) -> str:
    """`2:4 is slower here (4.2 us against 3.7 us dense): launch and fill are 84 % of the time`."""
    overhead = 1 - busy_us / time_us if time_us else 0.0
    cause = f"launch, fill and waiting are {overhead:.0%} of the time" if launch_us > busy_us else f"it is bound by {bound}"
    return f"{what} is slower here ({time_us:.2f} us against {dense_us:.2f} us dense): {cause}"
