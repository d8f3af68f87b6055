"""Suite `tile_wise`: the published V100 points of tile-wise pruning, and that unequal tiles show as imbalance.

The benchmark behind the points waits for the device after each product, so that each launch of a tile, and the wait, add to its
time: `launch.kernel_us` of volta_tilesparsity.yaml once for a launch and once for the wait.
"""

from __future__ import annotations

from dataclasses import dataclass

from nmsim.arch.machine import as_gpu
from nmsim.arch.spec import GpuSpec
from nmsim.validation.measured import Check, Comparison, Context, Measured
from nmsim.validation.tabular import DATA, Line, read_lines

COLUMNS = ("id", "arch", "m", "n", "k", "keep_n", "keep_k", "tile", "dense_us", "tile_wise_us")
SKEWED_SHARES = (0.9, 0.1)
"""Of the rows that the tiles of the unequal plan keep, by turns; the equal plan keeps half in each: as many MACs."""


@dataclass(frozen=True)
class Times:
    """Simulated microseconds, launches and the wait included."""

    dense_us: float
    tile_wise_us: float


def measure(context: Context) -> Measured:
    """Simulate each point, dense and tile-wise."""
    lines = read_lines(DATA / "tile_wise_v100.csv", COLUMNS)
    comparisons = []
    for done, line in enumerate(lines):
        context.progress(done, len(lines), line.required("id"))
        comparisons += _compared(line, _times(context, line))
    return Measured(tuple(comparisons), (_imbalance(context),))


def _compared(line: Line, simulated: Times) -> list[Comparison]:
    dense, tile_wise = float(line.required("dense_us")), float(line.required("tile_wise_us"))
    rows = (
        ("dense time", "us", dense, simulated.dense_us, {"time", "dense"}),
        ("tile-wise time", "us", tile_wise, simulated.tile_wise_us, {"time", "tile_wise"}),
        ("speed-up", "x", dense / tile_wise, simulated.dense_us / simulated.tile_wise_us, {"speedup"}),
    )
    about = line.text("source"), line.text("status"), line.text("note")
    return [
        Comparison(line.required("id"), quantity, unit, published, value, frozenset(tags), *about)
        for quantity, unit, published, value, tags in rows
    ]


def _times(context: Context, line: Line) -> Times:
    from nmsim.api import TileWiseShape, simulate_gemm

    spec = as_gpu(context.machine(line.required("arch")), "tile_wise")
    shape = TileWiseShape(line.whole("tile"), line.whole("keep_n"), line.whole("keep_k"), streams=True)
    m, n, k = line.whole("m"), line.whole("n"), line.whole("k")
    run = simulate_gemm(spec, m=m, n=n, k=k, l2=line.text("l2", "warm"), engine=context.engine, tile_wise=shape)
    wait_us = spec.launch.kernel_us
    return Times(run.time_us * run.speedup_vs_dense + wait_us, run.time_us + wait_us)


def _imbalance(context: Context) -> Check:
    """Twelve tiles in one wave, equal or by turns large and small, as many MACs in all: the second leave SMs without work."""
    name = "unequal tiles show as imbalance"
    spec = as_gpu(context.machine("volta.yaml"), "tile_wise")
    equal, skewed = _imbalance_share(spec, (0.5, 0.5)), _imbalance_share(spec, SKEWED_SHARES)
    return Check(name, skewed > equal + 0.1, f"{skewed:.1%} of the cycles against {equal:.1%} with equal tiles")


def _imbalance_share(spec: GpuSpec, shares: tuple[float, ...]) -> float:
    import numpy as np

    from nmsim.mapping.tile_wise import lower_tile_wise
    from nmsim.run.choice import RunOptions, best_kernel
    from nmsim.run.single import what_if_gemm
    from nmsim.workload.trace import TileWisePlan

    k, n, tile = 1024, 1536, 128
    rows = np.zeros((n // tile, k), dtype=np.bool_)
    for index in range(len(rows)):
        rows[index, : int(k * shares[index % len(shares)])] = True
    problem = lower_tile_wise(what_if_gemm(768, n, k, 1, "fp16", "fp16"), TileWisePlan(tile, np.ones(n, dtype=np.bool_), rows))
    run = best_kernel(spec, problem, RunOptions())
    return run.stall_cycles["imbalance"] / run.cycles
