"""The rows of a result: plain frozen data, one per kernel x scheme, and the totals made from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PHASES = ("forward", "backward_data", "backward_weight", "other", "sparsify")
ENERGY_UNITS = ("tensor_core", "metadata", "cuda_core", "shared_memory", "l2", "dram", "static")
"""Units energy is split over; `energy/` fills exactly these keys."""


@dataclass(frozen=True)
class KernelRow:
    """One GEMM, operator or pass under one scheme. Cycles, times, energies, counts are totals over its `launches`.

    `stall_cycles` has the keys of `nmsim.rules.stalls.STALL_NAMES` (mean over SMs); busy_cycles + their sum = cycles.
    `cycles` exclude the launches; `time_us` includes them (`launch_us` is their part of it).
    """

    gemm_id: str
    module: str
    kind: str
    """`gemm`, `operator` or `pass`."""
    phase: str
    """One of PHASES."""
    scheme: str
    """`traced`, `dense`, `tile_wise`, ..."""
    m: int
    n: int
    k: int
    l: int  # noqa: E741 - the field's name
    launches: int
    ran_sparse: bool
    reason: str
    """Why it ran sparse, or why it did not."""
    kernel: str
    native_pattern: str
    """Pattern the hardware ran, or `dense`."""
    cta_tile: str
    waves: float
    split_k: int
    clock_mhz: int
    cycles: float
    compute_cycles: float
    busy_cycles: float
    launch_us: float
    time_us: float
    energy_j: float
    power_w: float
    bound: str
    stall_cycles: Mapping[str, float] = field(default_factory=dict)
    energy_by_unit_j: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    """The fields of `nmsim.hw.counters.Counters`."""


@dataclass(frozen=True)
class Ceilings:
    """Rooflines of the machine a run used, stored so that a report needs no machine: dense-equivalent TFLOP/s and GB/s at `clock_mhz`."""

    clock_mhz: int
    dense_tflops: float
    nm_tflops: Mapping[str, float]
    l2_gb_per_s: float
    dram_gb_per_s: float
    shared_memory_gb_per_s: float = 0.0
    """Of all SMs together; 0 on a machine that has none."""


@dataclass(frozen=True)
class PhaseTotal:
    """Sum of the rows of one phase under one scheme."""

    phase: str
    scheme: str
    cycles: float
    time_us: float
    energy_j: float


@dataclass(frozen=True)
class SchemeTotal:
    """Sum of all phases of one scheme; a speed-up is a ratio of times, None where that scheme was not simulated."""

    cycles: float
    time_us: float
    energy_j: float
    speedup_vs_dense: float | None
    speedup_vs_tile_wise: float | None


@dataclass(frozen=True)
class SimulationResult:
    """Everything `simulate` says of one trace on one machine."""

    arch: str
    arch_key: str
    trace: str
    trace_key: str
    model_version: str
    engine: str
    options: Mapping[str, Any]
    provenance: Mapping[str, Any]
    ceilings: Ceilings
    rows: tuple[KernelRow, ...]
    phases: tuple[PhaseTotal, ...]
    total: Mapping[str, SchemeTotal]
    notes: tuple[str, ...] = ()
    """Sentences worth reading first: launch-bound, sparse slower than dense and why, assumed legality ..."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where the machine's values come from: `sm.count`, or `sm.*` for those not named -> a text. No key depends on it."""
