"""What the tables of the page say, as text ready to print: one function a table, no markup."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nmsim.report.kernels import main_scheme, ran_dense, schemes_of
from nmsim.report.labels import (
    MISSING,
    common_name,
    count_text,
    numberless,
    percent_text,
    phase_name,
    scheme_name,
    si,
    time_text,
    times,
    unit_name,
)
from nmsim.result.rows import KernelRow, SimulationResult
from nmsim.result.totals import speedup

MAX_GEMM_ROWS = 300
"""Rows of the page's GEMM table, slowest first; kernels.csv has all."""


@dataclass(frozen=True)
class Table:
    """A table's head and body; `numeric` columns are aligned right, a row whose `strong` is set stands out."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int]
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Headline:
    """A large figure and what it is."""

    value: str
    meaning: str


def headlines(result: SimulationResult) -> tuple[Headline, ...]:
    """The answers first: time, speed-ups and energy of the main scheme, how many GEMMs ran sparse, and the accuracy that it cost."""
    name = main_scheme(schemes_of(result))
    main, dense = result.total[name], result.total.get("dense")
    found = [Headline(time_text(main.time_us), f"a training step, {scheme_name(name)}")]
    if name != "dense" and main.speedup_vs_dense is not None:
        found.append(Headline(times(main.speedup_vs_dense), "the speed of dense"))
    if name != "tile_wise" and main.speedup_vs_tile_wise is not None:
        found.append(Headline(times(main.speedup_vs_tile_wise), "the speed of tile-wise"))
    if dense is not None and name != "dense" and dense.energy_j > 0:
        found.append(Headline(times(main.energy_j / dense.energy_j), "the energy of dense"))
    gemms = [row for row in result.rows if row.kind == "gemm" and row.scheme == name]
    sparse = sum(row.ran_sparse for row in gemms)
    if gemms and name != "dense":
        found.append(Headline(f"{sparse} of {len(gemms)}", "GEMMs ran sparse"))
    accuracy = result.provenance.get("accuracy")
    if isinstance(accuracy, (int, float)):
        found.append(Headline(f"{100 * accuracy:.1f} %", "held-out accuracy when traced"))
    return tuple(found)


def totals_table(result: SimulationResult) -> Table:
    """A row a scheme: cycles, time, energy, average power and both speed-ups."""
    head = ("scheme", "cycles", "time", "energy", "average power", "clock", "speed-up over dense", "speed-up over tile-wise")
    rows = tuple(
        (
            scheme_name(scheme),
            count_text(total.cycles),
            time_text(total.time_us),
            si(total.energy_j, "J"),
            si(total.energy_j / total.time_us * 1e6, "W") if total.time_us else MISSING,
            _clocks(result, scheme),
            times(total.speedup_vs_dense),
            times(total.speedup_vs_tile_wise),
        )
        for scheme, total in ((scheme, result.total[scheme]) for scheme in schemes_of(result))
    )
    strong = schemes_of(result).index(main_scheme(schemes_of(result)))
    return Table(head, rows, frozenset(range(1, len(head))), frozenset([strong]))


def run_names(results: Sequence[SimulationResult]) -> list[str]:
    """A name a run: its trace and machine, and the options in which the runs differ."""
    differing = [key for key in sorted({key for result in results for key in result.options}) if _differs(results, key)]
    named = [{key: result.options.get(key) for key in differing} for result in results]
    return [
        f"{result.trace} on {result.arch}" + (f" ({_plain(options)})" if options else "")
        for result, options in zip(results, named, strict=True)
    ]


def phase_table(result: SimulationResult) -> Table:
    """A row a phase x scheme, schemes side by side within a phase; phases that take no time are left out."""
    totals = {(part.phase, part.scheme): part for part in result.phases}
    schemes = schemes_of(result)
    head = ("phase", "scheme", "cycles", "time", "share of step", "energy", "speed-up over dense")
    rows: list[tuple[str, ...]] = []
    for phase in dict.fromkeys(part.phase for part in result.phases):
        dense = totals.get((phase, "dense"))
        taken = [totals[phase, scheme] for scheme in schemes if totals[phase, scheme].time_us > 0]
        for place, part in enumerate(taken):
            share = part.time_us / result.total[part.scheme].time_us
            ratio = speedup(dense.time_us if dense else None, part.time_us)
            cells = (count_text(part.cycles), time_text(part.time_us), percent_text(share), si(part.energy_j, "J"), times(ratio))
            rows.append((phase_name(phase) if place == 0 else "", scheme_name(part.scheme), *cells))
    return Table(head, tuple(rows), frozenset(range(2, len(head))))


def gemm_table(result: SimulationResult) -> tuple[Table, int]:
    """The GEMMs of the main scheme, slowest first, and how many rows were left out: which ran sparse, why not, what bounds them.

    GEMMs of repeated blocks that agree in all the words of their row share it; their cycles and times are summed.
    """
    name = main_scheme(schemes_of(result))
    dense_us = {row.gemm_id: row.time_us for row in result.rows if row.scheme == "dense"}
    alike: dict[tuple[str, ...], list[KernelRow]] = {}
    for row in result.rows:
        if row.kind == "gemm" and row.scheme == name:
            alike.setdefault((numberless(row.module), *_gemm_words(row)), []).append(row)
    slowest_first = sorted(alike.items(), key=lambda item: -sum(row.time_us for row in item[1]))
    rows = []
    for (_, *words), members in slowest_first[:MAX_GEMM_ROWS]:
        time_us = sum(row.time_us for row in members)
        label = common_name([row.module for row in members]) + (f" ×{len(members)}" if len(members) > 1 else "")
        references_us = [dense_us[row.gemm_id] for row in members if row.gemm_id in dense_us]
        ratio = speedup(sum(references_us) if len(references_us) == len(members) else None, time_us)
        rows.append((label, *words, count_text(sum(row.cycles for row in members)), time_text(time_us), times(ratio)))
    head = ("module", "phase", "m × n × k", "ran", "why", "kernel", "bound by", "cycles", "time", "speed-up over dense")
    return Table(head, tuple(rows), frozenset({7, 8, 9})), len(slowest_first) - len(rows)


def provenance_table(result: SimulationResult) -> Table:
    """Everything needed to repeat the numbers: keys, versions, options, and how the network was trained."""
    training = dict(result.provenance)
    lines: list[tuple[str, object]] = [
        ("machine", result.arch),
        ("machine key", result.arch_key),
        ("trace", result.trace),
        ("trace key", result.trace_key),
        ("model version", result.model_version),
        ("engine", result.engine),
        ("options", dict(result.options)),
    ]
    known = ("kind", "model", "dataset", "recipe", "hyper_parameters", "seed", "step", "loss", "accuracy", "command", "versions", "notes")
    ordered = [key for key in known if key in training] + sorted(key for key in training if key not in known)
    lines += [(f"training: {key.replace('_', ' ')}", training[key]) for key in ordered]
    return Table(("item", "value"), tuple((name, _plain(value)) for name, value in lines), frozenset())


def sources_table(sources: Mapping[str, str]) -> Table:
    """What the values of a machine rest on, block by block; values of one block with one source share a row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for path, text in sources.items():
        block, _, name = path.rpartition(".")
        rows.setdefault((block or "machine", text), []).append("the others" if name == "*" else name)
    return Table(
        ("block", "values", "source"), tuple((block, ", ".join(names), text) for (block, text), names in rows.items()), frozenset()
    )


def run_sources(results: Sequence[SimulationResult]) -> list[tuple[str, Table]]:
    """`sources_table` of each machine of the runs, by name."""
    machines = {result.arch: sources_table(result.sources) for result in reversed(results)}
    return [(name, machines[name]) for name in dict.fromkeys(result.arch for result in results) if machines[name].rows]


def _gemm_words(row: KernelRow) -> tuple[str, ...]:
    """The cells of a GEMM that are not sums."""
    shape = f"{row.m} × {row.n} × {row.k}" + (f" × {row.l}" if row.l > 1 else "")
    launches = f" ({row.launches} launches)" if row.launches > 1 else ""
    ran = row.native_pattern if row.ran_sparse else "dense" if ran_dense(row) else unit_name(row.kernel)
    kernel = " ".join(part for part in (row.kernel, row.cta_tile) if part)
    return phase_name(row.phase), shape + launches, ran, row.reason, kernel, unit_name(row.bound)


def _differs(results: Sequence[SimulationResult], key: str) -> bool:
    return len({json.dumps(result.options.get(key), sort_keys=True) for result in results}) > 1


def _clocks(result: SimulationResult, scheme: str) -> str:
    """The clock of a scheme, or its span where kernels ran at several."""
    clocks = sorted({row.clock_mhz for row in result.rows if row.scheme == scheme})
    if not clocks:
        return MISSING
    return f"{clocks[0]} MHz" if len(clocks) == 1 else f"{clocks[0]} to {clocks[-1]} MHz"


def _plain(value: Any) -> str:
    """Plain data as a reader would write it: no quotes around text, `key = value` for objects."""
    if value is None or value == "":
        return MISSING
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_plain(item)}" for key, item in value.items() if item is not None) or MISSING
    if isinstance(value, (list, tuple)):
        return "; ".join(_plain(item) for item in value) or MISSING
    return json.dumps(value)
