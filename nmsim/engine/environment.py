"""simpy with a canonical order: events of one tick fire by their key, never by when they were scheduled."""

from __future__ import annotations

from heapq import heappush
from typing import Any

import simpy
from simpy.events import Event

_FIRST_KEY = 2
"""simpy's own priorities are 0 (urgent) and 1 (normal); keys come after both."""


class KeyedEnvironment(simpy.Environment):
    """A simpy environment whose time is an int of ticks and whose ties are broken by an integer key."""

    def __init__(self) -> None:
        super().__init__(initial_time=0)

    def until(self, tick: int, key: int) -> Event:
        """An event that fires at `tick`, in the order of `key` among the events of that tick."""
        if tick < self._now:
            raise ValueError(f"an event at tick {tick} lies in the past of tick {self._now}")
        event = Event(self)
        event._ok = True
        event._value = None
        heappush(self._queue, (tick, key + _FIRST_KEY, next(self._eid), event))  # type: ignore[misc]  # simpy types its priorities too narrowly
        return event

    @property
    def tick(self) -> int:
        """The present tick."""
        now: Any = self._now
        return int(now)
