"""What bounds a kernel, and the sentence that says why sparse was slower than dense."""

from __future__ import annotations

from collections.abc import Mapping

from nmsim.rules.stalls import BOUND_OF_STALL, BOUNDS, Stall

_IMBALANCE = Stall.IMBALANCE.name.lower()
OVERHEAD_SHARE = 0.5
"""Share of the time from which overhead, not the kernel's bound, is named as the cause."""


def bound_of(busy_cycles: float, stall_cycles: Mapping[str, float], launch_cycles: float = 0.0) -> str:
    """The largest of busy and the stall families; a launch that outlasts them counts as latency."""
    share = dict.fromkeys(BOUNDS, 0.0)
    share["tensor"] += busy_cycles
    share["latency"] += launch_cycles
    for stall in Stall:
        share[BOUND_OF_STALL[stall]] += stall_cycles[stall.name.lower()]
    return max(BOUNDS, key=lambda bound: share[bound])


def waiting_share(cycles: float, busy_cycles: float, stall_cycles: Mapping[str, float]) -> float:
    """Share of the time in which units that hold work launch it, fill and drain, wait for data or write; idle units are left out."""
    held = cycles - stall_cycles[_IMBALANCE]
    return 1 - busy_cycles / held if held > 0 else 0.0


def why_slower(what: str, time_us: float, dense_us: float, overhead_us: float, bound: str) -> str:
    """`2:4 is slower here (4.20 us against 3.70 us dense): launch, fill and waiting are 84 % of the time`."""
    share = min(1.0, overhead_us / time_us)
    cause = f"launch, fill and waiting are {share:.0%} of the time" if share > OVERHEAD_SHARE else f"it is bound by {bound}"
    return f"{what} is slower here ({time_us:.2f} us against {dense_us:.2f} us dense): {cause}"
