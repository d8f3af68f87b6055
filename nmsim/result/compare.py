"""Two folders of results side by side: which runs belong together, by how much each changed, and which stall made the difference.

A time is launches + (busy cycles + stalls) / clock, so the difference of two times is the sum of the differences of these parts
in microseconds, whether cycles or the clock moved them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nmsim.errors import InputError
from nmsim.result.frames import key_of
from nmsim.result.points import Coordinates, Record, is_sweep, read_point, read_sweep, result_records
from nmsim.result.rows import KernelRow, SimulationResult
from nmsim.result.schema import STALL_COLUMNS
from nmsim.result.store import read_results

PARTS = ("launch", "busy", *STALL_COLUMNS)
"""What a time is made of."""
_ASSUMED = re.compile(r"pattern (\d+:\d+) assumed on")


@dataclass(frozen=True)
class Change:
    """A scheme's step, or one phase or kernel of it, in A and in B."""

    time_us: tuple[float, float]
    energy_j: tuple[float, float]
    parts_us: Mapping[str, float]
    """B - A of each of PARTS, in microseconds; they sum to the difference of the times."""

    @property
    def ratio(self) -> float | None:
        """Time of A over time of B: above 1 where B is faster; None where either takes no time."""
        return self.time_us[0] / self.time_us[1] if self.time_us[0] and self.time_us[1] else None

    @property
    def reasons(self) -> list[tuple[str, float]]:
        """The parts that moved, those that moved most first."""
        moved = [(name, delta) for name, delta in self.parts_us.items() if delta]
        return sorted(moved, key=lambda item: (-abs(item[1]), item[0]))


@dataclass(frozen=True)
class Pair:
    """A run of A and its counterpart in B."""

    name: str
    """The axes in which the pairs differ from each other; empty for a single pair."""
    folders: tuple[Path, Path]
    inputs: tuple[str, ...]
    """What their numbers come from that is not the same: machine, trace, model version, options."""
    schemes: Mapping[str, Change]
    phases: Mapping[tuple[str, str], Change]
    """By (scheme, phase)."""


@dataclass(frozen=True)
class Comparison:
    """Everything `compare_results` says."""

    directories: tuple[Path, Path]
    changed: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    """Axes in which all of A differ from all of B, and their values."""
    pairs: tuple[Pair, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]


@dataclass(frozen=True)
class _Run:
    """One stored run: its place on the axes, its sums, its keys."""

    folder: Path
    coordinates: Coordinates
    records: Sequence[Record]
    result: SimulationResult


def compare_results(a: Path, b: Path) -> Comparison:
    """Pair the runs of two folders (of `simulate --out` or of sweeps) and compare each pair.

    Runs belong together where they agree on every axis on which the folders have any value in common; what they have no value of in
    common is what changed. InputError where a folder holds no results, or where no run has one counterpart.
    """
    of_a, of_b = _runs(a), _runs(b)
    axes = list(asdict(of_a[0].coordinates))
    values = {axis: tuple({str(getattr(run.coordinates, axis)): None for run in runs} for runs in (of_a, of_b)) for axis in axes}
    changed = {axis: (tuple(in_a), tuple(in_b)) for axis, (in_a, in_b) in values.items() if not set(in_a) & set(in_b)}
    shared = [axis for axis in axes if axis not in changed]
    by_place_a, by_place_b = _by_place(of_a, shared), _by_place(of_b, shared)
    together = [place for place in by_place_a if len(by_place_a[place]) == len(by_place_b.get(place, ())) == 1]
    if not together:
        fix = "compare folders of the same traces, or of sweeps that share points"
        raise InputError("no run of one folder has a counterpart in the other", file=a, value=str(b), fix=fix)
    telling = [axis for index, axis in enumerate(shared) if len({place[index] for place in together}) > 1]

    def name(run: _Run, axes: Sequence[str] = telling) -> str:
        return " ".join(_word(axis, getattr(run.coordinates, axis)) for axis in axes if getattr(run.coordinates, axis) != "")

    return Comparison(
        directories=(a, b),
        changed=changed,
        pairs=tuple(_pair(by_place_a[place][0], by_place_b[place][0], name(by_place_a[place][0])) for place in together),
        only_in_a=tuple(name(run, shared) for place, runs in by_place_a.items() if place not in together for run in runs),
        only_in_b=tuple(name(run, shared) for place, runs in by_place_b.items() if place not in together for run in runs),
    )


def kernel_changes(pair: Pair, scheme: str = "traced") -> list[tuple[KernelRow, Change]]:
    """The kernels that a pair's steps have in common (by id), with B's row, those whose time changed most first."""
    before, after = ({row.gemm_id: row for row in read_results(folder)[0].rows if row.scheme == scheme} for folder in pair.folders)
    found = [(after[key], _change([_kernel_record(before[key])], [_kernel_record(after[key])])) for key in before if key in after]
    return sorted(found, key=lambda item: -abs(item[1].time_us[1] - item[1].time_us[0]))


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Plain data with stable keys: what `nmsim compare --json` prints."""
    return {
        "a": str(comparison.directories[0]),
        "b": str(comparison.directories[1]),
        "changed": {axis: {"a": list(in_a), "b": list(in_b)} for axis, (in_a, in_b) in comparison.changed.items()},
        "pairs": [
            {
                "name": pair.name,
                "inputs_changed": list(pair.inputs),
                "schemes": {scheme: _json(change) for scheme, change in pair.schemes.items()},
                "phases": [{"scheme": scheme, "phase": phase} | _json(change) for (scheme, phase), change in pair.phases.items()],
            }
            for pair in comparison.pairs
        ],
        "only_in_a": list(comparison.only_in_a),
        "only_in_b": list(comparison.only_in_b),
    }


def _json(change: Change) -> dict[str, Any]:
    return {
        "time_us": {"a": change.time_us[0], "b": change.time_us[1]},
        "energy_j": {"a": change.energy_j[0], "b": change.energy_j[1]},
        "speedup": change.ratio,
        "parts_us": dict(change.parts_us),
    }


def _runs(directory: Path) -> list[_Run]:
    """The runs under a folder; failed points of a sweep have no numbers to compare."""
    if not is_sweep(directory):
        results = read_results(directory)
        folders = [directory / key_of(result) for result in results]
        return [
            _Run(folder if folder.is_dir() else directory, place, result_records("", key_of(result), place, result), result)
            for result, folder in zip(results, folders, strict=True)
            for place in [_place(result)]
        ]
    found = []
    for key, place in read_sweep(directory).points:
        records = read_point(directory, key)
        if records and records[0]["status"] == "ok":
            found.append(_Run(directory / key, place, records, read_results(directory / key)[0]))
    if not found:
        raise InputError("no point of this sweep has a result", file=directory, fix="run `nmsim sweep` again")
    return found


def _place(result: SimulationResult) -> Coordinates:
    """Where a run of `nmsim simulate` lies on the axes of sweeps."""
    assumed = [match[1] for note in result.provenance.get("notes", ()) if (match := _ASSUMED.match(str(note)))]
    return Coordinates(
        arch=result.arch,
        overrides="",
        workload=result.trace,
        recipe=str(result.provenance.get("recipe") or ""),
        trace=result.trace,
        pattern=assumed[-1] if assumed else "recorded",
        batch=int(result.options.get("batch") or 0),
        dtype=str(result.options.get("dtype") or ""),
        l2=str(result.options.get("l2") or ""),
        engine=result.engine,
    )


def _by_place(runs: Sequence[_Run], axes: Sequence[str]) -> dict[tuple[Any, ...], list[_Run]]:
    found: dict[tuple[Any, ...], list[_Run]] = {}
    for run in runs:
        found.setdefault(tuple(getattr(run.coordinates, axis) for axis in axes), []).append(run)
    return found


def _word(axis: str, value: object) -> str:
    return f"batch {value}" if axis == "batch" else str(value)


def _pair(before: _Run, after: _Run, name: str) -> Pair:
    keys = {"machine": "arch_key", "trace": "trace_key", "model version": "model_version", "options": "options"}
    inputs = [word for word, field in keys.items() if getattr(before.result, field) != getattr(after.result, field)]
    schemes = [scheme for scheme in before.result.total if scheme in after.result.total]

    def of(run: _Run, scheme: str, phase: str | None = None) -> list[Record]:
        return [one for one in run.records if one["scheme"] == scheme and phase in (None, one["phase"])]

    phases = [(scheme, one["phase"]) for scheme in schemes for one in of(before, scheme)]
    return Pair(
        name=name,
        folders=(before.folder, after.folder),
        inputs=tuple(inputs),
        schemes={scheme: _change(of(before, scheme), of(after, scheme)) for scheme in schemes},
        phases={key: _change(of(before, *key), of(after, *key)) for key in phases},
    )


def _change(before: Sequence[Record], after: Sequence[Record]) -> Change:
    parts = [{part: sum(_part_us(record, part) for record in records) for part in PARTS} for records in (before, after)]
    return Change(
        time_us=(sum(one["time_us"] for one in before), sum(one["time_us"] for one in after)),
        energy_j=(sum(one["energy_j"] for one in before), sum(one["energy_j"] for one in after)),
        parts_us={part: parts[1][part] - parts[0][part] for part in PARTS},
    )


def _part_us(record: Record, part: str) -> float:
    if part == "launch":
        launch_us: float = record["launch_us"]
        return launch_us
    cycles: float = record["busy_cycles"] if part == "busy" else record[STALL_COLUMNS[part]]
    return cycles / record["clock_mhz"] if cycles else 0.0


def _kernel_record(row: KernelRow) -> Record:
    names = ("time_us", "energy_j", "launch_us", "busy_cycles", "clock_mhz")
    return {name: getattr(row, name) for name in names} | {column: row.stall_cycles[name] for name, column in STALL_COLUMNS.items()}
