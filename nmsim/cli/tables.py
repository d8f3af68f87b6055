"""Tables for a terminal: narrow enough to read, plain where the output is no terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from nmsim.result.rows import KernelRow, SimulationResult

PIPED_WIDTH = 140
"""Columns to lay tables out for where there is no terminal to ask."""


def console() -> Console:
    """Standard output; colour only on a terminal, and never with NO_COLOR (rich heeds it)."""
    from rich.console import Console

    probe = Console()
    return probe if probe.is_terminal else Console(width=PIPED_WIDTH)


def phase_table(result: SimulationResult) -> Table:
    """A row a phase and the total; cycles, time, energy of each scheme, and its speed-up over dense."""
    from rich.table import Table

    schemes = list(result.total)
    table = Table(title=f"{result.trace} on {result.arch}", title_justify="left")
    table.add_column("phase")
    for scheme in schemes:
        table.add_column(f"{scheme}\nkilocycles", justify="right")
        table.add_column("\ntime us", justify="right")
        table.add_column("\nenergy mJ", justify="right")
        if scheme != "dense" and "dense" in schemes:
            table.add_column("vs\ndense", justify="right")
    parts = {(part.phase, part.scheme): part for part in result.phases}
    phases = list(dict.fromkeys(part.phase for part in result.phases))
    for phase in phases:
        cells = [phase]
        for scheme in schemes:
            part = parts[phase, scheme]
            cells += [_number(part.cycles / 1000), _number(part.time_us), _number(part.energy_j * 1e3)]
            if scheme != "dense" and "dense" in schemes:
                cells.append(_ratio(parts[phase, "dense"].time_us, part.time_us))
        table.add_row(*cells)
    cells = ["total"]
    for scheme in schemes:
        total = result.total[scheme]
        cells += [_number(total.cycles / 1000), _number(total.time_us), _number(total.energy_j * 1e3)]
        if scheme != "dense" and "dense" in schemes:
            cells.append(_ratio(result.total["dense"].time_us, total.time_us))
    table.add_section()
    table.add_row(*cells, style="bold")
    return table


def gemm_table(result: SimulationResult, limit: int) -> Table:
    """The traced scheme's slowest GEMMs: ran sparse or not and why, what bounds each, against dense."""
    from rich.markup import escape
    from rich.table import Table

    dense = {row.gemm_id: row for row in result.rows if row.scheme == "dense" and row.kind == "gemm"}
    traced = sorted((row for row in result.rows if row.scheme == "traced" and row.kind == "gemm"), key=lambda row: -row.time_us)
    shown = traced[:limit] if limit else traced
    title = f"GEMMs of the traced recipe, slowest first ({len(shown)} of {len(traced)})"
    table = Table(title=title, title_justify="left")
    for column in ("layer and phase", "m x n x k (x l)"):
        table.add_column(column, overflow="fold")
    for column in ("time us", "vs dense"):
        table.add_column(column, justify="right")
    for column in ("ran", "bound", "why"):
        table.add_column(column, overflow="fold")
    for row in shown:
        other = dense.get(row.gemm_id)
        table.add_row(
            f"{escape(row.module)}\n{row.phase}",
            _shape(row),
            _number(row.time_us),
            _ratio(other.time_us, row.time_us) if other else "-",
            row.native_pattern if row.ran_sparse else "dense",
            row.bound,
            escape(row.reason),
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


def _shape(row: KernelRow) -> str:
    batch = f" x {row.l}" if row.l > 1 else ""
    return f"{row.m} x {row.n} x {row.k}{batch}"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(reference: float, value: float) -> str:
    return f"{reference / value:.2f}x" if value and reference else "-"
