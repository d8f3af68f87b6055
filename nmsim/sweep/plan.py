"""The points of a sweep: every combination of its axes, each with the key of what it will be computed from.

Nothing is simulated here, but machines and traces are read, so that a point that was done before is known by its key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from nmsim.api import changed_step, run_options
from nmsim.arch.load import load_arch
from nmsim.arch.machine import Machine
from nmsim.arch.resolve import arch_key
from nmsim.arch.systolic import SystolicSpec
from nmsim.errors import InputError
from nmsim.result.points import Coordinates, point_key
from nmsim.run.choice import RunOptions
from nmsim.run.systolic import ENGINE
from nmsim.run.systolic_trace import planned_array_key
from nmsim.run.trace import planned_run_key, trace_key
from nmsim.sweep.networks import Network, RecordedTrace, read_networks, stage_files
from nmsim.sweep.spec import SweepSpec
from nmsim.workload.store import MANIFEST, read_trace
from nmsim.workload.trace import Trace

MAX_POINTS = 1_000_000


@dataclass(frozen=True)
class Task:
    """Everything a worker needs to simulate a point: plain data and paths, which workers elsewhere must see as well."""

    key: str
    run_key: str
    """What the run will be called; a worker whose files or version differ finds another."""
    coordinates: Coordinates
    arch_file: str
    overrides: tuple[str, ...]
    trace_file: str
    pattern: str | None
    batch: int | None
    dtype: str | None
    schemes: tuple[str, ...]
    options: RunOptions
    machine_key: str = ""
    stages: tuple[tuple[int, str], ...] = ()
    """(steps, trace file) of each stage of the whole run; none where it is not known."""
    recorded_at: int = 0
    """When the trace was written (nanoseconds), so that a worker does not keep an older one."""

    @property
    def group(self) -> tuple[object, ...]:
        """Points of one group share a machine and the dense form of their kernels, and are best simulated one after another."""
        return (self.machine_key, self.arch_file, self.overrides, self.coordinates.workload, self.coordinates.batch, self.coordinates.dtype)


@dataclass(frozen=True)
class Impossible:
    """A point that can't be simulated, known beforehand: a missing trace, a machine that contradicts itself."""

    key: str
    coordinates: Coordinates
    error: str


Point = Task | Impossible


@dataclass(frozen=True)
class _Machine:
    file: Path
    name: str
    overrides: tuple[str, ...]
    spec: Machine | None
    """None where it can't be: then `error` says why."""
    error: str


def plan_points(spec: SweepSpec) -> list[Point]:
    """The points of a sweep in the order of its axes, each once.

    InputError where a file can't be read, where there are too many points, or where no point at all is possible.
    """
    planner = _Planner(spec, run_options(spec.l2, spec.engine))
    machines = list(_machines(spec))
    points: dict[Coordinates, Point] = {}
    for network, machine in product(read_networks(spec.workloads), machines):
        for point in planner.points(network, machine):
            points.setdefault(point.coordinates, point)
            if len(points) > MAX_POINTS:
                raise InputError(f"more than {MAX_POINTS:,} points", fix="sweep over fewer values")
    found = list(points.values())
    refused = [point for point in found if isinstance(point, Impossible)]
    if len(refused) == len(found):
        raise InputError(f"none of the {len(found)} points can be simulated; the first: {refused[0].error}")
    return found


def _machines(spec: SweepSpec) -> Iterator[_Machine]:
    """Every architecture with every combination of overrides."""
    choices = [[f"{key}={value}" for value in values] for key, values in spec.overrides]
    stems = [file.stem for file in spec.archs]
    for file in spec.archs:
        load_arch(file)  # wrong before any override: no point of it is possible
        name = file.stem if stems.count(file.stem) == 1 else str(file)
        for overrides in product(*choices):
            try:
                yield _Machine(file, name, overrides, load_arch(file, overrides), "")
            except InputError as error:
                yield _Machine(file, name, overrides, None, str(error))


class _Planner:
    """Points of networks on machines; each trace is brought into each pattern, batch and element type once."""

    def __init__(self, spec: SweepSpec, options: RunOptions) -> None:
        self._spec, self._options = spec, options
        self._steps: dict[tuple[object, ...], tuple[str, Trace] | InputError] = {}
        self._traces: dict[Path, Trace] = {}

    def points(self, network: Network, machine: _Machine) -> Iterator[Point]:
        """Every recipe, pattern, batch and element type of the sweep, for one network on one machine."""
        spec = self._spec
        for recipe, pattern, batch, dtype in product(spec.recipes or network.recipes, spec.patterns, spec.batches, spec.dtypes):
            place = Coordinates(
                arch=machine.name,
                overrides=" ".join(machine.overrides),
                workload=network.name,
                recipe=recipe,
                trace="",
                pattern=pattern or "",
                batch=batch or 0,
                dtype=dtype or "",
                l2=self._options.l2,
                engine=self._options.engine,
            )
            try:
                selected = network.select(recipe, pattern)
            except InputError as error:
                yield _impossible(place, str(error))
                continue
            for recorded, assumed in selected:
                own = replace(place, trace=recorded.trace.name, pattern=assumed or recorded.pattern)
                yield self._point(machine, recorded, own, assumed, batch, dtype)

    def _point(
        self, machine: _Machine, recorded: RecordedTrace, place: Coordinates, pattern: str | None, batch: int | None, dtype: str | None
    ) -> Point:
        place = replace(place, batch=batch or recorded.trace.batch, dtype=dtype or recorded.trace.dtype)
        step = self._step(recorded.file, recorded.trace, pattern, batch, dtype)
        if machine.spec is None or isinstance(step, InputError):
            return _impossible(place, machine.error or str(step))
        machine_key = arch_key(machine.spec)
        if isinstance(machine.spec, SystolicSpec):
            place = replace(place, l2="none", engine=ENGINE)
            run = planned_array_key(machine_key, *step, self._spec.schemes)
        else:
            run = planned_run_key(machine_key, *step, self._spec.schemes, self._options)
        stages = self._stages(recorded, batch, dtype) if pattern is None else []
        return Task(
            key=point_key(place, run, [(steps, key) for steps, _, key in stages]),
            run_key=run,
            coordinates=place,
            arch_file=str(machine.file.absolute()),
            overrides=machine.overrides,
            trace_file=str(recorded.file.absolute()),
            pattern=pattern,
            batch=batch,
            dtype=dtype,
            schemes=self._spec.schemes,
            options=self._options,
            machine_key=machine_key,
            stages=tuple((steps, str(file.absolute())) for steps, file, _ in stages),
            recorded_at=max(written_at(file) for file in {recorded.file, *(file for _, file, _ in stages)}),
        )

    def _stages(self, recorded: RecordedTrace, batch: int | None, dtype: str | None) -> list[tuple[int, Path, str]]:
        """(steps, file, trace key) of each stage of the run; nothing where a stage is away or can't be so changed."""
        found = []
        for entry, file in zip(recorded.trace.schedule, stage_files(recorded.file, recorded.trace), strict=True):
            if file not in self._traces and not file.is_dir():
                return []
            if file not in self._traces:
                self._traces[file] = recorded.trace if file == recorded.file else read_trace(file)
            step = self._step(file, self._traces[file], None, batch, dtype)
            if isinstance(step, InputError):
                return []
            found.append((int(entry["steps"]), file, step[0]))
        return found

    def _step(self, file: Path, trace: Trace, pattern: str | None, batch: int | None, dtype: str | None) -> tuple[str, Trace] | InputError:
        """The key of a trace so changed, and the trace; or why it can't be."""
        wanted = (file, pattern, batch, dtype)
        if wanted not in self._steps:
            try:
                step = changed_step(trace, pattern=pattern, batch=batch, dtype=dtype)
                self._steps[wanted] = (trace_key(step), step)
            except InputError as error:
                self._steps[wanted] = error
        return self._steps[wanted]


def written_at(trace_file: Path) -> int:
    """When a trace was written, in nanoseconds."""
    return (trace_file / MANIFEST).stat().st_mtime_ns


def _impossible(place: Coordinates, error: str) -> Impossible:
    return Impossible(point_key(place, ""), place, error)
