"""The rows of one result as the frame that figures and tables are made from."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from nmsim.report.labels import common_name, numberless
from nmsim.result.frames import counters_frame, kernels_frame
from nmsim.result.rows import KernelRow, SimulationResult
from nmsim.result.schema import COUNTER_UNITS, ENERGY_COLUMNS, STALL_COLUMNS

SUMS = (
    "launches",
    "cycles",
    "compute_cycles",
    "busy_cycles",
    "launch_us",
    "time_us",
    "energy_j",
    "running_us",
    *STALL_COLUMNS.values(),
    *ENERGY_COLUMNS.values(),
    *COUNTER_UNITS,
)
"""Columns that add up over kernels."""

_ALIKE = ["kind", "phase", "scheme", "m", "n", "k", "l", "ran_sparse", "kernel", "native_pattern", "cta_tile", "numberless_name"]


def kernel_frame(result: SimulationResult) -> pd.DataFrame:
    """A row a kernel x scheme in the order of the result: the columns of `kernels`, then a column for each counter.

    `running_us` is the time of the cycles alone, launches excluded; `ran_dense` is false for tile-wise kernels too.
    """
    kernels = kernels_frame([result])
    kernels["ran_dense"] = [ran_dense(row) for row in result.rows]
    kernels["running_us"] = kernels["cycles"] / kernels["clock_mhz"]
    counters = counters_frame([result]).pivot_table(index="row", columns="metric", values="value", aggfunc="sum")
    return kernels.join(counters.reindex(columns=list(COUNTER_UNITS)), on="row")


def ran_dense(row: KernelRow) -> bool:
    """True for a GEMM on a dense kernel: neither N:M nor any of the tile-wise kinds."""
    return ("gemm_" in row.kernel or row.kernel.startswith("dense")) and not row.ran_sparse


def schemes_of(result: SimulationResult) -> list[str]:
    """Schemes, dense first as the reference, then the others as they occur."""
    return sorted(result.total, key=lambda scheme: scheme != "dense")


def main_scheme(schemes: Sequence[str]) -> str:
    """The scheme that the result is about: as traced, else the first that is not dense."""
    return "traced" if "traced" in schemes else next((scheme for scheme in schemes if scheme != "dense"), schemes[0])


def alike_kernels(frame: pd.DataFrame) -> pd.DataFrame:
    """Kernels of equal shape, tile and pattern in a repeated block summed to one row, slowest first.

    `label` is the name that they share (`encoder.layer.*.query`; the id where it is no GEMM), `kernels` how many they are.
    """
    name = frame["module"].where(frame["kind"] == "gemm", frame["gemm_id"])
    groups = frame.assign(name=name, numberless_name=name.map(numberless)).groupby(_ALIKE, sort=False)
    alike = groups[list(SUMS)].sum()
    alike["label"] = groups["name"].agg(lambda names: common_name(list(names)))
    alike["kernels"] = groups.size()
    return alike.reset_index().sort_values("time_us", ascending=False, kind="stable", ignore_index=True)
