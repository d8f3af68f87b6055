"""`nmsim compare`: what changed between two folders of results, by how much, and by which stall."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from nmsim.result.compare import Change, Comparison, Pair

REASONS = 3
"""Parts of a change that a table names."""
SAME = 5e-4
"""A change of a time below this share of it is shown as none."""


def compare(
    a: Annotated[Path, typer.Argument(metavar="DIR_A", help="Results of simulate --out or of sweep.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="DIR_B", help="The results to hold beside them.", show_default=False)],
    scheme: Annotated[str, typer.Option(help="The scheme whose points, phases and kernels are listed.")] = "traced",
    rows: Annotated[int, typer.Option(min=1, help="Points or kernels to list, those that changed most first.")] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Say what changed from DIR_A to DIR_B, by how much, and which stall made the difference.

    Examples:

      nmsim compare results/108_sms results/144_sms

      nmsim compare results/before results/after --scheme dense --json
    """
    from nmsim.errors import InputError
    from nmsim.result.compare import compare_results, comparison_json

    comparison = compare_results(a, b)
    if scheme.replace("-", "_") not in comparison.pairs[0].schemes:
        known = ", ".join(comparison.pairs[0].schemes)
        raise InputError("not simulated in both folders", path="--scheme", value=scheme, fix=f"use one of {known}")
    if as_json:
        typer.echo(json.dumps(comparison_json(comparison), indent=1))
    else:
        _print(comparison, scheme.replace("-", "_"), rows)


def _print(comparison: Comparison, scheme: str, rows: int) -> None:
    from nmsim.cli.tables import console

    screen = console()
    for line in _headlines(comparison):
        screen.print(line, markup=False, highlight=False)
    if len(comparison.pairs) == 1:
        (pair,) = comparison.pairs
        screen.print(_table("scheme", [(name.replace("_", "-"), change) for name, change in pair.schemes.items()]))
        phases = [(phase, change) for (of, phase), change in pair.phases.items() if of == scheme and any(change.time_us)]
        screen.print(_table(f"phase ({scheme})", phases))
        kernels = _kernels(pair, scheme, rows)
        screen.print(_table(f"kernel ({scheme})", kernels) if kernels else "no single kernel changed", highlight=False)
        return
    changed = sorted(comparison.pairs, key=lambda pair: -abs((pair.schemes[scheme].ratio or 1.0) - 1.0))
    moved = [(pair.name, pair.schemes[scheme]) for pair in changed if not _same(pair.schemes[scheme])]
    screen.print(f"{len(moved)} of {len(changed)} points changed ({scheme})", highlight=False)
    if moved:
        screen.print(_table("point", moved[:rows]))


def _headlines(comparison: Comparison) -> list[str]:
    """What differs in the inputs, and what has no counterpart."""
    lines = [f"A  {comparison.directories[0]}", f"B  {comparison.directories[1]}"]
    for axis, (in_a, in_b) in comparison.changed.items():
        lines.append(f"{axis}: {_several(in_a)} -> {_several(in_b)}")
    inputs = {word for pair in comparison.pairs for word in pair.inputs}
    lines.append(f"not the same in A and B: {', '.join(sorted(inputs)) if inputs else 'nothing that timing or energy read'}")
    for name, alone in (("A", comparison.only_in_a), ("B", comparison.only_in_b)):
        if alone:
            lines.append(f"{len(alone)} without a counterpart in {name}, the first: {alone[0]}")
    return lines


def _several(values: tuple[str, ...]) -> str:
    shown = ", ".join(value or "none" for value in values[:4])
    return f"{shown}, ..." if len(values) > 4 else shown


def _kernels(pair: Pair, scheme: str, rows: int) -> list[tuple[str, Change]]:
    from nmsim.result.compare import kernel_changes

    return [(row.gemm_id, change) for row, change in kernel_changes(pair, scheme) if not _same(change)][:rows]


def _table(what: str, changes: list[tuple[str, Change]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(what, overflow="fold")
    for column in ("A us", "B us", "speed-up", "energy"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("because of (us)", overflow="fold")
    for name, change in changes:
        times = (f"{value:,.1f}" for value in change.time_us)
        energy = f"{change.energy_j[1] / change.energy_j[0]:.2f}x" if change.energy_j[0] else "-"
        ratio = "-" if change.ratio is None else f"{change.ratio:.3f}x"
        table.add_row(escape(name), *times, ratio, energy, _reasons(change))
    return table


def _reasons(change: Change) -> str:
    """The parts that moved the time most: `dram_queue -12.3, busy +0.4`."""
    if _same(change):
        return "no change"
    told = [f"{name} {delta:+,.1f}" for name, delta in change.reasons[:REASONS] if abs(delta) >= 0.05]
    return ", ".join(told) or "many small parts"


def _same(change: Change) -> bool:
    return abs(change.time_us[1] - change.time_us[0]) <= SAME * max(change.time_us)
