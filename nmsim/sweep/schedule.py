"""Which worker gets which points when: groups stay together, idle workers split them, a dead worker's points are tried alone.

A worker is given points of one group (`Task.group`) and a second to work on them; what is left comes back first. So
progress is seen and kept every second, and a worker goes on with the machine and kernels that it has at hand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from contextlib import AbstractContextManager
from functools import partial
from itertools import groupby
from typing import Protocol

from nmsim.sweep.plan import Task
from nmsim.sweep.worker import Done, failed, simulate_tasks

AT_MOST_S = 1.0
"""Seconds after which a worker hands back what it has (after the point it is at)."""
MAX_GROUP = 64
"""Points of a group that one worker takes at most."""


class Workers(Protocol):
    """Anything that opens an Executor; it is opened anew after its workers died."""

    def open(self) -> AbstractContextManager[Executor]:
        """A new executor, ended with the context."""

    def capacity(self, executor: Executor) -> int:
        """How many calls it works on at once."""


def simulate_points(tasks: Iterable[Task], workers: Workers, at_most_s: float = AT_MOST_S) -> Iterator[Done]:
    """Simulate every task once and yield what comes back, in whatever order.

    Where workers die, what they held is tried again alone, first as it was and then point by point, until it is known
    which point kills its worker: that one is reported as failed.
    """
    queue = _Queue(tasks)
    while queue:
        with workers.open() as executor:
            yield from _serve(queue, executor, partial(workers.capacity, executor), at_most_s)


def _serve(queue: _Queue, executor: Executor, capacity: Callable[[], int], at_most_s: float) -> Iterator[Done]:
    """Until the queue is empty or the executor breaks; what was lost is back in the queue then."""
    running: dict[Future[Done], Sequence[Task]] = {}
    broken = False
    while running or (queue and not broken):
        while not broken and queue and (not running if queue.suspects else len(running) < max(1, capacity())):
            given = queue.take(max(1, capacity()) - len(running))
            try:
                running[executor.submit(simulate_tasks, given, at_most_s)] = given
            except BrokenExecutor:
                queue.groups.appendleft(given)
                broken = True
        alone = len(running) == 1
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            given = running.pop(future)
            error = CancelledError() if future.cancelled() else future.exception()
            if error is None:
                done = future.result()
                queue.give_back(given[len(done.outcomes) :])
                yield done
                continue
            broken |= isinstance(error, BrokenExecutor | CancelledError)  # cancelled: a cluster lost its scheduler
            if alone and given in queue.alone and len(given) == 1:
                yield Done([failed(given[0].key, given[0], "worker", _death(error))], 0.0)
            else:
                queue.suspect(given)


def _death(error: BaseException) -> str:
    return f"the worker that simulated this point died, twice ({type(error).__name__}: killed, or out of memory?)"


class _Queue:
    """Points waiting, group by group, and those whose worker died, which are tried alone."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.groups: deque[Sequence[Task]] = deque()
        self.suspects: deque[Sequence[Task]] = deque()
        self.alone: list[Sequence[Task]] = []
        """What was last given out alone."""
        for _, members in groupby(sorted_by_group(tasks), key=lambda task: task.group):
            points = list(members)
            self.groups.extend(points[first : first + MAX_GROUP] for first in range(0, len(points), MAX_GROUP))

    def __bool__(self) -> bool:
        return bool(self.groups or self.suspects)

    def take(self, idle: int) -> Sequence[Task]:
        """What the next worker gets; half a group where there are fewer groups than idle workers."""
        if self.suspects:
            given = self.suspects.popleft()
            self.alone = [given]
            return given
        self.alone = []
        given = self.groups.popleft()
        if len(self.groups) + 1 < idle and len(given) > 1:
            middle = (len(given) + 1) // 2
            self.groups.appendleft(given[middle:])
            given = given[:middle]
        return given

    def give_back(self, rest: Sequence[Task]) -> None:
        """What a worker did not get to: next in turn, and alone if it was given out alone."""
        if rest:
            (self.suspects if self.alone else self.groups).appendleft(rest)

    def suspect(self, given: Sequence[Task]) -> None:
        """What a dead worker held: as it was, and point by point if it was alone already."""
        if given in self.alone:
            self.suspects.extendleft([task] for task in reversed(given))
        else:
            self.suspects.append(given)


def sorted_by_group(tasks: Iterable[Task]) -> list[Task]:
    """Tasks of a group side by side, groups in the order in which they first come."""
    groups: dict[tuple[object, ...], list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.group, []).append(task)
    return [task for members in groups.values() for task in members]
