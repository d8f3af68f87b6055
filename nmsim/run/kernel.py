"""One kernel launch on one machine at one clock: run it, check the physics, account for every cycle."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from nmsim.arch.spec import GpuSpec
from nmsim.errors import InputError
from nmsim.hw.contents import Contents
from nmsim.hw.counters import Counters
from nmsim.hw.mainloop import MainloopTiming
from nmsim.hw.outcome import ChipOutcome
from nmsim.hw.timing import ChipTiming, chip_timing
from nmsim.mapping.plan import KernelPlan
from nmsim.rules.stalls import STALL_NAMES, Stall
from nmsim.run.mainloops import mainloop_timing
from nmsim.run.physics import check_outcome
from nmsim.units import TICKS_PER_CYCLE, cycles_to_us

if TYPE_CHECKING:
    from nmsim.hw.chip_events import Placement

ENGINES = ("compiled", "simpy")


@dataclass(frozen=True, eq=False)
class KernelRun:
    """What one launch did. Cycles are core cycles without the launch itself; stalls are means over SMs."""

    plan: KernelPlan
    clock_mhz: int
    cycles: float
    busy_cycles: float
    stall_cycles: Mapping[str, float]
    counters: Counters
    longest_cta_cycles: float = 0.0
    """The longest a CTA took from its first instruction to the end of its mainloop: what a clock read inside a kernel shows."""

    @property
    def time_us(self) -> float:
        """Without the launch."""
        return cycles_to_us(self.cycles, self.clock_mhz)


def run_kernel(
    spec: GpuSpec, plan: KernelPlan, clock_mhz: int, *, engine: str = "compiled", warm: bool = False, ideal_memory: bool = False
) -> KernelRun:
    """Simulate a plan. PhysicsError if conservation, a bound or the cycle accounting breaks."""
    timing = chip_timing(spec, clock_mhz, ideal_memory=ideal_memory)
    mainloop = mainloop_timing(spec, plan.mainloop, plan.occupancy)
    outcome = run_engine(timing, plan, mainloop, engine, warm=warm)
    check_outcome(timing, plan, mainloop, outcome)
    return account(plan, mainloop, outcome, clock_mhz)


def run_kernel_below(
    spec: GpuSpec, plan: KernelPlan, clock_mhz: int, cycles: float, *, engine: str = "compiled", warm: bool = False
) -> KernelRun | None:
    """`run_kernel` where it takes less than `cycles`, else None: the compiled engine stops as soon as that is certain."""
    if engine != "compiled":
        run = run_kernel(spec, plan, clock_mhz, engine=engine, warm=warm)
        return run if run.cycles < cycles else None
    from nmsim.hw.chip_compiled import run_compiled_below

    timing = chip_timing(spec, clock_mhz)
    mainloop = mainloop_timing(spec, plan.mainloop, plan.occupancy)
    outcome = run_compiled_below(timing, plan, mainloop.ticks(), ceil(cycles * TICKS_PER_CYCLE), warm=warm)
    if outcome is None:
        return None
    check_outcome(timing, plan, mainloop, outcome)
    run = account(plan, mainloop, outcome, clock_mhz)
    return run if run.cycles < cycles else None


def run_engine(timing: ChipTiming, plan: KernelPlan, mainloop: MainloopTiming, engine: str, *, warm: bool = False) -> ChipOutcome:
    """Run one of the two wirings; they agree to the tick."""
    if engine == "compiled":
        from nmsim.hw.chip_compiled import run_compiled

        return run_compiled(timing, plan, mainloop.ticks(), warm=warm)
    if engine == "simpy":
        from nmsim.hw.chip_events import run_events

        return run_events(timing, plan, mainloop.ticks(), warm=warm)
    raise InputError("no such engine", path="--engine", value=engine, fix=f"use one of {', '.join(ENGINES)}")


def run_kernel_placed(spec: GpuSpec, plan: KernelPlan, clock_mhz: int, placement: Placement | None = None) -> tuple[KernelRun, Placement]:
    """`run_kernel` on the simpy engine with each CTA on the SM that `placement` names (None: where it falls), and where each was."""
    from nmsim.hw.chip_events import run_events_placed

    timing = chip_timing(spec, clock_mhz)
    mainloop = mainloop_timing(spec, plan.mainloop, plan.occupancy)
    outcome, used = run_events_placed(timing, plan, mainloop.ticks(), placement)
    check_outcome(timing, plan, mainloop, outcome)
    return account(plan, mainloop, outcome, clock_mhz), used


def run_kernel_after(
    spec: GpuSpec, plan: KernelPlan, clock_mhz: int, names: Sequence[Hashable], before: Contents | None, *, engine: str = "compiled"
) -> tuple[KernelRun, Contents]:
    """`run_kernel` on what the kernels before it left in the L2 (None: cold), and what it leaves; `names` are of `plan.tensors`."""
    timing = chip_timing(spec, clock_mhz)
    mainloop = mainloop_timing(spec, plan.mainloop, plan.occupancy)
    if engine == "compiled":
        from nmsim.hw.chip_compiled import run_compiled_after as run_after
    else:
        from nmsim.hw.chip_events import run_events_after as run_after
    outcome, after = run_after(timing, plan, mainloop.ticks(), names, before)
    check_outcome(timing, plan, mainloop, outcome)
    return account(plan, mainloop, outcome, clock_mhz), after


def account(plan: KernelPlan, mainloop: MainloopTiming, outcome: ChipOutcome, clock_mhz: int) -> KernelRun:
    """Turn ticks into cycles by reason: what the pipe was reserved for is split by the SM level's own stalls."""
    sms = len(outcome.stalls)
    draining = max(0, outcome.drained - outcome.ticks) / TICKS_PER_CYCLE  # posted writes that outlast the last CTA
    busy_per_k_tile = mainloop.busy_cycles[0] / mainloop.busy_cycles[1]
    stalls = {name: float(outcome.stalls[:, index].sum()) / sms / TICKS_PER_CYCLE for index, name in enumerate(STALL_NAMES)}
    stalls[Stall.EPILOGUE.name.lower()] += draining
    busy = 0.0
    for level, share in enumerate(mainloop.stall_share):
        reserved = float(outcome.reserved_ticks[:, level].sum()) / sms / TICKS_PER_CYCLE
        useful = min(reserved, float(outcome.k_tiles[:, level].sum()) * busy_per_k_tile / sms)
        lost = reserved - useful
        for name, part in share.items():
            stalls[name] += lost * part
        if not share:
            stalls[Stall.MATH_LATENCY.name.lower()] += lost
        busy += useful
    k_tiles = plan.k_tiles
    counters = Counters(
        executed_macs=k_tiles * plan.executed_macs_per_k_tile,
        dense_equivalent_macs=plan.dense_equivalent_macs,
        metadata_codes=k_tiles * plan.codes_per_k_tile,
        cuda_core_flops=k_tiles * plan.mainloop.stream_flops,
        shared_memory_bytes=k_tiles * mainloop.shared_memory_bytes,
        l2_read_bytes=outcome.l2_read_bytes,
        l2_write_bytes=outcome.l2_write_bytes,
        dram_read_bytes=outcome.dram_read_bytes,
        dram_write_bytes=outcome.dram_write_bytes,
        dram_activates=outcome.dram_activates,
        dram_accesses=outcome.dram_accesses,
        l2_block_lookups=outcome.block_lookups,
        l2_block_misses=outcome.block_misses,
        k_tiles=k_tiles,
    )
    return KernelRun(
        plan, clock_mhz, outcome.ticks / TICKS_PER_CYCLE + draining, busy, stalls, counters, outcome.longest_cta / TICKS_PER_CYCLE
    )
