"""`nmsim gemm`: one what-if GEMM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmsim.cli.timeline import DEFAULT_SMS, Cycles, TimelineFile, WatchedSms, save_timelines, timeline_window
from nmsim.errors import InputError

if TYPE_CHECKING:
    from nmsim.run.single import GemmResult

app = typer.Typer(rich_markup_mode="rich", add_completion=False)


@app.command()
def gemm(
    arch: Annotated[Path, typer.Argument(metavar="ARCH.yaml", help="The machine.")],
    m: Annotated[int, typer.Option("--m", help="Rows of D (tokens).")],
    n: Annotated[int, typer.Option("--n", help="Columns of D (outputs).")],
    k: Annotated[int, typer.Option("--k", help="The reduction (inputs).")],
    batch: Annotated[int, typer.Option("--l", help="Products in the batch.")] = 1,
    dtype: Annotated[str, typer.Option(help="Element type of both operands.")] = "fp16",
    out_dtype: Annotated[str, typer.Option(help="Element type of the result.")] = "fp16",
    pattern: Annotated[str | None, typer.Option(metavar="N:M", help="N kept of M consecutive elements along k; dense without it.")] = None,
    sparse_operand: Annotated[str, typer.Option(help="The compressed operand: a or b (the weight).")] = "b",
    l2: Annotated[
        str, typer.Option("--l2", help="What the L2 holds at the start: cold, or warm (as one run of this GEMM leaves it).")
    ] = "cold",
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Change a value of the machine.")] = None,
    cta: Annotated[str | None, typer.Option(metavar="MxNxK", help="Force a kernel: its CTA tile in elements.")] = None,
    warp: Annotated[str | None, typer.Option(metavar="MxN", help="Its warp tile; a quarter of the CTA's without it.")] = None,
    stages: Annotated[int | None, typer.Option(help="Its stages of shared memory; 2 without it.")] = None,
    layout: Annotated[str | None, typer.Option(help="Its tiles in shared memory: swizzled (default), padded, linear or permuted.")] = None,
    copy: Annotated[str | None, typer.Option(help="Its copies: async (default), or sync (through registers, waited for).")] = None,
    fragments: Annotated[str | None, typer.Option(help="Its fragments: prefetched (default), or reloaded for every row of MMAs.")] = None,
    registers: Annotated[int | None, typer.Option(help="Its registers per thread, accumulators included.")] = None,
    engine: Annotated[str | None, typer.Option(help="compiled (default) or simpy: the same answers.")] = None,
    tile_wise: Annotated[
        bool, typer.Option("--tile-wise", help="Prune B tile-wise: keep --keep-n columns, and --keep-k rows in each tile of them.")
    ] = False,
    tile: Annotated[int | None, typer.Option(help="Columns of a tile (with --tile-wise); 128 without it.")] = None,
    keep_n: Annotated[int | None, typer.Option(help="Columns of B that are kept (with --tile-wise); all without it.")] = None,
    keep_k: Annotated[int | None, typer.Option(help="Rows of B that each tile keeps (with --tile-wise); all without it.")] = None,
    streams: Annotated[bool, typer.Option("--streams", help="A launch a tile, instead of one for all tiles (with --tile-wise).")] = False,
    timeline: TimelineFile = None,
    sm: WatchedSms = DEFAULT_SMS,
    cycles: Cycles = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Simulate one GEMM D[m, n] = A[m, k] B[k, n], dense or N:M sparse, and say what bounds it.

    Examples:

      nmsim gemm arch_configs/ampere.yaml --m 4096 --n 4096 --k 4096 --pattern 2:4

      nmsim gemm arch_configs/ampere.yaml --m 64 --n 64 --k 64 --pattern 2:4 --json

      nmsim gemm arch_configs/ampere.yaml --m 8192 --n 8192 --k 8192 --set sm.count=144

      nmsim gemm arch_configs/volta.yaml --m 12800 --n 768 --k 3072 --tile-wise --keep-n 384 --keep-k 1536

      nmsim gemm arch_configs/ampere.yaml --m 4096 --n 4096 --k 4096 --timeline gemm.json.gz --sm 0-1 --cycles 0:20000

      nmsim gemm arch_configs/ampere.yaml --m 2048 --n 2048 --k 2048 --cta 64x64x64 --warp 32x32 --layout linear --copy sync

      nmsim gemm arch_configs/systolic_128.yaml --m 1024 --n 1024 --k 1024 --pattern 2:4 --set array.overlap=none
    """
    from nmsim.api import TileWiseShape, gemm_timeline, load_arch, simulate_gemm
    from nmsim.cli.kernel_flags import forced_tile
    from nmsim.cli.progress import announce_engine
    from nmsim.report.timeline import check_timeline_file

    window = timeline_window(sm, cycles)
    for flag, given in (("--tile", tile), ("--keep-n", keep_n), ("--keep-k", keep_k), ("--streams", streams or None)):
        if given is not None and not tile_wise:
            raise InputError("says how B is pruned tile-wise, and it is not", path=flag, fix="give --tile-wise too, or leave it out")
    if tile_wise and sparse_operand == "a":
        fix = "leave it out, or give the transposed product: swap --m and --n"
        raise InputError("tile-wise sparsity is of B", path="--sparse-operand", value=sparse_operand, fix=fix)
    if tile_wise and timeline is not None:
        raise InputError("draws a dense or N:M GEMM", path="--timeline", fix="leave --tile-wise out")
    if timeline is not None:
        check_timeline_file(timeline)
    spec = load_arch(arch, overrides or ())
    if spec.kind == "gpu":
        announce_engine(engine)
    own = {"stages": stages, "layout": layout, "copy": copy, "fragments": fragments, "registers": registers}
    asked: dict[str, Any] = {
        "m": m,
        "n": n,
        "k": k,
        "l": batch,
        "dtype": dtype,
        "out_dtype": out_dtype,
        "pattern": pattern,
        "sparse_operand": sparse_operand,
        "l2": l2,
        "engine": engine,
        "kernel": forced_tile(cta, warp, dtype, own),
    }
    kept = (
        TileWiseShape(128 if tile is None else tile, n if keep_n is None else keep_n, k if keep_k is None else keep_k, streams)
        if tile_wise
        else None
    )
    result = simulate_gemm(spec, **asked, tile_wise=kept)
    if timeline is not None:
        save_timelines((gemm_timeline(spec, **asked, window=window),), timeline)
    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=1))
    else:
        _print(result, f"{m} x {n} x {k}" + (f" x {batch}" if batch > 1 else ""), dtype, asked_and_run(pattern, result))


def asked_and_run(pattern: str | None, result: GemmResult) -> str:
    """The pattern asked for and, where that is another one, the one that ran."""
    asked, ran = pattern or "dense", result.native_pattern
    return asked if asked == ran else f"{asked} run as {ran}"


def _print(result: GemmResult, shape: str, dtype: str, pattern: str) -> None:
    from nmsim.cli.tables import console, key_values

    tile = "x".join(map(str, result.cta_tile))
    stalls = sorted(result.stall_cycles.items(), key=lambda item: -item[1])
    named = ", ".join(f"{name} {cycles / result.cycles:.1%}" for name, cycles in stalls if cycles / result.cycles >= 0.005)
    if result.kernel.startswith("systolic"):
        unit, kernel = "PEs", f"{result.kernel}, {result.waves:,.0f} folds of {tile}"
    else:
        unit, kernel = (
            "tensor pipe",
            f"{result.kernel}, tile {tile}, split-K {result.split_k}, {result.occupancy} CTAs/SM, {result.waves:.2f} waves",
        )
    pairs = [
        ("GEMM", f"{shape} {dtype}, {pattern}"),
        ("time", f"{result.time_us:,.2f} us, {result.launch_us:.2f} of it launch; {result.cycles:,.0f} cycles at {result.clock_mhz} MHz"),
        ("rate", f"{result.dense_equivalent_tflops:,.1f} TFLOP/s dense-equivalent ({result.executed_tflops:,.1f} executed)"),
        ("speed-up", f"{result.speedup_vs_dense:.3f}x over dense"),
        ("energy", f"{result.energy_j * 1e3:,.3f} mJ, {result.power_w:,.0f} W in the kernel"),
        ("kernel", kernel),
        ("bound", f"{result.bound}; {unit} busy {result.busy_cycles / result.cycles:.1%} of the cycles"),
        ("stalls", named or "none above 0.5 %"),
        ("traffic", ", ".join(f"{level} {count / 1e6:,.1f} MB" for level, count in result.bytes.items())),
    ]
    out = console()
    out.print(key_values(pairs))
    for note in result.notes:
        out.print(note, markup=False, highlight=False)
