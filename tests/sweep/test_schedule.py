"""Every point is simulated once, whatever workers do: hand back part of it, fail, or die."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.result.points import Coordinates
from nmsim.run.choice import RunOptions
from nmsim.sweep import schedule
from nmsim.sweep.plan import Task
from nmsim.sweep.worker import Done, Outcome, simulate_tasks


def task(number: int, group: int) -> Task:
    place = Coordinates("a", "", f"network{group}", "r", "t", f"{number}", 1, "fp16", "cold", "compiled")
    return Task(f"{number}", "run", place, "a.yaml", (), "t.nmtrace", None, None, None, (), RunOptions())


class Fake(Executor):
    """Workers that take calls in random order, hand back a random part, and die over the points in `deadly`: one
    worker alone, with the whole pool, or with the scheduler.
    """

    def __init__(self, seed: int, workers: int, deadly: frozenset[str], death: str) -> None:
        self.random, self.workers, self.deadly, self.death = random.Random(seed), workers, deadly, death
        self.simulated: Counter[str] = Counter()
        self.most_at_once = self.opened = 0
        self._waiting: list[tuple[Future[Any], Sequence[Task]]] = []
        self._broken = False

    @contextmanager
    def open(self) -> Iterator[Executor]:
        self._broken, self._waiting = False, []
        self.opened += 1
        yield self

    def capacity(self, _: Executor) -> int:
        return self.workers

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        assert call is simulate_tasks
        if self._broken:
            raise BrokenExecutor("dead")
        future: Future[Any] = Future()
        self._waiting.append((future, arguments[0]))
        self.most_at_once = max(self.most_at_once, len(self._waiting))
        return future

    def work(self) -> None:
        """One worker gets through one call."""
        future, tasks = self._waiting.pop(self.random.randrange(len(self._waiting)))
        done = tasks[: self.random.randint(1, len(tasks))]
        if any(one.key in self.deadly for one in done):
            self._waiting.append((future, tasks))
            lost = [future] if self.death == "worker" else [other for other, _ in self._waiting]
            for other in lost:
                if self.death == "scheduler":
                    other.cancel()
                    other.set_running_or_notify_cancel()
                else:
                    other.set_exception(BrokenExecutor("a worker died") if self.death == "pool" else RuntimeError("killed worker"))
            self._waiting = [one for one in self._waiting if one[0] not in lost]
            self._broken = self.death != "worker"
            return
        self.simulated.update(one.key for one in done)
        future.set_result(Done([Outcome(one.key, {}, [{"status": "ok"}]) for one in done], 0.0))


def drive(tasks: Sequence[Task], fake: Fake, monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    def wait(futures: Any, **options: Any) -> Any:
        if not any(future.done() for future in futures):
            fake.work()
        return wait_for(futures, **options)

    with monkeypatch.context() as patch:
        patch.setattr(schedule, "wait", wait)
        return [outcome for done in schedule.simulate_points(tasks, fake) for outcome in done.outcomes]


@given(
    seed=st.integers(0, 2**32),
    workers=st.integers(1, 4),
    groups=st.lists(st.integers(0, 3), max_size=60),
    deadly=st.frozensets(st.integers(0, 59), max_size=3),
    death=st.sampled_from(["worker", "pool", "scheduler"]),
)
def test_every_point_is_reported_once_and_only_deadly_ones_as_failed(
    seed: int, workers: int, groups: list[int], deadly: frozenset[int], death: str
) -> None:
    tasks = [task(number, group) for number, group in enumerate(groups)]
    doomed = frozenset(str(number) for number in deadly if number < len(tasks))
    fake = Fake(seed, workers, doomed, death)
    with pytest.MonkeyPatch.context() as patch:
        outcomes = drive(tasks, fake, patch)
    assert Counter(outcome.key for outcome in outcomes) == Counter(one.key for one in tasks)
    assert {outcome.key for outcome in outcomes if outcome.records[0]["status"] == "failed"} == doomed
    assert max(fake.simulated.values(), default=1) == 1
    assert fake.most_at_once <= workers


def test_workers_share_a_single_group(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(1, 4, frozenset(), "pool")
    drive([task(number, 0) for number in range(40)], fake, monkeypatch)
    assert fake.most_at_once == 4


def test_points_of_a_group_stay_side_by_side() -> None:
    mixed = [task(number, number % 3) for number in range(9)]
    assert [one.coordinates.workload[-1] for one in schedule.sorted_by_group(mixed)] == list("000111222")


def test_nothing_to_do_opens_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(1, 2, frozenset(), "pool")
    assert drive([], fake, monkeypatch) == []
    assert fake.opened == 0
