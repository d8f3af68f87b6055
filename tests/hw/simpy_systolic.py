"""A systolic array wired a second time, as processes over simpy: a bus, a loader and an array that wait for each other.

It shares the plan and the fixed points of the model with `nmsim.hw.systolic` (what is asked for when, when a stream may start),
and nothing of how that one orders transfers.
"""

from collections.abc import Generator
from typing import Any

import simpy
from simpy.events import EventPriority

from nmsim.hw.systolic import ArrayTiming
from nmsim.mapping.systolic import Fold

CYCLE = 256
LAST = EventPriority(9)  # after everything else of the tick


def simpy_ticks(timing: ArrayTiming, folds: tuple[Fold, ...], ticks_per_byte: int) -> int:
    """Ticks of the run, with a bus that takes a whole number of ticks for a byte."""
    return _Wiring(timing, folds, ticks_per_byte).run()


class _Wiring:
    def __init__(self, timing: ArrayTiming, folds: tuple[Fold, ...], ticks_per_byte: int) -> None:
        self.env, self.t, self.folds, self.per_byte = simpy.Environment(), timing, folds, ticks_per_byte
        self.segments = [segment for fold in folds for segment in fold.segments]
        self.queue: list[tuple[int, int, int, Any]] = []
        self.news = self.env.event()
        self.tiles: dict[int, Any] = {}
        self.inputs: dict[int, list[Any]] = {}
        self.loads = [self.env.event() for _ in folds]  # with the tick at which the tile is in place
        self.may_load = [self.env.event() for _ in folds]
        self.writes: list[list[Any]] = []  # by output, in the order in which their halves are taken
        self.posted = 0
        self.end = 0

    def run(self) -> int:
        for ahead in (0, 1):
            self.ask_tile(ahead)
        for ahead in (0, 1):
            self.ask_inputs(ahead)
        self.env.process(self.bus())
        self.env.process(self.loader())
        self.env.run(self.env.process(self.array()))
        return self.end

    def post(self, rank: int, nbytes: int) -> Any:
        booked = self.env.event()
        self.posted += 1
        self.queue.append((rank, self.posted, nbytes, booked))
        if not self.news.triggered:
            self.news.succeed()
        return booked

    def bus(self) -> Generator[Any, Any, None]:
        """Book the requests of a tick, in their order, when all of them are known: a queue's future is certain."""
        free = 0
        while True:
            if not self.queue:
                self.news = self.env.event()
                yield self.news
            settled = self.env.event()
            settled._ok, settled._value = True, None
            self.env.schedule(settled, priority=LAST)
            yield settled
            for _, _, nbytes, booked in sorted(self.queue, key=lambda request: request[:2]):
                start = max(free, int(self.env.now))
                free = start + nbytes * self.per_byte
                booked.succeed((start, free))
            self.queue.clear()

    def ask_tile(self, number: int) -> None:
        if number < len(self.folds) and self.folds[number].stationary_bytes:
            self.tiles[number] = self.post(0, self.folds[number].stationary_bytes)

    def ask_inputs(self, step: int) -> None:
        if step < len(self.segments):
            segment = self.segments[step]
            self.inputs[step] = [self.post(1, nbytes) for nbytes in segment.fetch_bytes if nbytes]
            if segment.partial_bytes:
                self.inputs[step].append(self.post(3, segment.partial_bytes))

    def until(self, tick: int) -> Any:
        return self.env.timeout(max(0, tick - int(self.env.now)))

    def earliest(self, span: tuple[int, int], length: int) -> int:
        start, end = span
        return max(start - (start - end) // (length // CYCLE), end - length + CYCLE) + self.t.memory_latency

    def loader(self) -> Generator[Any, Any, None]:
        for number in range(len(self.folds)):
            yield self.may_load[number]
            if number in self.tiles:
                yield self.until(self.earliest((yield self.tiles[number]), self.t.load))
            yield self.env.timeout(self.t.load)
            self.ask_tile(number + 2)
            self.loads[number].succeed()

    def array(self) -> Generator[Any, Any, None]:
        step, overlapped = 0, self.t.overlap != "none"
        self.may_load[0].succeed()
        for number, fold in enumerate(self.folds):
            for position, segment in enumerate(fold.segments):
                if position == 0 and number:
                    yield self.env.timeout(self.t.handover if overlapped else self.t.skew)
                    if not overlapped:
                        self.may_load[number].succeed()
                if position == 0:
                    yield self.loads[number]
                if segment.opens_output:
                    self.writes.append([])
                    if len(self.writes) > 2:
                        for write in self.writes[-3]:
                            yield self.until((yield write)[1] - self.t.skew)
                length = segment.cycles * CYCLE
                for request in self.inputs[step]:
                    yield self.until(self.earliest((yield request), length))
                if position == 0 and overlapped and number + 1 < len(self.folds):
                    self.may_load[number + 1].succeed()
                yield self.env.timeout(length)
                if segment.write_bytes:
                    self.writes[-1].append(self.post(2, segment.write_bytes))
                self.ask_inputs(step + 2)
                step += 1
        self.end = int(self.env.now) + self.t.skew
        for writes in self.writes[-2:]:
            for write in writes:
                self.end = max(self.end, (yield write)[1])
