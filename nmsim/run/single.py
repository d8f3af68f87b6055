"""`nmsim gemm`: one what-if GEMM, dense or N:M, on one GPU-like machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nmsim.arch.spec import GpuSpec
from nmsim.energy.model import average_power_w, static_energy_j, total_energy_j
from nmsim.errors import InputError
from nmsim.mapping.lower import lower_dense, lower_nm
from nmsim.mapping.problem import Problem
from nmsim.rules.stalls import STALL_NAMES
from nmsim.run.bound import bound_of, waiting_share, why_slower
from nmsim.run.choice import RunOptions, best_kernel, compute_cycles, under_power_cap
from nmsim.run.kernel import KernelRun
from nmsim.run.native import native_pattern
from nmsim.run.power import kernel_energy
from nmsim.sparsity.pattern import NMPattern
from nmsim.version import MODEL_VERSION
from nmsim.workload.gemm import Gemm, Operand


@dataclass(frozen=True)
class GemmResult:
    """A simulated GEMM; field for field what `nmsim gemm --json` prints."""

    cycles: float
    compute_cycles: float
    clock_mhz: int
    time_us: float
    energy_j: float
    power_w: float
    executed_tflops: float
    dense_equivalent_tflops: float
    speedup_vs_dense: float
    kernel: str
    native_pattern: str
    cta_tile: tuple[int, int, int]
    waves: float
    stall_cycles: dict[str, float]
    bytes: dict[str, int]
    bound: str
    engine: str
    model_version: str
    busy_cycles: float
    launch_us: float
    split_k: int
    occupancy: int
    energy_by_unit_j: dict[str, float]
    notes: tuple[str, ...]
    longest_cta_cycles: float = 0.0
    """From a CTA's first instruction to the end of its mainloop, of the CTA that took longest; 0 where there are none."""

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def what_if_gemm(m: int, n: int, k: int, batch: int, dtype: str, out_dtype: str) -> Gemm:
    """A free-standing GEMM with both operands K-contiguous, so that the swap of a sparse B is free."""
    leading = ("l",) if batch > 1 else ()
    shape = (batch,) if batch > 1 else ()
    return Gemm(
        id="gemm",
        module="gemm",
        phase="forward",
        m=m,
        n=n,
        k=k,
        l=batch,
        dtype=dtype,
        out_dtype=out_dtype,
        a=Operand("activation", (*leading, "m", "k"), (*shape, m, k)),
        b=Operand("weight", (*leading, "n", "k"), (*shape, n, k)),
        macs=m * n * k * batch,
    )


def simulate_single(spec: GpuSpec, gemm: Gemm, pattern: NMPattern | None, sparse: str, options: RunOptions) -> GemmResult:
    """Simulate a GEMM and, for the speed-up, its dense form. `sparse` names the compressed operand, "a" or "b"."""
    dense = under_power_cap(spec, best_kernel(spec, lower_dense(gemm), options), options)
    problem, notes = _sparse_problem(spec, gemm, pattern, sparse)
    run = dense if problem is None else under_power_cap(spec, best_kernel(spec, problem, options), options)
    return gemm_result(spec, gemm, run, dense, options, notes, str(pattern))


def single_kernel(spec: GpuSpec, gemm: Gemm, pattern: NMPattern | None, sparse: str, options: RunOptions) -> KernelRun:
    """The kernel that `simulate_single` reports, at its clock."""
    problem, _ = _sparse_problem(spec, gemm, pattern, sparse)
    return under_power_cap(spec, best_kernel(spec, problem or lower_dense(gemm), options), options)


def _sparse_problem(spec: GpuSpec, gemm: Gemm, pattern: NMPattern | None, sparse: str) -> tuple[Problem | None, tuple[str, ...]]:
    """The compressed problem and what is to be said of it; None where the GEMM runs dense."""
    if pattern is None:
        return None, ()
    native = native_pattern(spec, gemm.dtype, pattern, gemm.k)
    notes = (native.reason,) if native.reason else ()
    if native.pattern is None:
        return None, notes
    return lower_nm(gemm, sparse, native.pattern, spec.metadata_code(gemm.dtype, native.pattern)), notes


def gemm_result(
    spec: GpuSpec,
    gemm: Gemm,
    run: KernelRun,
    dense: KernelRun,
    options: RunOptions,
    notes: tuple[str, ...],
    what: str,
    more_launches: int = 0,
) -> GemmResult:
    """What is said of a run beside its dense form. `what` names it where it is slower; `more_launches` were needed besides the one."""
    energy = kernel_energy(spec, run)
    more_us = more_launches * spec.launch.kernel_us
    launch_us, time_us, dense_us = energy.launch_us + more_us, energy.time_us + more_us, kernel_energy(spec, dense).time_us
    by_unit_j = {**energy.by_unit_j, "static": static_energy_j(spec.power, time_us)}
    energy_j = total_energy_j(by_unit_j)
    bound = bound_of(run.busy_cycles, run.stall_cycles, launch_us * run.clock_mhz)
    if run is not dense and time_us > dense_us:
        waiting = waiting_share(run.cycles, run.busy_cycles, run.stall_cycles)
        notes = (*notes, why_slower(what, time_us, dense_us, launch_us + waiting * run.time_us, bound))
    counters = run.counters
    return GemmResult(
        cycles=run.cycles,
        compute_cycles=compute_cycles(spec, run, options),
        clock_mhz=run.clock_mhz,
        time_us=time_us,
        energy_j=energy_j,
        power_w=average_power_w(energy_j, time_us),
        executed_tflops=2 * counters.executed_macs / time_us / 1e6,
        dense_equivalent_tflops=2 * gemm.macs / time_us / 1e6,
        speedup_vs_dense=dense_us / time_us,
        kernel=run.plan.name,
        native_pattern=run.plan.mainloop.pattern,
        cta_tile=run.plan.mainloop.cta_tile,
        waves=run.plan.waves(spec.sm.count),
        stall_cycles={name: run.stall_cycles[name] for name in STALL_NAMES},
        bytes={
            "dram": counters.dram_read_bytes + counters.dram_write_bytes,
            "l2": counters.l2_read_bytes + counters.l2_write_bytes,
            "shared": counters.shared_memory_bytes,
        },
        bound=bound,
        engine=options.engine,
        model_version=MODEL_VERSION,
        busy_cycles=run.busy_cycles,
        launch_us=launch_us,
        split_k=run.plan.split_k,
        occupancy=run.plan.occupancy,
        energy_by_unit_j=by_unit_j,
        notes=notes + run.plan.notes,
        longest_cta_cycles=run.longest_cta_cycles,
    )


def check_dimensions(**dimensions: int) -> None:
    """InputError for a dimension that is no GEMM's."""
    for name, value in dimensions.items():
        if not 1 <= value <= MAX_DIMENSION:
            raise InputError(f"must be between 1 and {MAX_DIMENSION:,}", path=f"--{name}", value=value)


MAX_DIMENSION = 1 << 24
"""Longest side of a GEMM: far beyond a machine's memory, far below an overflow."""
