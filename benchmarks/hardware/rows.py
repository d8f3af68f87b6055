"""The rows that the measuring scripts write: the format that `nmsim validate --data` reads, with columns of its own beside it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

MACHINES = (
    ("H100 PCIe", "hopper_pcie.yaml"),
    ("H100", "hopper.yaml"),
    ("H200", "hopper_h200.yaml"),
    ("A100-PCIE", "ampere_pcie.yaml"),
    ("A100 80GB PCIe", "ampere_pcie.yaml"),
    ("A100", "ampere.yaml"),
    ("RTX 4090", "ada.yaml"),
    ("RTX 4070 Ti SUPER", "ada_4070_ti_super.yaml"),
    ("V100", "volta.yaml"),
)
"""A part of what the driver calls a card, and the shipped machine that describes it; the first that fits."""


@dataclass(frozen=True)
class GemmRow:
    """One measured GEMM; times in us, None where it could not be measured. A pattern is of the weight, the n x k operand."""

    id: str
    arch: str
    m: int
    n: int
    k: int
    dtype: str
    out_dtype: str
    pattern: str
    dense_us: float | None
    sparse_us: float | None
    compress_us: float | None
    l2: str
    gpu: str
    clock_mhz: int | None
    power_w: float | None
    sparse_clock_mhz: int | None
    sparse_power_w: float | None
    tags: str
    source: str
    status: str
    note: str


@dataclass(frozen=True)
class InstructionRow:
    """One matrix instruction at some number of warps and chains: cycles of an iteration, dense-equivalent FMA a cycle and SM."""

    gpu: str
    instruction: str
    pattern: str
    dtype: str
    warps: int
    chains: int
    latency_cycles: float
    """Cycles of one iteration, in which each chain advances by one instruction."""
    throughput_fma_per_cycle_per_sm: float
    clock_mhz: int | None
    source: str


def machine_of(gpu: str) -> str:
    """The file of arch_configs that describes the card; an empty name where none does, for the user to fill in."""
    for part, file in MACHINES:
        if re.search(re.escape(part), gpu, re.IGNORECASE):
            return file
    return ""


def write_rows(path: Path, rows: Iterable[GemmRow] | Iterable[InstructionRow]) -> None:
    """Write a CSV file; a number that was not measured is an empty cell."""
    rows = list(rows)
    if not rows:
        raise SystemExit("nothing was measured")
    names = [field.name for field in fields(rows[0])]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            writer.writerow(["" if (value := getattr(row, name)) is None else value for name in names])
