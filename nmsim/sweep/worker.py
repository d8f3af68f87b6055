"""What a worker does: simulate points one after another and hand back their files.

A worker writes nothing, so that whoever runs the sweep is the only writer of its folder. It keeps the machine, the trace and
the kernels of the point before: neighbours on the axes share most of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nmsim.api import changed_step
from nmsim.arch.load import load_arch
from nmsim.arch.machine import Machine
from nmsim.arch.spec import GpuSpec
from nmsim.arch.systolic import SystolicSpec
from nmsim.errors import InputError, NmsimError
from nmsim.result.frames import key_of
from nmsim.result.points import POINT, Record, failed_records, point_file, result_records
from nmsim.result.rows import SimulationResult
from nmsim.result.store import run_files
from nmsim.result.whole_run import RunTotal, run_totals
from nmsim.run.step import Simulator
from nmsim.run.systolic_trace import simulate_array_trace
from nmsim.run.trace import simulate_trace
from nmsim.sweep.plan import Task
from nmsim.workload.store import read_trace
from nmsim.workload.trace import Trace

MOST_TRACES = 4
"""Traces that a thread keeps: those of a network's recipes, or of a run's stages."""


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
        result = _step_result(task, task.trace_file, task.pattern)
        if key_of(result) != task.run_key:
            raise NmsimError("a file or nmsim itself changed since the sweep was planned; run the sweep again")
        records = result_records(task.key, task.run_key, task.coordinates, result, _whole_run(task, result))
        return Outcome(task.key, {POINT: point_file(records), **run_files(result)}, records)
    except InputError as error:
        return failed(task.key, task, "input", str(error))
    except NmsimError as error:
        return failed(task.key, task, "internal", str(error))
    except Exception as error:  # one bad point must not end the sweep
        return failed(task.key, task, "internal", ": ".join(filter(None, (type(error).__name__, str(error)))))


def _step_result(task: Task, trace_file: str, pattern: str | None) -> SimulationResult:
    """A step of the point's run on its machine."""
    spec, recorded = _machine(task.machine_key, task.arch_file, task.overrides), _trace(trace_file, task.recorded_at)
    step = changed_step(recorded, pattern=pattern, batch=task.batch, dtype=task.dtype)
    if isinstance(spec, SystolicSpec):
        return simulate_array_trace(spec, step, schemes=task.schemes)
    return simulate_trace(spec, step, schemes=task.schemes, options=task.options, simulator=_simulator(task, spec))


def _whole_run(task: Task, result: SimulationResult) -> dict[str, RunTotal]:
    """The run that the step belongs to, by scheme; nothing where it is not known."""
    if not task.stages:
        return {}
    others = {file for _, file in task.stages} - {task.trace_file}
    results = {task.trace_file: result} | {file: _step_result(task, file, None) for file in sorted(others)}
    return run_totals([{"steps": steps, "trace": file} for steps, file in task.stages], results)


_KEPT = threading.local()
"""What a thread keeps of its last points; `lru_cache` would be shared by the threads of a worker, and a simulator must not be."""


def forget() -> None:
    """Drop what this thread keeps."""
    vars(_KEPT).clear()


def _machine(key: str, file: str, overrides: tuple[str, ...]) -> Machine:
    if getattr(_KEPT, "machine_key", None) != (key, file, overrides):
        _KEPT.machine = load_arch(file, overrides)
        _KEPT.machine_key = (key, file, overrides)
    spec: Machine = _KEPT.machine
    return spec


def _trace(file: str, recorded_at: int) -> Trace:
    traces: dict[tuple[str, int], Trace] = vars(_KEPT).setdefault("traces", {})
    if (file, recorded_at) not in traces:
        while len(traces) >= MOST_TRACES:
            del traces[next(iter(traces))]
        traces[file, recorded_at] = read_trace(file)
    return traces[file, recorded_at]


def _simulator(task: Task, spec: GpuSpec) -> Simulator:
    """One for all points of a group; a new group frees what the last one kept."""
    if getattr(_KEPT, "group", None) != (task.group, task.options):
        _KEPT.simulator = Simulator(spec, task.options)
        _KEPT.group = (task.group, task.options)
    simulator: Simulator = _KEPT.simulator
    return simulator
