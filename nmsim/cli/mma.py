"""`nmsim mma`: the latency and throughput of one matrix instruction."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nmsim.errors import InputError

app = typer.Typer(rich_markup_mode="rich")


@app.command()
def mma(
    arch: Annotated[Path, typer.Argument(metavar="ARCH.yaml", help="The machine.")],
    shape: Annotated[str, typer.Option(metavar="mMnNkK", help="Shape of the instruction, for example m16n8k16.")],
    dtype: Annotated[str, typer.Option(help="Element type of the operands.")] = "fp16",
    sparse: Annotated[bool, typer.Option("--sparse", help="The instruction with a compressed operand A.")] = False,
    warps: Annotated[int, typer.Option(help="Warps on the SM.")] = 8,
    ilp: Annotated[int, typer.Option(help="Independent instructions in flight per warp.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Measure one matrix instruction on the simulated SM, as an instruction microbenchmark would.

    Examples:

      nmsim mma arch_configs/ampere.yaml --shape m16n8k16 --warps 8 --ilp 2

      nmsim mma arch_configs/ampere.yaml --shape m16n8k32 --sparse --json
    """
    from nmsim.api import microbench
    from nmsim.arch.load import load_gpu

    match = re.fullmatch(r"m(\d{1,4})n(\d{1,4})k(\d{1,4})", shape)
    if match is None:
        raise InputError("not an instruction shape", path="--shape", value=shape, fix="write for example m16n8k16")
    sides = int(match[1]), int(match[2]), int(match[3])
    spec = load_gpu(arch)
    native = {row.pattern for row in spec.tensor_core.mma if row.dtype == dtype and row.pattern != "dense" and tuple(row.shape) == sides}
    pattern = (min(native) if native else "2:4") if sparse else "dense"
    timing = microbench(spec, shape=sides, dtype=dtype, pattern=pattern, warps=warps, ilp=ilp)
    if as_json:
        typer.echo(json.dumps(asdict(timing)))
        return
    typer.echo(f"{shape} {dtype} {pattern}: latency {timing.latency_cycles:g} cycles")
    typer.echo(
        f"{warps} warps, ILP {ilp}: {timing.iteration_cycles:g} cycles an iteration, "
        f"{timing.throughput_fma_per_cycle_per_sm:,.1f} dense-equivalent FMA per cycle and SM"
    )
