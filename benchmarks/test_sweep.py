"""A sweep of 300 points: two workers against one, killed twice and resumed, and on a dask cluster, each to the same bytes.

Parallel efficiency is taken from processor time, because a neighbour's load stretches every wall clock. With one worker the points take
W processor seconds. With two they take some more (what both had to do), and a worker may stand idle, between its calls or
after its last one while the other is still at work. Efficiency = W / (processor seconds of both + seconds of idling), which on two idle
cores is W / (2 x elapsed time of the workers). Idle gaps are wall time and so count a busy neighbour against the sweep.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster

from nmsim.result.points import POINT, read_points
from nmsim.sweep.executors import DaskCluster, LocalPool
from nmsim.sweep.plan import Point, plan_points
from nmsim.sweep.run import run_sweep, warm_engine
from nmsim.sweep.spec import read_sweep_spec
from tests.sweep.processes import bytes_of, children, until

SPEC = Path(__file__).with_name("sweep.yaml")
ROOT = SPEC.parents[1]
POINTS = 300
EFFICIENCY = 0.85


def logged(log: Path, call: Callable[..., Any], *arguments: Any) -> Any:
    """A call in a worker, and a line of when it began and ended and what it took."""
    begin, processor = time.monotonic(), time.process_time()
    result = call(*arguments)
    line = {"begin": begin, "end": time.monotonic(), "processor_s": time.process_time() - processor}
    with (log / f"{os.getpid()}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    return result


class _Logging(Executor):
    def __init__(self, inner: Executor, log: Path) -> None:
        self._inner, self._log = inner, log

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        return self._inner.submit(logged, self._log, call, *arguments)


class LoggedPool:
    """Local processes that write down when they worked."""

    def __init__(self, jobs: int, log: Path) -> None:
        self._pool, self._log = LocalPool(jobs), log
        log.mkdir()

    @contextmanager
    def open(self) -> Iterator[Executor]:
        with self._pool.open() as executor:
            yield _Logging(executor, self._log)

    def capacity(self, executor: Executor) -> int:
        return self._pool.capacity(executor)

    def spent(self) -> tuple[float, float]:
        """(processor seconds in calls, idle seconds of the workers between the first call and the end of the last)."""
        workers = [[json.loads(line) for line in file.read_text().splitlines()] for file in sorted(self._log.iterdir())]
        begin = min(calls[0]["begin"] for calls in workers)
        end = max(calls[-1]["end"] for calls in workers)
        busy = sum(call["end"] - call["begin"] for calls in workers for call in calls)
        return sum(call["processor_s"] for calls in workers for call in calls), len(workers) * (end - begin) - busy


@pytest.fixture(scope="module")
def points() -> list[Point]:
    found = plan_points(read_sweep_spec(SPEC))
    assert len(found) == POINTS
    warm_engine(found)
    return found


@pytest.fixture(scope="module")
def runs(points: list[Point], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, float], float]:
    """(folder with the sweeps `1` and `2`, processor seconds by number of workers, idle seconds of the two).

    One worker, two, two, one, each with half of the points, so that a load that comes or goes meets both alike. The SM level's
    results are on disk before.
    """
    folder = tmp_path_factory.mktemp("runs")
    run_sweep(points[:: POINTS // 12], folder / "warm", LocalPool(1))
    processor_s, idle_s = {1: 0.0, 2: 0.0}, 0.0
    half = points[: POINTS // 2]
    for number, (jobs, part) in enumerate(((1, half), (2, half), (2, points), (1, points))):
        pool = LoggedPool(jobs, folder / f"log{number}")
        assert run_sweep(part, folder / str(jobs), pool).simulated == POINTS // 2
        busy, idle = pool.spent()
        processor_s[jobs] += busy
        idle_s += idle if jobs == 2 else 0.0
    return folder, processor_s, idle_s


@pytest.fixture(scope="module")
def one_worker(runs: tuple[Path, dict[int, float], float]) -> dict[str, bytes]:
    """The bytes of the folder that one worker wrote."""
    return bytes_of(runs[0] / "1")


def test_two_workers_are_nearly_twice_as_fast_as_one(runs: tuple[Path, dict[int, float], float], one_worker: dict[str, bytes]) -> None:
    folder, processor_s, idle_s = runs
    assert bytes_of(folder / "2") == one_worker
    efficiency = processor_s[1] / (processor_s[2] + idle_s)
    print(f"one worker {processor_s[1]:.1f} s, two {processor_s[2]:.1f} s and {idle_s:.1f} s idle: efficiency {efficiency:.3f}")
    assert efficiency >= EFFICIENCY


def test_killed_twice_and_resumed_it_is_complete(one_worker: dict[str, bytes], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nmsim", "sweep", str(SPEC), "--jobs", "2", "--out", str(tmp_path), "--json"]
    for goal in (POINTS // 3, 2 * POINTS // 3):
        sweep = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        until(lambda goal=goal: len(list(tmp_path.glob(f"[0-9a-f]*/{POINT}"))) >= goal, patience_s=1800)  # type: ignore[misc]
        assert children(sweep.pid)
        sweep.kill()
        sweep.wait()
    last = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    said = json.loads(last.stdout)
    assert said["kept"] >= 2 * POINTS // 3
    assert (said["kept"] + said["simulated"], said["failed"]) == (POINTS, 0)
    print(f"kept {said['kept']}, simulated after the second kill {said['simulated']}")
    assert bytes_of(tmp_path) == one_worker
    assert read_points(tmp_path)["point_key"].nunique() == POINTS


def test_a_dask_cluster_of_two_processes_gives_the_same_bytes(points: list[Point], one_worker: dict[str, bytes], tmp_path: Path) -> None:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        assert run_sweep(points, tmp_path, DaskCluster(cluster.scheduler_address)).simulated == POINTS
    assert bytes_of(tmp_path) == one_worker
