"""Suite `gemm`: times and speed-ups of whole GEMMs as cuBLASLt, cuSPARSELt and CUTLASS ran them on the A100.

The harness behind most rows repeats one problem back to back, so they are simulated on a warm L2 (each row says so).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from nmsim.validation.gemm_rows import comparisons_of, left_out, read_gemm_rows, simulate_rows
from nmsim.validation.measured import Check, Context, Measured, Series
from nmsim.validation.tabular import DATA

STAIRCASE_M = tuple(range(512, 4097, 128))
"""Token counts of the first few waves at N = K = STAIRCASE_SIDE, a step apart of one row of tiles."""
STAIRCASE_SIDE = 3584
STAIRCASE_DROP = 0.05
"""A step of the staircase: the rate falls by this share from one M to the next, a little larger one."""
LOSING = ("square/64", "square/128", "square/256")
"""Rows under 512^3, where the published 2:4 is slower than dense."""


def measure(context: Context) -> Measured:
    """Simulate the shipped rows, or those of `context.data`, and check the shape of the curves."""
    rows = read_gemm_rows(context.data or DATA / "gemm_a100.csv")
    comparisons = tuple(comparison for one in simulate_rows(context, rows) for comparison in comparisons_of(one))
    speedups = {row.row: row.simulated for row in comparisons if row.quantity == "speed-up"}
    if context.data:
        return Measured(comparisons, left_out=left_out(context, rows))
    curves = times_over_m(context) if context.curves else ()
    checks = (_small_sparse_loses(speedups), _large_falls_back(speedups), _staircase(curves))
    return Measured(comparisons, checks, left_out(context, rows), curves)


def times_over_m(context: Context) -> tuple[Series, ...]:
    """Dense and 2:4 time and the speed-up at N = K = 3584 over STAIRCASE_M: the CTA staircase."""
    from nmsim.api import simulate_gemm

    machine = context.machine("ampere_pcie.yaml")
    dense, sparse, speedup = [], [], []
    for done, m in enumerate(STAIRCASE_M):
        context.progress(done, len(STAIRCASE_M), f"M = {m}")
        result = simulate_gemm(machine, m=m, n=STAIRCASE_SIDE, k=STAIRCASE_SIDE, pattern="2:4", l2="warm", engine=context.engine)
        dense.append((float(m), result.time_us * result.speedup_vs_dense))
        sparse.append((float(m), result.time_us))
        speedup.append((float(m), result.speedup_vs_dense))
    return Series("dense time", tuple(dense)), Series("2:4 time", tuple(sparse)), Series("speed-up", tuple(speedup))


def _small_sparse_loses(speedups: Mapping[str, float]) -> Check:
    small = {row: speedups[row] for row in LOSING}
    text = ", ".join(f"{row} {value:.2f}x" for row, value in small.items())
    return Check("2:4 below 1x under 512^3", all(value < 1 for value in small.values()), text)


def _large_falls_back(speedups: Mapping[str, float]) -> Check:
    name = "16384^3 2:4 speed-up below 4096^3's"
    if "square/16384" not in speedups:
        return Check(name, None, "not run")
    large, middle = speedups["square/16384"], speedups["square/4096"]
    return Check(name, large < middle, f"{large:.2f}x against {middle:.2f}x")


def _staircase(curves: Sequence[Series]) -> Check:
    """Whole waves show: the rate does not only rise with M, it falls where a few CTAs more begin another wave."""
    if not curves:
        return Check("CTA staircase over M", None, "not asked for")
    steps = []
    for curve in curves[:2]:
        rates = [(m, m / time_us) for m, time_us in curve.points]
        drops = [(after / before - 1, m) for (_, before), (m, after) in pairwise(rates) if after < (1 - STAIRCASE_DROP) * before]
        steps += [f"{curve.quantity} at M = {m:.0f}: rate {drop:+.0%}" for drop, m in drops]
    return Check("CTA staircase over M", bool(steps), "; ".join(steps) or "the rate never falls as M grows")
