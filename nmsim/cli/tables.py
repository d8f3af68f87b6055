"""Tables for a terminal: narrow enough to read, plain where the output is no terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from nmsim.result.rows import KernelRow, PhaseTotal, SimulationResult
    from nmsim.result.whole_run import RunTotal

PIPED_WIDTH = 120
"""Columns to lay tables out for where there is no terminal to ask."""
LONGEST_PHASE = len("backward_weight")
FRAMED_WIDTH = 96
"""Narrower tables have no frame."""


def console() -> Console:
    """Standard output; colour only on a terminal, and never with NO_COLOR (rich heeds it)."""
    from rich.console import Console

    probe = Console()
    return probe if probe.is_terminal else Console(width=PIPED_WIDTH)


def framed(title: str) -> Table:
    """An empty table with a title: in a frame, or with lines alone where a frame would take the place of numbers."""
    from rich.box import HORIZONTALS
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left")
    if console().width < FRAMED_WIDTH:
        table.box, table.padding, table.pad_edge = HORIZONTALS, (0, 1, 0, 0), False
    return table


def phase_table(result: SimulationResult) -> Table:
    """A row a phase and scheme, then the totals: cycles, time, energy, speed-up over dense and over tile-wise."""
    schemes = list(result.total)
    table = framed(f"{result.trace} on {result.arch}")
    table.add_column("phase", min_width=LONGEST_PHASE)
    table.add_column("scheme", no_wrap=True)
    for column in ("kilocycles", "time us", "energy mJ", "vs dense"):
        table.add_column(column, justify="right")
    table.add_column("vs tile-wise" if console().width >= FRAMED_WIDTH else "vs\ntile-wise", justify="right")
    parts = {(part.phase, part.scheme): part for part in result.phases}
    for phase in dict.fromkeys(part.phase for part in result.phases):
        if not any(parts[phase, scheme].time_us for scheme in schemes):
            continue
        table.add_section()
        for scheme in schemes:
            part = parts[phase, scheme]
            references = (_time_of(parts, phase, "dense"), _time_of(parts, phase, "tile_wise"))
            table.add_row(phase if scheme == schemes[0] else "", scheme, *_cost(part.cycles, part.time_us, part.energy_j, references))
    table.add_section()
    for scheme in schemes:
        total = result.total[scheme]
        times = tuple(result.total[other].time_us if other in result.total else 0.0 for other in ("dense", "tile_wise"))
        cells = _cost(total.cycles, total.time_us, total.energy_j, times)
        table.add_row("total" if scheme == schemes[0] else "", scheme, *cells, style="bold")
    return table


def run_table(result: SimulationResult, run: Mapping[str, RunTotal]) -> Table:
    """The whole run that the trace is a step of: a row a scheme, with the accuracy that the traced one reached."""
    from rich.table import Table

    accuracy = result.provenance.get("accuracy")
    reached = f", which reached {100 * accuracy:.1f} % held-out accuracy" if accuracy is not None else ""
    steps = next(iter(run.values())).steps
    table = Table(title=f"The whole run of {steps} steps{reached}", title_justify="left")
    table.add_column("scheme")
    for column in ("time ms", "energy J", "vs dense"):
        table.add_column(column, justify="right")
    for scheme, total in run.items():
        dense = run["dense"].time_s if "dense" in run else 0.0
        table.add_row(scheme, _number(1e3 * total.time_s), _number(total.energy_j), _ratio(dense, total.time_s))
    return table


def gemm_table(result: SimulationResult, limit: int) -> Table:
    """The traced scheme's GEMMs, alike ones together, slowest first: sparse or not and why, the bound, against dense."""
    from rich.markup import escape

    dense = {row.gemm_id: row for row in result.rows if row.scheme == "dense" and row.kind == "gemm"}
    alike: dict[tuple[object, ...], list[KernelRow]] = {}
    for row in result.rows:
        if row.scheme == "traced" and row.kind == "gemm":
            alike.setdefault((row.phase, _shape(row), row.kernel, row.cycles, row.reason), []).append(row)
    groups = sorted(alike.values(), key=lambda rows: -sum(row.time_us for row in rows))
    shown = groups[:limit] if limit else groups
    title = f"GEMMs of the traced recipe, those that cost most first ({len(shown)} of {len(groups)} kinds)"
    table = framed(title)
    shapes_apart = console().width >= FRAMED_WIDTH
    for column in ("phase and layer", "m x n x k (x l)") if shapes_apart else ("phase, layer, m x n x k",):
        table.add_column(column, overflow="fold", min_width=LONGEST_PHASE)
    for column in ("time us", "vs dense"):
        table.add_column(column, justify="right")
    for column in ("ran", "bound", "why"):
        table.add_column(column, overflow="fold")
    for rows in shown:
        first, time_us = rows[0], sum(row.time_us for row in rows)
        dense_us = sum(dense[row.gemm_id].time_us for row in rows if row.gemm_id in dense)
        more = f" and {len(rows) - 1} alike" if len(rows) > 1 else ""
        what = f"{first.phase}\n{escape(first.module)}{more}"
        table.add_row(
            *((what, _shape(first)) if shapes_apart else (f"{what}\n{_shape(first)}",)),
            _number(time_us),
            _ratio(dense_us, time_us),
            first.native_pattern if first.ran_sparse else "dense",
            first.bound,
            escape(first.reason),
        )
    return table


def key_values(pairs: Sequence[tuple[str, str]]) -> Table:
    """Two columns without a frame."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, value)
    return table


def _time_of(parts: Mapping[tuple[str, str], PhaseTotal], phase: str, scheme: str) -> float:
    part = parts.get((phase, scheme))
    return part.time_us if part is not None else 0.0


def _cost(cycles: float, time_us: float, energy_j: float, references_us: tuple[float, ...]) -> list[str]:
    """Cells of one cost; a dash where a reference was not simulated or took no time."""
    return [_number(cycles / 1000), _number(time_us), _number(energy_j * 1e3), *(_ratio(other, time_us) for other in references_us)]


def _shape(row: KernelRow) -> str:
    batch = f" x {row.l}" if row.l > 1 else ""
    return f"{row.m} x {row.n} x {row.k}{batch}"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(reference: float, value: float) -> str:
    return f"{reference / value:.2f}x" if value and reference else "-"
