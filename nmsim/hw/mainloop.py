"""What the SM level tells the chip level of one mainloop: the contract between the two levels.

Modelled: a steady rate for each number of resident CTAs, fill and drain. Not modelled: a rate that changes along the mainloop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nmsim.units import TICKS_PER_CYCLE, rate_of

WARM_UP_K_TILES = 4
MEASURED_K_TILES = 8
"""k-tiles per CTA before, and in, the window over which the SM level takes the steady rate."""


@dataclass(frozen=True)
class MainloopTiming:
    """Result of the SM level for one (kernel, tile, dtype, pattern, stages), operands resident; index c - 1 = c CTAs resident.

    `period` is SM cycles between successive k-tile completions as a ratio (numerator, denominator): the pipe
    reservation of one k-tile. `busy_cycles` of it the tensor pipe issues at its full rate; the rest is `stall_share`,
    by stall name, summing to 1 where there is any.
    """

    period: tuple[tuple[int, int], ...]
    busy_cycles: tuple[int, int]
    fill_cycles: int
    drain_cycles: int
    exchange_cycles: int
    """One strip of the epilogue: accumulators to shared memory, a barrier, and back as whole rows."""
    shared_memory_bytes: int
    """Bytes through the shared-memory port per k-tile: copy writes and fragment reads."""
    stall_share: tuple[Mapping[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, for the disk cache."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MainloopTiming:
        """Inverse of `to_json`."""
        return cls(
            period=tuple((int(n), int(d)) for n, d in data["period"]),
            busy_cycles=(int(data["busy_cycles"][0]), int(data["busy_cycles"][1])),
            fill_cycles=int(data["fill_cycles"]),
            drain_cycles=int(data["drain_cycles"]),
            exchange_cycles=int(data["exchange_cycles"]),
            shared_memory_bytes=int(data["shared_memory_bytes"]),
            stall_share=tuple(dict(share) for share in data["stall_share"]),
        )

    def ticks(self) -> MainloopTicks:
        """The same in chip ticks."""
        return MainloopTicks(
            period=tuple(rate_of(numerator * TICKS_PER_CYCLE / denominator) for numerator, denominator in self.period),
            fill=self.fill_cycles * TICKS_PER_CYCLE,
            drain=self.drain_cycles * TICKS_PER_CYCLE,
            exchange=self.exchange_cycles * TICKS_PER_CYCLE,
        )


@dataclass(frozen=True)
class MainloopTicks:
    """A mainloop in chip ticks: what an SM reserves its pipe by."""

    period: tuple[int, ...]
    """Fixed-point ticks per k-tile (see `nmsim.units.rate_of`)."""
    fill: int
    drain: int
    exchange: int
