"""DRAM as a systolic array sees it: one queue, one bus at an exact rate, one latency.

Modelled: transfers served whole and in order of arrival, reads and writes alike; the rate holds over a run (the remainder of
each division is carried). Not modelled: channels, banks, rows, refresh: `bandwidth_gb_per_s` is the sustained rate.

A transfer is resolved when its time is asked for, after all that arrived before it: whoever posts must have posted all of those
by then, and that is checked.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import NamedTuple

from nmsim.errors import PhysicsError
from nmsim.rules.server import serve


class Transfer(NamedTuple):
    """One served transfer, in ticks."""

    posted: int
    start: int
    """First byte on the bus."""
    end: int
    """Last byte on the bus."""


class MemoryQueue:
    """Serves transfers; all times in ticks."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._waiting: list[tuple[int, int, int, int]] = []
        self._served: dict[int, Transfer] = {}
        self._free = self._remainder = self._ticket = 0
        self._last = (0, 0)

    def post(self, time: int, rank: int, nbytes: int) -> int:
        """Ask for a transfer at `time`; `rank` orders transfers of one tick, the order of posting those of one rank."""
        if (time, rank) < self._last:
            raise PhysicsError(f"a transfer posted for tick {time} comes after one of tick {self._last[0]} was served")
        self._ticket += 1
        heappush(self._waiting, (time, rank, self._ticket, nbytes))
        return self._ticket

    def served(self, ticket: int) -> Transfer:
        """When a transfer ran."""
        while ticket not in self._served:
            time, rank, other, nbytes = heappop(self._waiting)
            start, self._free, self._remainder = serve(time, self._free, self._remainder, nbytes, self._rate)
            self._served[other] = Transfer(time, start, self._free)
            self._last = (time, rank)
        return self._served[ticket]
