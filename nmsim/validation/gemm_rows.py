"""Measured GEMM times as rows: the shipped files' format, and the one of a user's own `--data` file.

A line is one GEMM. Needed columns: `id, arch, m, n, k` and at least one of `dense_us`, `sparse_us`. Others, with what an
empty cell means: `l2` (warm; nothing on an array, which has none), `dtype` and `out_dtype` (fp16), `pattern` (2:4, of the weight,
which is the n x k operand), `set` (the machine as it is; else values of it that this measurement had otherwise, `a.b=VALUE` with
blanks between), `tags`, `gpu`, `source`, `status`, `note`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nmsim.arch.machine import Machine
from nmsim.arch.systolic import SystolicSpec
from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern
from nmsim.validation.measured import Comparison, Context
from nmsim.validation.own_data import machine_of_line, told_by_cell
from nmsim.validation.tabular import Line, read_lines

REQUIRED = ("id", "arch", "m", "n", "k", "dense_us", "sparse_us")
OPTIONAL = ("pattern", "l2", "dtype", "out_dtype", "set", "tags", "gpu", "source", "status", "note")


@dataclass(frozen=True)
class GemmRow:
    """One measured GEMM; times in us, launch included, None where not measured."""

    id: str
    arch: str
    l2: str
    """`cold`, `warm`, or empty where the file does not say."""
    m: int
    n: int
    k: int
    dtype: str
    out_dtype: str
    pattern: str
    dense_us: float | None
    sparse_us: float | None
    overrides: tuple[str, ...]
    """Values of the machine that this measurement had otherwise."""
    tags: frozenset[str]
    source: str
    status: str
    note: str
    line: Line
    """Where it was read."""

    @property
    def macs(self) -> int:
        """Dense-equivalent MACs."""
        return self.m * self.n * self.k


@dataclass(frozen=True)
class Timed:
    """One simulated run of a row: its time and what the board draws."""

    time_us: float
    power_w: float
    clock_mhz: int
    native: str
    """The pattern that ran, `dense` for none."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SimulatedGemm:
    """A row with its simulated runs; None where the row has no measured counterpart."""

    row: GemmRow
    dense: Timed | None
    sparse: Timed | None


def read_gemm_rows(path: Path) -> list[GemmRow]:
    """All rows of a file. InputError for a repeated id, a row without a time, or a cell that is none of its kind."""
    rows: dict[str, GemmRow] = {}
    for line in read_lines(path, REQUIRED, OPTIONAL):
        row = _row(line)
        if row.id in rows:
            raise line.error("id", "is the id of an earlier line too", "name each line once")
        rows[row.id] = row
    if not rows:
        raise InputError("holds no rows", file=path)
    return list(rows.values())


def simulate_rows(context: Context, rows: list[GemmRow]) -> Iterator[SimulatedGemm]:
    """Simulate what each row measured. Those beyond the context's most MACs are skipped. InputError names the cell that is wrong.

    All machines are read before the first row is run.
    """
    machines: dict[tuple[str, ...], Machine] = {}
    chosen = [row for row in rows if not _too_large(context, row)]
    for row in chosen:
        key = row.arch, *row.overrides
        if key not in machines:
            machines[key] = machine_of_line(context, row.line, row.arch, row.overrides)
        if row.l2 == "warm" and isinstance(machines[key], SystolicSpec):
            raise row.line.error("l2", f"is said of {row.arch}, which has no L2", "leave it empty")
    for done, row in enumerate(chosen):
        context.progress(done, len(chosen), row.id)
        with told_by_cell(row.line):
            simulated = _simulate(context, machines[row.arch, *row.overrides], row)
        yield simulated


def left_out(context: Context, rows: list[GemmRow]) -> tuple[str, ...]:
    """One line for each row that `simulate_rows` skips."""
    return tuple(f"{row.id}: {row.macs:.1e} MACs" for row in rows if _too_large(context, row))


def _too_large(context: Context, row: GemmRow) -> bool:
    return context.most_macs is not None and row.macs > context.most_macs


def comparisons_of(simulated: SimulatedGemm) -> list[Comparison]:
    """Dense time, sparse time and, where both were measured, the speed-up."""
    row, found = simulated.row, []
    tags = row.tags | ({"m >= 2048"} if row.m >= 2048 else set())
    if row.dense_us is not None and simulated.dense is not None:
        found.append(_comparison(row, "dense time", "us", row.dense_us, simulated.dense.time_us, tags | {"time", "dense"}))
    if row.sparse_us is not None and simulated.sparse is not None:
        ran = row.pattern if simulated.sparse.native == row.pattern else f"{row.pattern} as {simulated.sparse.native}"
        notes = "; ".join(filter(None, (row.note, *(simulated.sparse.notes if simulated.sparse.native != row.pattern else ()))))
        sparse = _comparison(row, f"{ran} time", "us", row.sparse_us, simulated.sparse.time_us, tags | {"time", "sparse"})
        found.append(replace(sparse, note=notes))
    if row.dense_us is not None and row.sparse_us is not None and simulated.dense is not None and simulated.sparse is not None:
        ratio = simulated.dense.time_us / simulated.sparse.time_us
        found.append(_comparison(row, "speed-up", "x", row.dense_us / row.sparse_us, ratio, tags | {"speedup"}))
    return found


def _comparison(row: GemmRow, quantity: str, unit: str, published: float, simulated: float, tags: frozenset[str] | set[str]) -> Comparison:
    return Comparison(row.id, quantity, unit, published, simulated, frozenset(tags), row.source, row.status, row.note)


def _simulate(context: Context, machine: Machine, row: GemmRow) -> SimulatedGemm:
    from nmsim.api import simulate_gemm

    def run(pattern: str | None) -> Timed:
        result = simulate_gemm(
            machine,
            m=row.m,
            n=row.n,
            k=row.k,
            dtype=row.dtype,
            out_dtype=row.out_dtype,
            pattern=pattern,
            l2=row.l2 or ("cold" if isinstance(machine, SystolicSpec) else "warm"),
            engine=context.engine,
        )
        return Timed(result.time_us, result.power_w, result.clock_mhz, result.native_pattern, result.notes)

    dense = None if row.dense_us is None else run(None)
    sparse = None if row.sparse_us is None else run(row.pattern)
    return SimulatedGemm(row, dense, sparse)


def _row(line: Line) -> GemmRow:
    row = GemmRow(
        id=line.required("id"),
        arch=line.required("arch"),
        l2=line.text("l2"),
        m=line.whole("m"),
        n=line.whole("n"),
        k=line.whole("k"),
        dtype=line.text("dtype", "fp16"),
        out_dtype=line.text("out_dtype", "fp16"),
        pattern=_pattern(line),
        dense_us=line.number_of("dense_us"),
        sparse_us=line.number_of("sparse_us"),
        overrides=tuple(line.text("set").split()),
        tags=frozenset(line.text("tags").split()),
        source=line.text("source", str(line.file)),
        status=line.text("status"),
        note=line.text("note"),
        line=line,
    )
    if row.l2 not in ("", "cold", "warm"):
        raise line.error("l2", "is no state of the L2", "write cold or warm, or leave it empty")
    if row.dense_us is None and row.sparse_us is None:
        raise line.error("dense_us", "is empty, and sparse_us too", "give at least one measured time")
    return row


def _pattern(line: Line) -> str:
    text = line.text("pattern", "2:4")
    if text == "dense" and not line.text("sparse_us"):
        return text
    try:
        return str(NMPattern.parse(text))
    except InputError as error:
        raise line.error("pattern", error.problem, error.fix or "write for example 2:4") from None
