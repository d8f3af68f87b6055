"""`nmsim gemm` on a systolic array: one GEMM, dense or with a compressed filter, held against its own physics."""

from __future__ import annotations

from dataclasses import dataclass

from nmsim.arch.spec import EnergySpec
from nmsim.arch.systolic import SystolicSpec
from nmsim.energy.model import dynamic_energy_by_unit_j, total_energy_j
from nmsim.errors import InputError, PhysicsError
from nmsim.hw.counters import Counters
from nmsim.hw.systolic import ArrayOutcome, ArrayTiming, run_array
from nmsim.mapping.systolic import SystolicPlan, lower_systolic
from nmsim.rules.stalls import STALL_NAMES, Stall
from nmsim.rules.systolic import ONE_A_CYCLE, Ratio, compute_cycles, load_cycles, skew_cycles
from nmsim.run.bound import bound_of, waiting_share, why_slower
from nmsim.run.native import Native
from nmsim.run.single import GemmResult
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import RATE_BITS, TICKS_PER_CYCLE, cycles_to_us, ns_to_ticks, ticks_per_byte, ticks_to_cycles
from nmsim.version import MODEL_VERSION
from nmsim.workload.gemm import Gemm

ENGINE = "folds"
"""The one way a systolic array is run: events of folds and segments."""


@dataclass(frozen=True, eq=False)
class SystolicRun:
    """What one GEMM did on the array. Busy cycles are useful MACs over PEs: busy and stalls add up to `cycles`."""

    plan: SystolicPlan
    clock_mhz: int
    cycles: float
    busy_cycles: float
    stall_cycles: dict[str, float]
    counters: Counters

    @property
    def time_us(self) -> float:
        """All of it: a systolic machine has no launch."""
        return cycles_to_us(self.cycles, self.clock_mhz)


def run_systolic(spec: SystolicSpec, gemm: Gemm, pattern: NMPattern | None = None, *, ideal_memory: bool = False) -> SystolicRun:
    """Simulate `gemm` with B compressed by `pattern` where given. PhysicsError if a law breaks, InputError if a tile fits no buffer."""
    plan = lower_systolic(spec, gemm, pattern)
    outcome = run_array(array_timing(spec, plan.input_cycles, ideal_memory=ideal_memory), plan.folds)
    _check(spec, gemm, plan, outcome, ideal_memory)
    pes = spec.peak_macs_per_cycle
    stalls = {reason.name.lower(): ticks_to_cycles(ticks) for reason, ticks in outcome.stalls.items()}
    busy = plan.executed_macs / pes
    port = ticks_to_cycles(outcome.port_ticks)
    stalls[Stall.SHARED_MEMORY.name.lower()] += port
    stalls[Stall.IMBALANCE.name.lower()] += ticks_to_cycles(outcome.stream_ticks) - port - busy  # PEs beyond the edge of a ragged fold
    traffic = plan.traffic
    counters = Counters(
        executed_macs=plan.executed_macs,
        dense_equivalent_macs=gemm.macs,
        metadata_codes=traffic.metadata_codes,
        shared_memory_bytes=traffic.buffer_bytes,
        dram_read_bytes=outcome.dram_read_bytes,
        dram_write_bytes=outcome.dram_write_bytes,
        dram_accesses=outcome.dram_transfers,
        k_tiles=len(plan.folds),
    )
    return SystolicRun(plan, spec.clock_mhz, ticks_to_cycles(outcome.ticks), busy, stalls, counters)


def array_timing(spec: SystolicSpec, input_cycles: Ratio = ONE_A_CYCLE, *, ideal_memory: bool = False) -> ArrayTiming:
    """`spec` in ticks, a vector of A entering in `input_cycles`; an ideal memory has no latency and takes no time for a byte."""
    array = spec.array
    return ArrayTiming(
        overlap=array.overlap,
        load=load_cycles(array.dataflow, array.rows, input_cycles) * TICKS_PER_CYCLE,
        skew=skew_cycles(array.rows, array.columns) * TICKS_PER_CYCLE,
        handover=(array.columns - 1 if array.overlap == "fold" else 0) * TICKS_PER_CYCLE,
        memory_rate=0 if ideal_memory else ticks_per_byte(spec.dram.bandwidth_gb_per_s, spec.clock_mhz),
        memory_latency=0 if ideal_memory else ns_to_ticks(spec.dram.latency_ns, spec.clock_mhz),
    )


def simulate_systolic(spec: SystolicSpec, gemm: Gemm, pattern: NMPattern | None, sparse: str) -> GemmResult:
    """Simulate a GEMM and, for the speed-up, its dense form. InputError for a compressed operand other than B."""
    dense = run_systolic(spec, gemm)
    if pattern is None:
        return _result(spec, gemm, dense, dense, None, ())
    if sparse != "b":
        raise InputError("a systolic array compresses its filter, b", path="--sparse-operand", value=sparse, fix="swap m and n")
    native = native_on_array(spec, pattern, gemm.k)
    if native.pattern is None:
        return _result(spec, gemm, dense, dense, pattern, (native.reason,))
    run = run_systolic(spec, gemm, native.pattern)
    return _result(spec, gemm, run, dense, pattern, (native.reason,) if native.reason else ())


def native_on_array(spec: SystolicSpec, pattern: NMPattern, k: int) -> Native:
    """The pattern itself where the array runs any; else the cheapest it holds that contains it; dense where none helps."""
    held = spec.array.nm.held()
    fitting = pattern if held is None else min((own for own in held if own.contains(pattern)), key=lambda p: (p.density, p.m), default=None)
    if fitting is None:
        have = f"holds {', '.join(map(str, held))}, none of which contains {pattern}" if held else "has no N:M selectors"
        return Native(None, f"{spec.name} {have}: runs dense")
    if fitting.compressed_k(k) >= k:
        return Native(None, f"tail: {fitting} of a reduction of {k} keeps {fitting.compressed_k(k)}, which saves nothing: runs dense")
    if fitting != pattern:
        return Native(fitting, f"{pattern} runs as {fitting}, the cheapest pattern {spec.name} holds that contains it")
    return Native(fitting, "")


def _result(
    spec: SystolicSpec, gemm: Gemm, run: SystolicRun, dense: SystolicRun, pattern: NMPattern | None, notes: tuple[str, ...]
) -> GemmResult:
    counters, plan = run.counters, run.plan
    energy_by_unit = array_energy_by_unit_j(spec, counters, gemm.dtype, run.time_us)
    energy_j = total_energy_j(energy_by_unit)
    bound = bound_of(run.busy_cycles, run.stall_cycles)
    if run is not dense and run.cycles > dense.cycles:
        waiting_us = run.time_us * waiting_share(run.cycles, run.busy_cycles, run.stall_cycles)
        notes = (*notes, why_slower(str(pattern), run.time_us, dense.time_us, waiting_us, bound))
    return GemmResult(
        cycles=run.cycles,
        compute_cycles=float(_compute_cycles(spec, gemm, plan)),
        clock_mhz=run.clock_mhz,
        time_us=run.time_us,
        energy_j=energy_j,
        power_w=energy_j / run.time_us * 1e6,
        executed_tflops=2 * counters.executed_macs / run.time_us / 1e6,
        dense_equivalent_tflops=2 * gemm.macs / run.time_us / 1e6,
        speedup_vs_dense=dense.cycles / run.cycles,
        kernel=plan.name,
        native_pattern=plan.pattern,
        cta_tile=plan.fold_tile,
        waves=float(len(plan.folds)),
        stall_cycles={name: run.stall_cycles[name] for name in STALL_NAMES},
        bytes={"dram": counters.dram_read_bytes + counters.dram_write_bytes, "l2": 0, "shared": counters.shared_memory_bytes},
        bound=bound,
        engine=ENGINE,
        model_version=MODEL_VERSION,
        busy_cycles=run.busy_cycles,
        launch_us=0.0,
        split_k=1,
        occupancy=1,
        energy_by_unit_j=energy_by_unit,
        notes=notes,
    )


def _compute_cycles(spec: SystolicSpec, gemm: Gemm, plan: SystolicPlan) -> int:
    """Cycles with operands at hand, in closed form."""
    array = spec.array
    size = array.rows, array.columns, gemm.l
    return compute_cycles(array.dataflow, array.overlap, gemm.m, gemm.n, plan.k, *size, plan.input_cycles)


def array_energy_by_unit_j(spec: SystolicSpec, counters: Counters, dtype: str, time_us: float) -> dict[str, float]:
    """Joules by unit of what was counted in `time_us`; the buffers stand where a GPU has shared memory."""
    return dynamic_energy_by_unit_j(counters, _costs(spec), dtype) | {"static": spec.power.static_w * time_us * 1e-6}


def _costs(spec: SystolicSpec) -> EnergySpec:
    """The array's costs under the names that counters have: its buffers stand where a GPU has shared memory, and it has no L2."""
    energy = spec.energy
    return EnergySpec(
        mac_pj=energy.mac_pj,
        cuda_core_flop_pj=0.0,
        metadata_code_pj=energy.metadata_code_pj,
        shared_memory_pj_per_byte=energy.buffer_pj_per_byte,
        l2_pj_per_byte=0.0,
        dram_pj_per_byte=energy.dram_pj_per_byte,
        dram_activate_pj=0.0,
    )


def _check(spec: SystolicSpec, gemm: Gemm, plan: SystolicPlan, outcome: ArrayOutcome, ideal_memory: bool) -> None:
    """Bytes moved are the planned ones, and no unit was faster than its peak. PhysicsError names what broke."""
    traffic = plan.traffic
    for what, moved, planned in (
        ("read", outcome.dram_read_bytes, traffic.dram_read_bytes),
        ("wrote", outcome.dram_write_bytes, traffic.dram_write_bytes),
    ):
        if moved != planned:
            raise PhysicsError(f"{plan.name}: {what} {moved} bytes of DRAM, planned {planned}")
    at_hand = _compute_cycles(spec, gemm, plan)
    bounds = {"array": at_hand * TICKS_PER_CYCLE, "MAC": plan.executed_macs * TICKS_PER_CYCLE / spec.peak_macs_per_cycle}
    if not ideal_memory:
        rate = ticks_per_byte(spec.dram.bandwidth_gb_per_s, spec.clock_mhz)
        bounds["DRAM"] = (outcome.dram_read_bytes + outcome.dram_write_bytes) * rate >> RATE_BITS
    for unit, ticks in bounds.items():
        if outcome.ticks < ticks:
            raise PhysicsError(f"{plan.name}: {outcome.ticks} ticks is faster than the {unit} bound of {ticks:.0f}")
    if ideal_memory and outcome.ticks != bounds["array"]:
        raise PhysicsError(f"{plan.name}: {outcome.ticks} ticks with operands at hand, and the rule says {bounds['array']:.0f}")
