"""The rows that the measuring scripts write: the format that `nmsim validate --data` reads, with columns of its own beside it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

MACHINES = (
    (r"A100-SXM4-80GB", 108, 80, "ampere.yaml"),
    (r"A100 80GB PCIe|A100-PCIE-80GB", 108, 80, "ampere_pcie.yaml"),
    (r"H100 80GB HBM3", 132, 80, "hopper.yaml"),
    (r"H100 PCIe", 114, 80, "hopper_pcie.yaml"),
    (r"H200", 132, 141, "hopper_h200.yaml"),
    (r"GeForce RTX 4090", 128, 24, "ada.yaml"),
    (r"GeForce RTX 4070 Ti SUPER", 66, 16, "ada_4070_ti_super.yaml"),
    (r"V100-SXM2-32GB", 80, 32, "volta.yaml"),
)
"""The whole of what the driver calls a card (after NVIDIA or Tesla), its SMs, nominal memory in GB, and the shipped machine that it is.

Cards of the same name differ (a MIG slice, a laptop's, one with less memory), so that all three have to fit.
"""
LEAST_OF_NOMINAL = 0.9
"""Share of the nominal memory, read as GiB, that a driver reports at least: 141 GB are 131 GiB, and some is kept back."""


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
    """One matrix instruction at some number of warps and chains, as `nmsim.validation.instruction_rows` reads it."""

    id: str
    arch: str
    shape: str
    pattern: str
    dtype: str
    acc: str
    measures: str
    """`latency` or `throughput`."""
    warps: int
    chains: int
    iteration_cycles: float
    """In which each chain advances by one instruction."""
    throughput_fma_per_cycle_per_sm: float
    """Dense-equivalent multiply-adds; the reader takes its own from iteration_cycles."""
    gpu: str
    clock_mhz: int | None
    power_w: float | None
    source: str
    status: str
    note: str


def machine_of(gpu: str, sms: int, memory_bytes: int) -> str:
    """The file of arch_configs that describes the card; an empty name where none does, for the user to fill in."""
    for name, count, nominal, file in MACHINES:
        fits = LEAST_OF_NOMINAL * nominal <= memory_bytes / (1 << 30) <= nominal
        if re.fullmatch(rf"(NVIDIA |Tesla )?({name})", gpu) and sms == count and fits:
            return file
    return ""


def what_to_do(gpu: str, sms: int, memory_bytes: int, out: Path) -> str:
    """What is said where `machine_of` finds none."""
    card = f"{gpu!r} with {sms} SMs and {memory_bytes / (1 << 30):.1f} GiB"
    return f"no shipped machine describes {card}: write one (docs/architectures.md) and name it in the column `arch` of {out}"


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
