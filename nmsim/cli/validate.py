"""`nmsim validate`: simulated beside published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmsim.errors import CheckFailed, InputError

if TYPE_CHECKING:
    from rich.table import Table

    from nmsim.validation.ablation import AblationRow
    from nmsim.validation.judge import SuiteReport

app = typer.Typer(rich_markup_mode="rich", add_completion=False)


@app.command()
def validate(
    suites: Annotated[
        list[str] | None, typer.Argument(metavar="[SUITE]...", help="Which suites; without any, all but gemm_held_out.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="MY_GPU.csv", help="Your own GEMM times (or, of tensor_core, instructions) instead of the published ones."),
    ] = None,
    ablation: Annotated[bool, typer.Option("--ablate", help="Also run the suites without each mechanism: what it is worth.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out GEMMs of more than 10^12 MACs.")] = False,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Change a value of every machine.")] = None,
    engine: Annotated[str | None, typer.Option(help="compiled (default) or simpy: the same answers.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Also write figures, tables and all rows as CSV there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Compare the simulator with published measurements, row by row, and fail where a suite misses its bar.

    Rows that a constant was fitted to are shown, never counted.

    Examples:

      nmsim validate

      nmsim validate gemm power --quick

      nmsim validate gemm memory --ablate

      nmsim validate gemm --data my_gpu.csv --json

      nmsim validate tensor_core --data my_instructions.csv

      nmsim validate --out docs/validation
    """
    from nmsim.cli.progress import announce_engine, simulation_progress
    from nmsim.validation.ablation import ablate, as_plain_rows
    from nmsim.validation.measured import QUICK_MACS, Context
    from nmsim.validation.own_data import suite_of
    from nmsim.validation.run import as_plain_data, run_suites

    own = [name.replace("-", "_") for name in suites or ([suite_of(data)] if data else [])]
    if data is not None and own not in (["gemm"], ["tensor_core"]):
        problem = "your own data are times of GEMMs or of matrix instructions"
        raise InputError(problem, path="--data", value=str(data), fix="name the suite gemm or tensor_core, or none")
    announce_engine(engine)
    with simulation_progress() as progress:
        context = Context(tuple(overrides or ()), engine, QUICK_MACS if quick else None, data=data, progress=progress)
        reports = run_suites(own if data else suites or [], context)
        rows = ablate(suites or [], context) if ablation else []
    failed = [f"{report.name} ({one.name})" for report in reports for one in report.verdicts if one.passed is False]
    words = [
        *(suites or []),
        *(["--quick"] if quick else []),
        *(["--ablate"] if ablation else []),
        *(f"--set {text}" for text in overrides or ()),
    ]
    result = as_plain_data(reports, " ".join(["nmsim validate", *words]), as_plain_rows(rows))
    if out is not None:
        _write(result, out)
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        for report in reports:
            _print(report)
        if rows:
            _print_ablation(rows)
    if failed:
        raise CheckFailed(f"{len(failed)} of the bars missed: {', '.join(failed)}")


def _write(result: dict[str, Any], folder: Path) -> None:
    from nmsim.report.validation.figures import draw_figures
    from nmsim.report.validation.page import write_page

    folder.mkdir(parents=True, exist_ok=True)
    for path in (*draw_figures(result, folder), *write_page(result, folder)):
        typer.echo(f"wrote {path}", err=True)


def _print(report: SuiteReport) -> None:
    from nmsim.cli.tables import console

    out = console()
    for standing in ("counted", "reported", "fitted"):
        if any(row.standing == standing for row in report.rows):
            out.print(_row_table(report, standing))
    if report.verdicts:
        out.print(_verdict_table(report))
    for line in report.left_out:
        out.print(line, markup=False, highlight=False)


def _row_table(report: SuiteReport, standing: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    says = {"counted": "predicted", "reported": "reported only, no bar counts them", "fitted": "fitted, counted by no bar"}[standing]
    table = Table(title=f"{report.name}: {report.title}; {says}", title_justify="left")
    for column in ("row", "quantity"):
        table.add_column(column, overflow="fold")
    for column in ("published", "simulated", "unit", "error"):
        table.add_column(column, justify="right")
    table.add_column("fitted to" if standing == "fitted" else "note", overflow="fold")
    for row in report.rows:
        if row.standing == standing:
            one = row.comparison
            remark = ", ".join(row.fitted_to) if standing == "fitted" else one.note
            cells = (f"{one.published:,.4g}", f"{one.simulated:,.4g}", one.unit, f"{one.error_percent:+.1f} %")
            table.add_row(escape(one.row), one.quantity, *cells, escape(remark))
    return table


def _verdict_table(report: SuiteReport) -> Table:
    from rich.table import Table

    table = Table(title=f"{report.name}: {'passed' if report.passed else 'FAILED'}", title_justify="left")
    table.add_column("bar", overflow="fold")
    for column in ("value", "limit", "rows"):
        table.add_column(column, justify="right")
    table.add_column("")
    table.add_column("evidence", overflow="fold")
    words = {True: "met", False: "[bold red]MISSED[/]", None: "not run"}
    for one in report.verdicts:
        limit = "-" if one.limit is None else f"{one.limit:g}"
        value = "-" if one.value is None else f"{one.value:.2f}"
        table.add_row(one.name, value, limit, str(one.rows or "-"), words[one.passed], one.evidence)
    return table


def _print_ablation(rows: list[AblationRow]) -> None:
    from rich.table import Table

    from nmsim.cli.tables import console

    bars = list(rows[0].values)
    table = Table(title="what each mechanism is worth: the bars' values without it", title_justify="left")
    table.add_column("without", overflow="fold")
    for bar in bars:
        table.add_column(bar, justify="right", overflow="fold")
    for row in rows:
        table.add_row(row.mechanism, *("" if (value := row.values[bar]) is None else f"{value:.1f}" for bar in bars))
    console().print(table)
