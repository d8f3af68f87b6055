"""`nmsim mma`: the latency and throughput of one matrix instruction."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmsim.errors import InputError

if TYPE_CHECKING:
    from nmsim.arch.spec import GpuSpec

app = typer.Typer(rich_markup_mode="rich", add_completion=False)


@app.command()
def mma(
    arch: Annotated[Path, typer.Argument(metavar="ARCH.yaml", help="The machine.")],
    shape: Annotated[str, typer.Option(metavar="mMnNkK", help="Shape of the instruction, for example m16n8k16.")],
    dtype: Annotated[str, typer.Option(help="Element type of the operands.")] = "fp16",
    acc: Annotated[
        str | None, typer.Option(help="Type of the accumulators: fp32 or int32 (the default, by element type), or fp16.")
    ] = None,
    sparse: Annotated[
        bool, typer.Option("--sparse", help="The instruction with a compressed operand A, if there is one pattern only.")
    ] = False,
    pattern: Annotated[str | None, typer.Option(metavar="N:M", help="The instruction with operand A compressed to this pattern.")] = None,
    warps: Annotated[int, typer.Option(help="Warps on the SM.")] = 8,
    ilp: Annotated[int, typer.Option(help="Independent instructions in flight per warp.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Measure one matrix instruction on the simulated SM, as an instruction microbenchmark would.

    Examples:

      nmsim mma arch_configs/ampere.yaml --shape m16n8k16 --warps 8 --ilp 2

      nmsim mma arch_configs/ampere.yaml --shape m16n8k32 --sparse --acc fp16 --json
    """
    from nmsim.api import microbench
    from nmsim.arch.load import load_gpu

    match = re.fullmatch(r"m(\d{1,4})n(\d{1,4})k(\d{1,4})", shape)
    if match is None:
        raise InputError("not an instruction shape", path="--shape", value=shape, fix="write for example m16n8k16")
    sides = int(match[1]), int(match[2]), int(match[3])
    spec = load_gpu(arch)
    of_a = pattern or (_only_pattern(spec, sides, dtype) if sparse else "dense")
    timing = microbench(spec, shape=sides, dtype=dtype, pattern=of_a, acc=acc, warps=warps, ilp=ilp)
    if as_json:
        asked = {"shape": shape, "dtype": dtype, "acc": acc, "pattern": of_a, "warps": warps, "ilp": ilp}
        typer.echo(json.dumps(asked | asdict(timing)))
        return
    typer.echo(f"{shape} {dtype} {of_a}{f' into {acc}' if acc else ''}: latency {timing.latency_cycles:g} cycles")
    typer.echo(
        f"{warps} warps, ILP {ilp}: {timing.iteration_cycles:g} cycles an iteration, "
        f"{timing.throughput_fma_per_cycle_per_sm:,.1f} dense-equivalent FMA per cycle and SM"
    )


def _only_pattern(spec: GpuSpec, shape: tuple[int, int, int], dtype: str) -> str:
    """The pattern of the machine's sparse instruction of this shape and type; InputError where there are none or several."""
    found = sorted({mma.pattern for mma in spec.tensor_core.mma if mma.nm is not None and mma.dtype == dtype and mma.shape == shape})
    if len(found) == 1:
        return found[0]
    if found:
        problem = f"{spec.name} has sparse instructions of this shape for {dtype} with {', '.join(found)}"
        raise InputError(problem, path="--sparse", fix="name one with --pattern")
    known = sorted({f"m{m.shape[0]}n{m.shape[1]}k{m.shape[2]}" for m in spec.tensor_core.mma if m.nm is not None and m.dtype == dtype})
    fix = f"for {dtype} it has {', '.join(known)}" if known else f"it has none for {dtype}"
    raise InputError(
        f"{spec.name} has no sparse instruction of this shape for {dtype}", path="--shape", value="m{}n{}k{}".format(*shape), fix=fix
    )
