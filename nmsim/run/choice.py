"""Which kernel runs a problem, and at which clock: the best few candidates are simulated, the winner meets the power cap."""

from __future__ import annotations

from dataclasses import dataclass

from nmsim.arch.spec import GpuSpec, TileSpec
from nmsim.energy.clock import clock_of_share
from nmsim.hw.timing import chip_timing
from nmsim.mapping.candidates import Candidate, build_plan, rank
from nmsim.mapping.plan import KernelPlan
from nmsim.mapping.problem import Problem
from nmsim.run.kernel import KernelRun, run_kernel, run_kernel_below
from nmsim.run.least import least_cycles
from nmsim.run.mainloops import mainloop_timing
from nmsim.run.power import clock_under_limit, kernel_energy

IN_ORDER = "step"
"""What the kernels before it left: `nmsim.run.in_order`."""
CANDIDATES, CHEAP_CANDIDATES = 3, 8
"""How many of the closed-form ranking are simulated: always, and where it costs little."""
STREAM_K_CANDIDATES = 2
"""How many stream-K kernels are simulated where the library has them."""
CHEAP_K_TILES = 10_000
"""All candidates beyond CANDIDATES together with those have no more k-tiles: some milliseconds of simulation."""
CHEAP_ESTIMATE, LONG_ESTIMATE = 1.3, 1.2
"""An estimate so many times the best one is not doubted: where all candidates are cheap, and where not. The ranking errs most where
a kernel is short: what it does not know (queues for the first operands, whose turn is when) is then a large part."""


@dataclass(frozen=True)
class RunOptions:
    """How kernels are run: which engine, and what the L2 holds at the start (`cold`, `warm`, or of a step IN_ORDER).

    Kernels are chosen on a cold L2 where it is IN_ORDER.
    """

    engine: str = "compiled"
    l2: str = "cold"

    @property
    def warm(self) -> bool:
        """True where a kernel starts from the L2 contents that an untimed run of itself leaves."""
        return self.l2 == "warm"


def only_kernel(spec: GpuSpec, tile: TileSpec) -> GpuSpec:
    """The machine with a library of one kernel template, its K never split."""
    return spec.model_copy(update={"kernels": spec.kernels.model_copy(update={"tiles": (tile,), "nm_tiles": (), "max_split_k": 1})})


def worth_running(spec: GpuSpec, problem: Problem) -> list[Candidate]:
    """The best CANDIDATES of the ranking that are near the best, and as many as CHEAP_CANDIDATES where they cost little.

    Stream-K kernels, where the library has them, come on top: a library that offers more is never the slower for it.
    """
    ranked = rank(spec, problem, CHEAP_CANDIDATES)
    best, k_tiles = ranked[0].estimate_cycles, sum(one.k_tiles for one in ranked[:CANDIDATES])
    if k_tiles > CHEAP_K_TILES:
        found = [one for one in ranked[:CANDIDATES] if one.estimate_cycles <= LONG_ESTIMATE * best]
    else:
        found = ranked[:CANDIDATES]
        for candidate in ranked[CANDIDATES:]:
            k_tiles += candidate.k_tiles
            if k_tiles > CHEAP_K_TILES or candidate.estimate_cycles > CHEAP_ESTIMATE * best:
                break
            found.append(candidate)
    return found + rank(spec, problem, STREAM_K_CANDIDATES, stream_k=True) if spec.kernels.stream_k else found


def best_kernel(spec: GpuSpec, problem: Problem, options: RunOptions) -> KernelRun:
    """Of the `worth_running`, the one that the power limit lets finish first; of equals, the one ranked first.

    All are simulated at the top clock; where one would draw more than the board may, its time is taken at the clock that the limit
    leaves, as if all of it went with the clock. A candidate whose least possible time is no less than another's is not simulated, and one
    that turns out to take as long is not simulated to its end.
    """
    clock_mhz = spec.clock.top_mhz
    first, *others = worth_running(spec, problem)
    timing = chip_timing(spec, clock_mhz)
    best = run_at(spec, build_plan(spec, first), clock_mhz, options)
    least = capped_cycles(spec, best) * spec.kernels.reluctance(first.split_k)
    for candidate in others:
        plan, reluctance = build_plan(spec, candidate), spec.kernels.reluctance(candidate.split_k)
        limit = least / reluctance
        if least_cycles(timing, plan, mainloop_timing(spec, plan.mainloop, plan.occupancy).ticks()) < limit:
            run = run_kernel_below(spec, plan, clock_mhz, limit, engine=options.engine, warm=options.warm)
            if run is not None and (cycles := reluctance * capped_cycles(spec, run)) < least:
                best, least = run, cycles
    return best


def capped_cycles(spec: GpuSpec, run: KernelRun) -> float:
    """Cycles of the top clock that the run takes once it is slowed to the board's limit (an estimate, to choose by)."""
    dynamic_w = kernel_energy(spec, run).busy_power_w - spec.power.static_w
    share = (spec.power.board_limit_w - spec.power.static_w) / dynamic_w if dynamic_w > 0 else 1.0
    if share >= 1:
        return run.cycles
    return run.cycles * run.clock_mhz / clock_of_share(share, spec.clock, run.clock_mhz, spec.power.switching_energy_ratio)


def run_at(spec: GpuSpec, plan: KernelPlan, clock_mhz: int, options: RunOptions) -> KernelRun:
    """One plan at one clock."""
    return run_kernel(spec, plan, clock_mhz, engine=options.engine, warm=options.warm)


def under_power_cap(spec: GpuSpec, boost: KernelRun, options: RunOptions) -> KernelRun:
    """The run at the highest clock step at which the kernel's power, while all SMs are at work, fits the board's limit."""
    runs = {boost.clock_mhz: boost}

    def power_at(clock_mhz: int) -> float:
        if clock_mhz not in runs:
            runs[clock_mhz] = run_at(spec, boost.plan, clock_mhz, options)
        return kernel_energy(spec, runs[clock_mhz]).busy_power_w

    return runs[clock_under_limit(spec, power_at, [(1, boost)])]


def compute_cycles(spec: GpuSpec, run: KernelRun, options: RunOptions) -> float:
    """Cycles of the same kernel on a memory that answers at once."""
    return run_kernel(spec, run.plan, run.clock_mhz, engine=options.engine, ideal_memory=True).cycles
