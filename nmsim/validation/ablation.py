"""What each mechanism is worth: the suites' errors with it switched off, everything else left as it is.

No constant is fitted again, so a mechanism that another constant could stand in for still shows its whole worth. A mechanism that
moves nothing is decoration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from nmsim.validation.bars import read_bars
from nmsim.validation.fitted import read_fitted_rows
from nmsim.validation.judge import judge
from nmsim.validation.measured import Context, Progress
from nmsim.validation.run import measure_suite

FREE = 1_000_000
"""A rate that is never the limit."""
ABLATED_MACS = {"gemm": 3 * 10**10, "power": 6 * 10**11}
"""Larger GEMMs are left out, because two dozen machines are compared: 2048 x 3584 x 3584 is the largest, 8192 x 8192 x 8192 of power."""
SUITES = ("tensor_core", "memory", "gemm", "power")


@dataclass(frozen=True)
class Mechanism:
    """What switches a mechanism off, and the suites that it can reach."""

    name: str
    off: tuple[str, ...]
    suites: tuple[str, ...] = ("gemm",)


MEMORY = ("memory", "gemm")
NO_ROW_TIMES = ("dram.precharge_ns=0.001", "dram.row_to_column_ns=0.001", "dram.row_active_ns=0.001")
MECHANISMS = (
    Mechanism("launch", ("launch.kernel_us=0",)),
    Mechanism("more launch for a compressed operand", ("launch.nm_extra_us=0",)),
    Mechanism("power limit", (f"power.board_limit_w={FREE}",), ("gemm", "power")),
    Mechanism("voltage over the clock", ("power.voltage_rise_per_ghz=0",), ("gemm", "power")),
    Mechanism("CTA launch", ("sm.cta_launch_cycles=0",)),
    Mechanism("split-K", ("kernels.max_split_k=1",)),
    Mechanism("raster in bands", ("kernels.raster_width=1",)),
    Mechanism("shared-memory bandwidth", ("shared_memory.bank_bytes=4096",)),
    Mechanism("shared-memory latency", ("shared_memory.latency_cycles=0",)),
    Mechanism("register-file port", (f"tensor_core.register_read_bytes_per_cycle={FREE}",), ("tensor_core", "gemm")),
    Mechanism("metadata decode rate", (f"tensor_core.decoder.codes_per_cycle={FREE}",), ("tensor_core", "gemm")),
    Mechanism("SM read port", (f"noc.sm_port_bytes_per_cycle={FREE}",), MEMORY),
    Mechanism("SM write port", (f"noc.sm_write_bytes_per_cycle={FREE}",)),
    Mechanism("L2 bandwidth", (f"l2.bytes_per_cycle_per_slice={FREE}",), MEMORY),
    Mechanism("L2 capacity", ("l2.capacity_bytes=1000000000000",), MEMORY),
    Mechanism("L2 copies of far blocks", ("l2.copies_far_blocks=false",), MEMORY),
    Mechanism("far L2 latency", ("l2.far_latency_cycles=211",), MEMORY),
    Mechanism("DRAM bandwidth", (f"dram.bandwidth_gb_per_s={FREE}",), MEMORY),
    Mechanism("DRAM refresh", ("dram.refresh_ns=0",), MEMORY),
    Mechanism("DRAM turnaround", ("dram.turnaround_ns=0",), MEMORY),
    Mechanism("DRAM row times", NO_ROW_TIMES, MEMORY),
    Mechanism("DRAM column access", ("dram.cas_ns=0.001",), MEMORY),
    Mechanism("DRAM controller path", ("dram.controller_ns=0",), MEMORY),
)
"""A row a mechanism; by name and override, as `--set` takes it."""


@dataclass(frozen=True)
class AblationRow:
    """The bars' values without a mechanism; None for a suite that it cannot reach or that was not asked for."""

    mechanism: str
    off: tuple[str, ...]
    values: dict[str, float | None]


def ablate(names: Sequence[str], context: Context) -> list[AblationRow]:
    """The intact machine first, then each mechanism switched off, over the named suites (all of SUITES without names)."""
    suites = [name for name in SUITES if not names or name in {asked.replace("-", "_") for asked in names}]
    base = replace(context, curves=False)
    intact = {name: _values(name, _announced(base, 0, "intact")) for name in suites}
    rows = [AblationRow("(nothing switched off)", (), _joined(intact, suites, intact))]
    for done, mechanism in enumerate(MECHANISMS, start=1):
        changed = _announced(replace(base, overrides=(*base.overrides, *mechanism.off)), done, mechanism.name)
        values = {name: _values(name, changed) for name in suites if name in mechanism.suites}
        rows.append(AblationRow(mechanism.name, mechanism.off, _joined(values, suites, intact)))
    return rows


def as_plain_rows(rows: Sequence[AblationRow]) -> list[dict[str, Any]]:
    """For `--json` and the page."""
    return [asdict(row) for row in rows]


def _values(suite: str, context: Context) -> dict[str, float | None]:
    measured = measure_suite(suite, replace(context, most_macs=ABLATED_MACS.get(suite)))
    report = judge(suite, "", measured, read_bars()[suite], read_fitted_rows())
    return {f"{suite}: {one.name}": one.value for one in report.verdicts if one.limit is not None}


def _joined(
    values: dict[str, dict[str, float | None]], suites: Sequence[str], intact: dict[str, dict[str, float | None]]
) -> dict[str, float | None]:
    return {bar: values.get(name, {}).get(bar) for name in suites for bar in intact[name]}


def _announced(context: Context, done: int, what: str) -> Context:
    """The same context, its progress in mechanisms instead of rows."""
    report: Progress = context.progress

    def progress(_done: int, _of: int, row: str) -> None:
        report(done, len(MECHANISMS) + 1, f"without {what}: {row}")

    named: Callable[[int, int, str], None] = progress
    return replace(context, progress=named)
