"""`nmsim simulate`: recorded training steps on a machine, beside dense and tile-wise."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmsim.cli.timeline import DEFAULT_SMS, Cycles, TimelineFile, WatchedSms, save_timelines, timeline_window
from nmsim.errors import InputError

if TYPE_CHECKING:
    from nmsim.result.rows import SimulationResult
    from nmsim.result.whole_run import RunTotal

app = typer.Typer(rich_markup_mode="rich", add_completion=False)


@app.command()
def simulate(
    arch: Annotated[Path, typer.Argument(metavar="ARCH.yaml", help="The machine.")],
    traces: Annotated[list[Path], typer.Argument(metavar="TRACE", help="Recorded steps, NAME.nmtrace folders.")],
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="dense, tile-wise (both without it), block-sparse, vector-wise, unstructured, tew or tvw. May be repeated."),
    ] = None,
    pattern: Annotated[str | None, typer.Option(metavar="N:M", help="Replace the recorded pattern (its legality is then assumed).")] = None,
    dtype: Annotated[str | None, typer.Option(help="Replace the recorded element type.")] = None,
    batch: Annotated[int | None, typer.Option(help="Re-scale the step to this many samples.")] = None,
    l2: Annotated[
        str, typer.Option("--l2", help="What the L2 holds before each kernel: cold, warm, or step (what those before it left).")
    ] = "cold",
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Change a value of the machine.")] = None,
    engine: Annotated[str | None, typer.Option(help="compiled (default) or simpy: the same answers.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Also keep the results there, for nmsim report.")] = None,
    timeline: TimelineFile = None,
    timeline_gemm: Annotated[
        list[str] | None,
        typer.Option("--timeline-gemm", metavar="ID", help="GEMM of the timeline; the longest without it. May be repeated."),
    ] = None,
    sm: WatchedSms = DEFAULT_SMS,
    cycles: Cycles = None,
    rows: Annotated[int, typer.Option(min=0, help="GEMMs to list, slowest first; 0 for all.")] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object (an array for several traces) instead of text.")] = False,
) -> None:
    """Simulate the training step of each TRACE: cycles, time, energy and speed-up per phase, and why.

    Examples:

      nmsim simulate arch_configs/ampere.yaml workloads/gpt_w512_sr_ste_2to4.nmtrace --batch 128

      nmsim simulate arch_configs/ampere.yaml workloads/*.nmtrace --out results --json

      nmsim simulate arch_configs/ampere.yaml workloads/digits_resnet_dense.nmtrace --timeline step.json.gz --sm 0-3 --cycles 0:20000
    """
    from nmsim.api import load_arch, simulate, simulate_run, trace_timelines
    from nmsim.cli.progress import announce_engine, simulation_progress
    from nmsim.report.timeline import check_timeline_file
    from nmsim.run.schemes import SCHEMES

    window = timeline_window(sm, cycles)
    if timeline is not None:
        check_timeline_file(timeline)
        if len(traces) > 1:
            raise InputError("a timeline is of one trace", path="--timeline", value=f"{len(traces)} traces", fix="name one")
    if load_arch(arch, overrides or ()).kind == "gpu":
        announce_engine(engine)
    schemes = SCHEMES if not baseline else tuple(name.replace("-", "_") for name in baseline)
    results: list[SimulationResult] = []
    runs: list[dict[str, RunTotal]] = []
    asked: dict[str, Any] = {
        "pattern": pattern,
        "dtype": dtype,
        "batch": batch,
        "l2": l2,
        "engine": engine,
        "overrides": overrides or (),
    }
    of_a_run = {option: value for option, value in asked.items() if option != "pattern"}
    for trace in traces:
        with simulation_progress() as progress:
            results.append(simulate(arch, trace, baseline=schemes, progress=progress, **asked))
            # Another pattern is no step of the run that the schedule counts.
            run = {} if pattern else simulate_run(arch, trace, result=results[-1], baseline=schemes, progress=progress, **of_a_run)
        runs.append(run)
        if not as_json:
            _print(results[-1], runs[-1], rows)
    if timeline is not None:
        save_timelines(trace_timelines(arch, traces[0], results[0], gemm_ids=timeline_gemm or (), window=window, **asked), timeline)
    if out is not None:
        from nmsim.result.store import write_results

        write_results(results, out)
    if as_json:
        from nmsim.result.json import result_to_json

        data = [result_to_json(result) | _run_to_json(run) for result, run in zip(results, runs, strict=True)]
        typer.echo(json.dumps(data[0] if len(data) == 1 else data, indent=1))
    elif out is not None:
        typer.echo(f"results are in {out}; draw them with: nmsim report {out} --out reports/NAME")


def _run_to_json(run: dict[str, RunTotal]) -> dict[str, Any]:
    """The whole run under `run`, by scheme; nothing where the trace has no schedule."""
    return {"run": {scheme: asdict(total) for scheme, total in run.items()}} if run else {}


def _print(result: SimulationResult, run: dict[str, RunTotal], rows: int) -> None:
    from nmsim.cli.tables import console, gemm_table, phase_table, run_table

    screen = console()
    screen.print(phase_table(result))
    if run:
        screen.print(run_table(result, run))
    screen.print(gemm_table(result, rows))
    for note in result.notes:
        screen.print(f"- {note}", markup=False, highlight=False)
