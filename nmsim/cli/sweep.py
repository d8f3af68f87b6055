"""`nmsim sweep`: many points, on this machine or a cluster, resumable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from nmsim.errors import CheckFailed, InputError

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from nmsim.sweep.plan import Point
    from nmsim.sweep.run import Standing
    from nmsim.sweep.schedule import Workers

LISTS = ("--arch", "--set", "--workload", "--recipe", "--pattern", "--batch", "--dtype", "--baseline")
"""Options that take all the values that follow them, so that wildcards of the shell work."""


class _SeveralValues(TyperCommand):
    """`--pattern 2:4 1:8` is taken as `--pattern 2:4 --pattern 1:8`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread: list[str] = []
        option = ""
        fresh = False
        for word in args:
            if word.startswith("--"):
                option, fresh = (word if word in LISTS else ""), True
                spread.append(word)
            elif option and not fresh:
                spread += [option, word]
            else:
                spread.append(word)
                fresh = False
        return super().parse_args(ctx, spread)


app = typer.Typer(rich_markup_mode="rich", add_completion=False)


@app.command(cls=_SeveralValues)
def sweep(
    file: Annotated[Path | None, typer.Argument(metavar="[SWEEP.yaml]", help="The axes in a file; or give them as options.")] = None,
    arch: Annotated[list[str] | None, typer.Option("--arch", metavar="ARCH.yaml...", help="Machines.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=[V,V]", help="Values of the machine to try, in every combination.")
    ] = None,
    workload: Annotated[list[str] | None, typer.Option("--workload", metavar="TRACE...", help="Traces, NAME.nmtrace folders.")] = None,
    recipe: Annotated[
        list[str] | None, typer.Option("--recipe", metavar="NAME...", help="Recipes, of those recorded; all without it.")
    ] = None,
    pattern: Annotated[
        list[str] | None, typer.Option("--pattern", metavar="N:M...", help="Patterns; 'recorded' is the traces' own and the default.")
    ] = None,
    batch: Annotated[list[str] | None, typer.Option("--batch", metavar="B...", help="Batch sizes in samples, or 'recorded'.")] = None,
    dtype: Annotated[list[str] | None, typer.Option("--dtype", metavar="D...", help="Element types, or 'recorded'.")] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(metavar="S...", help="dense, tile-wise (both without it), block-sparse, vector-wise, unstructured, tew or tvw."),
    ] = None,
    l2: Annotated[str | None, typer.Option("--l2", help="What the L2 holds before each kernel: cold (default) or warm.")] = None,
    engine: Annotated[str | None, typer.Option(help="compiled (default) or simpy: the same answers.")] = None,
    jobs: Annotated[int | None, typer.Option(min=0, help="Processes; all processors without it, 0 for none but this one.")] = None,
    dask: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Use a dask cluster instead, as tcp://host:8786.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the results go.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--restart", help="Keep the points that DIR holds, or simulate all anew.")] = True,
    plan: Annotated[bool, typer.Option("--plan", help="Only say how many points there are, and which can't be simulated.")] = False,
    best: Annotated[int, typer.Option(min=0, help="Points to list, those that gain most over dense first.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Simulate every combination of machines, networks, recipes, patterns and batches into DIR.

    Killed at any moment and started again, it goes on where it was. A point that fails is recorded with its error, the others go on,
    and the exit code is 1. Several values may follow an option; SWEEP.yaml, if any, comes first.

    Examples:

      nmsim sweep study.yaml --out results/study

      nmsim sweep --arch a100.yaml --set sm.count=[72,108,144] --workload workloads/*.nmtrace --pattern 2:4 1:8 --out results/sms

      nmsim sweep study.yaml --dask tcp://10.0.0.1:8786 --out results/study
    """
    from nmsim.sweep.plan import plan_points
    from nmsim.sweep.spec import read_sweep_spec, sweep_spec_of_texts

    given = {"arch": arch, "set": overrides, "workload": workload, "recipe": recipe, "pattern": pattern, "batch": batch, "dtype": dtype}
    texts = {key: value or [] for key, value in (given | {"baseline": baseline}).items()}
    texts |= {"l2": [l2] if l2 else [], "engine": [engine] if engine else []}
    axes = [f"--{key}" for key, values in texts.items() if values]
    if file is not None and axes:
        raise InputError("the axes are in the file, or given as options, not both", path=axes[0], fix=f"write it into {file}")
    if file is None and not axes:
        raise InputError("nothing to sweep over", fix="name a SWEEP.yaml, or give --arch and --workload")
    if dask is not None and jobs is not None:
        raise InputError(
            "points run on this machine's processes or on a cluster, not both", path="--jobs", fix="leave out --jobs or --dask"
        )
    points = plan_points(sweep_spec_of_texts(texts) if file is None else read_sweep_spec(file))
    if plan:
        _print_plan(points, as_json)
        return
    if out is None:
        raise InputError("where should the results go?", path="--out", fix="add --out DIR")
    standing = _run(points, out, _workers(jobs, dask), resume)
    _print(points, standing, out, best, as_json)
    if standing.failed:
        raise CheckFailed("" if as_json else f"{standing.failed} of {standing.points} points failed; the rest is in {out}")


def _workers(jobs: int | None, dask: str | None) -> Workers:
    import os

    from nmsim.sweep.executors import DaskCluster, InProcess, LocalPool

    if dask is not None:
        return DaskCluster(dask)
    if jobs == 0:
        return InProcess()
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return LocalPool(jobs or processors)


def _run(points: list[Point], out: Path, workers: Workers, resume: bool) -> Standing:
    from nmsim.cli.progress import announce_engine, sweep_progress
    from nmsim.sweep.plan import Task
    from nmsim.sweep.run import run_sweep, warm_engine

    announce_engine(next((point.options.engine for point in points if isinstance(point, Task)), None))
    warm_engine(points)
    with sweep_progress() as progress:
        return run_sweep(points, out, workers, resume=resume, progress=progress)


def _print_plan(points: list[Point], as_json: bool) -> None:
    from dataclasses import asdict

    from nmsim.sweep.plan import Impossible

    refused = [point for point in points if isinstance(point, Impossible)]
    if as_json:
        rows = [{"point_key": one.key, **asdict(one.coordinates), "error": getattr(one, "error", "")} for one in points]
        typer.echo(json.dumps({"points": len(points), "impossible": len(refused), "plan": rows}, indent=1))
        return
    typer.echo(f"{len(points)} points, {len(refused)} of which can't be simulated")
    for error in dict.fromkeys(point.error for point in refused):
        typer.echo(f"- {error}")


def _print(points: list[Point], standing: Standing, out: Path, best: int, as_json: bool) -> None:
    from nmsim.result.points import read_totals

    totals = read_totals(out)
    failed = totals[totals["status"] == "failed"]
    traced = totals[totals["scheme"] == "traced"].sort_values("speedup_vs_dense", ascending=False, kind="stable")
    if as_json:
        typer.echo(json.dumps(_as_json(standing, out, traced.head(best), failed), indent=1))
        return
    from nmsim.cli.tables import console

    screen = console()
    if best and len(traced):
        screen.print(_best_table(traced.head(best), len(traced)))
    for caveat in _caveats(traced):
        screen.print(caveat, highlight=False)
    for error, members in failed.groupby("error", sort=False):
        screen.print(f"- {len(members)} failed: {error}", markup=False, highlight=False)
    counts = f"{standing.points} points: {standing.simulated} simulated now, {standing.kept} kept, {standing.failed} failed"
    screen.print(f"{counts}; draw them with: nmsim report {out} --out reports/NAME", markup=False, highlight=False)


def _as_json(standing: Standing, out: Path, best: pd.DataFrame, failed: pd.DataFrame) -> dict[str, Any]:
    from nmsim.result.points import COORDINATES

    shown = ["point_key", *COORDINATES, "accuracy", "legality", "clock_mhz", "cycles", "time_us", "energy_j"]
    return {
        "out": str(out),
        "points": standing.points,
        "simulated": standing.simulated,
        "kept": standing.kept,
        "failed": standing.failed,
        "best": _plain(best[[*shown, "speedup_vs_dense", "speedup_vs_tile_wise"]]),
        "failures": _plain(failed[["point_key", *COORDINATES, "error_kind", "error"]]),
    }


def _plain(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: null for a number that there is none of."""
    return [{str(key): None if value != value else value for key, value in row.items()} for row in rows.to_dict("records")]


def _best_table(rows: pd.DataFrame, of: int) -> Table:
    """Points by what they gain over dense. What is the same of all of them is said once, above."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    axes = ("workload", "recipe", "pattern", "batch", "dtype", "arch", "overrides")
    differing = [axis for axis in axes if rows[axis].nunique() > 1]
    same = ", ".join(f"{axis} {rows[axis].iloc[0]}" for axis in axes if axis not in differing and str(rows[axis].iloc[0]))
    title = f"what gains most over dense: {len(rows)} of {of} points{', all of ' + same if same else ''}"
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(", ".join(differing) or "point", overflow="fold")
    for column in ("time us", "energy mJ", "over\ndense", "over\ntile-wise"):
        table.add_column(column, justify="right", no_wrap="\n" not in column)
    for row in rows.to_dict("records"):
        name = " ".join(f"batch {row[axis]}" if axis == "batch" else str(row[axis]) for axis in differing)
        mark = "*" * (row["accuracy"] == "untrained") + "†" * (row["legality"] == "assumed")
        ratios = (_times(row["speedup_vs_dense"]), _times(row["speedup_vs_tile_wise"]))
        table.add_row(escape(f"{name}{mark}"), f"{row['time_us']:,.0f}", f"{row['energy_j'] * 1e3:,.1f}", *ratios)
    return table


def _caveats(traced: pd.DataFrame) -> list[str]:
    """What points do not know, under the marks that they carry in the table."""
    untrained, assumed = (traced["accuracy"] == "untrained").sum(), (traced["legality"] == "assumed").sum()
    said = [f"* {untrained} points have a pattern that was never trained: their accuracy is unknown"] if untrained else []
    return said + ([f"† {assumed} points take their pattern's legality for granted: no mask was checked"] if assumed else [])


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio == ratio else "-"
