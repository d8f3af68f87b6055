"""What a worker does: simulate points one after another and hand back their files.

A worker writes nothing, so that whoever runs the sweep is the only writer of its folder. It keeps the machine, the trace and
the kernels of the point before: neighbours on the axes share most of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from nmsim.api import changed_step
from nmsim.arch.load import load_arch
from nmsim.arch.machine import as_gpu
from nmsim.arch.spec import GpuSpec
from nmsim.errors import InputError, NmsimError
from nmsim.result.frames import key_of
from nmsim.result.points import POINT, Record, failed_records, point_file, result_records
from nmsim.result.store import run_files
from nmsim.run.step import Simulator
from nmsim.run.trace import simulate_trace
from nmsim.sweep.plan import Task
from nmsim.workload.store import read_trace
from nmsim.workload.trace import Trace


@dataclass(frozen=True)
class Outcome:
    """A finished point: the files of its folder, and the rows of its point.parquet."""

    key: str
    files: Mapping[str, bytes]
    records: Sequence[Record]


@dataclass(frozen=True)
class Done:
    """What a worker hands back: the first so many of its tasks, and the processor time they took."""

    outcomes: Sequence[Outcome]
    processor_s: float


def simulate_tasks(tasks: Sequence[Task], at_most_s: float) -> Done:
    """Simulate `tasks` in order, at least one, until `at_most_s` seconds have passed; whatever goes wrong is the point's result."""
    start, processor_start = time.monotonic(), time.thread_time()
    outcomes: list[Outcome] = []
    for task in tasks:
        outcomes.append(_simulate(task))
        if time.monotonic() - start >= at_most_s:
            break
    return Done(outcomes, time.thread_time() - processor_start)


def failed(key: str, task: Task, kind: str, error: str) -> Outcome:
    """The outcome of a point that could not be simulated."""
    records = failed_records(key, task.coordinates, kind, error)
    return Outcome(key, {POINT: point_file(records)}, records)


def _simulate(task: Task) -> Outcome:
    try:
        spec, trace = _machine(task.arch_file, task.overrides), _trace(task)
        result = simulate_trace(spec, trace, schemes=task.schemes, options=task.options, simulator=_simulator(task, spec))
        if key_of(result) != task.run_key:
            raise InputError("a file or nmsim itself changed since the sweep was planned", file=task.trace_file, fix="run the sweep again")
        records = result_records(task.key, task.run_key, task.coordinates, result)
        return Outcome(task.key, {POINT: point_file(records), **run_files(result)}, records)
    except InputError as error:
        return failed(task.key, task, "input", str(error))
    except NmsimError as error:
        return failed(task.key, task, "internal", str(error))
    except Exception as error:  # one bad point must not end the sweep
        return failed(task.key, task, "internal", ": ".join(filter(None, (type(error).__name__, str(error)))))


@cache
def _kept() -> threading.local:
    """What this thread keeps of its last point."""
    return threading.local()


def _machine(file: str, overrides: tuple[str, ...]) -> GpuSpec:
    kept = _kept()
    if getattr(kept, "machine_key", None) != (file, overrides):
        kept.machine = as_gpu(load_arch(file, overrides), "sweep")
        kept.machine_key = (file, overrides)
    spec: GpuSpec = kept.machine
    return spec


def _trace(task: Task) -> Trace:
    kept = _kept()
    if getattr(kept, "trace_file", None) != task.trace_file:
        kept.recorded = read_trace(task.trace_file)
        kept.trace_file = task.trace_file
    return changed_step(kept.recorded, pattern=task.pattern, batch=task.batch, dtype=task.dtype)


def _simulator(task: Task, spec: GpuSpec) -> Simulator:
    """One for all points of a group; a new group frees what the last one kept."""
    kept = _kept()
    if getattr(kept, "group", None) != (task.group, task.options):
        kept.simulator = Simulator(spec, task.options)
        kept.group = (task.group, task.options)
    simulator: Simulator = kept.simulator
    return simulator
