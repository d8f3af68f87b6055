"""`nmsim trace check|show|plot FILE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from nmsim.errors import CheckFailed, InputError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Check a recorded trace, show what it holds, or plot its run.")

Folder = Annotated[Path, typer.Argument(metavar="NAME.nmtrace", help="The trace folder.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def check(trace: Folder, as_json: AsJson = False) -> None:
    """Read everything, refuse what contradicts itself, remark on what is surely not meant (exit code 1).

    Example: nmsim trace check bert.nmtrace
    """
    from nmsim.workload.store import read_trace
    from nmsim.workload.summary import check_trace

    if not trace.exists():  # nothing to check is bad input, not a failed check
        raise InputError("no such trace", file=trace, fix="give the folder NAME.nmtrace")
    findings = check_trace(trace)
    if as_json:
        typer.echo(json.dumps({"trace": str(trace), "ok": not findings, "findings": findings}))
    else:
        for finding in findings:
            typer.echo(finding)
    if findings:
        raise CheckFailed(f"{trace}: {len(findings)} finding(s)")
    if not as_json:
        recorded = read_trace(trace)
        typer.echo(f"{trace}: ok, {len(recorded.gemms)} GEMM entries, {len(recorded.masks)} masks, {recorded.provenance.kind}")


@app.command()
def show(trace: Folder, as_json: AsJson = False) -> None:
    """Print where a trace came from, its GEMMs by phase, and which of them can run sparse.

    Example: nmsim trace show bert.nmtrace --json
    """
    from nmsim.workload.store import read_trace
    from nmsim.workload.summary import summarise_trace

    summary = summarise_trace(read_trace(trace))
    if as_json:
        typer.echo(json.dumps(summary))
        return
    _print(summary, 0)


@app.command()
def plot(trace: Folder, out: Annotated[Path, typer.Option(metavar="STEM", help="Where to write STEM.svg and STEM.png.")]) -> None:
    """Draw how the run of a trace went: loss, accuracy, mask churn, kept magnitude, error of sampled gradients.

    Example: nmsim trace plot workloads/digits_vit_fst_2to4.nmtrace --out fst
    """
    from nmsim.report.training_curves import write_training_curves
    from nmsim.workload.history import HISTORY, read_history
    from nmsim.workload.store import read_trace

    recorded, history = read_trace(trace), read_history(trace)
    if history is None:
        raise InputError("the trace has no history of its run", file=trace / HISTORY, fix="record it with nmsim train")
    for file in write_training_curves(history, [entry["steps"] for entry in recorded.schedule], out):
        typer.echo(str(file))


def _print(value: Any, depth: int) -> None:
    """Plain data as indented `key: value` lines; what is empty is left out."""
    indent = "  " * depth
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in pairs:
        if isinstance(part, dict) or (isinstance(part, list | tuple) and any(isinstance(item, dict) for item in part)):
            if part:
                typer.echo(f"{indent}{key}:")
                _print(part, depth + 1)
        elif isinstance(part, list | tuple):
            if part:
                typer.echo(f"{indent}{key}: {', '.join(map(str, part))}")
        elif part is not None and part != "":
            typer.echo(f"{indent}{key}: {_number(part)}")


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
