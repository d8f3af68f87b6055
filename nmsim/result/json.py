"""A result as one JSON object, keys and order fixed: what `nmsim simulate --json` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from nmsim.result.rows import KernelRow, SimulationResult
from nmsim.rules.stalls import STALL_NAMES

ROW_KEYS = (
    "gemm_id",
    "module",
    "phase",
    "scheme",
    "m",
    "n",
    "k",
    "l",
    "ran_sparse",
    "reason",
    "kernel",
    "native_pattern",
    "clock_mhz",
    "cycles",
    "time_us",
    "energy_j",
    "bound",
)
"""Keys of a row, `stall_cycles` after them."""


def result_to_json(result: SimulationResult) -> dict[str, Any]:
    """Plain data of a result; the `phases` sum to `total` exactly when added in their order.

    The machine's ceilings, the counters and the energy by unit are left to the stored tables.
    """
    return {
        "arch": result.arch,
        "trace": result.trace,
        "rows": [_row(row) for row in result.rows],
        "phases": [asdict(phase) for phase in result.phases],
        "total": {scheme: asdict(total) for scheme, total in result.total.items()},
        "notes": list(result.notes),
        "model_version": result.model_version,
        "engine": result.engine,
        "options": dict(result.options),
        "provenance": dict(result.provenance),
    }


def _row(row: KernelRow) -> dict[str, Any]:
    stall_cycles = {name: row.stall_cycles.get(name, 0.0) for name in STALL_NAMES}
    return {**{key: getattr(row, key) for key in ROW_KEYS}, "stall_cycles": stall_cycles}
