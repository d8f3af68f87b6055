"""Suite `monotone`: a better machine is never slower, on random GEMMs, dense and N:M.

Each GEMM runs on a machine and on the same with one thing improved, its L2 cold. The better machine runs the kernel that it chooses and
the one that the worse one chose, and the faster counts: that the library's ranking may choose worse on another machine is no fault of the
machine, and is told apart. Except where power is what improves, the board's limit is lifted: more SMs draw more power, and
under a limit the clock of all of them falls for it, which is physics and no anomaly.

A GEMM that is still more than ALLOWED slower is told with the stall that grew most, and has to be shown to be an anomaly of list
scheduling (Graham, SIAM J. Appl. Math. 17, 1969): a CTA goes to the slot that falls free first, and another order of falling free may
end later. So the same kernel runs on the better machine with the schedule of the worse one, each CTA on the SM that it had there
and in the same order. If that is not slower, the schedule is what costs the time; if it is, the model makes a better part cost time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nmsim.api import default_engine
from nmsim.arch.machine import as_gpu
from nmsim.arch.spec import GpuSpec
from nmsim.mapping.candidates import build_plan, rank
from nmsim.mapping.lower import lower_dense, lower_nm
from nmsim.mapping.plan import KernelPlan
from nmsim.mapping.problem import Problem
from nmsim.rules.stalls import STALL_NAMES
from nmsim.run.choice import RunOptions, best_kernel, run_at, under_power_cap
from nmsim.run.kernel import KernelRun, run_kernel_placed
from nmsim.run.power import kernel_energy
from nmsim.run.single import what_if_gemm
from nmsim.sparsity.pattern import NMPattern
from nmsim.validation.measured import Check, Context, Measured

GEMMS, QUICK_GEMMS, SEED = 200, 20, 7
SMALLEST, LARGEST = 64, 4096
"""Sides are log-uniform between these, in steps of 8."""
ALLOWED = 0.01
ANOMALIES, WORST_ANOMALY = 0.02, 0.1
"""At most this share of the GEMMs may be slower by more than ALLOWED: each by at most WORST_ANOMALY, and with the old schedule by at most
ALLOWED. More SMs run the old schedule on as many as before, and so can only be slower if something else depends on their number."""


@dataclass(frozen=True)
class Improvement:
    """One value of one machine multiplied."""

    block: str
    key: str
    factor: float
    arch: str = "ampere_pcie.yaml"
    overrides: tuple[str, ...] = ()
    """Of the worse machine."""
    patterns: tuple[str | None, ...] = (None, "2:4")
    """Of the draw's GEMMs, in turn."""

    def better(self, spec: GpuSpec) -> GpuSpec:
        """The machine with the value multiplied."""
        return improved(spec, self.block, self.key, self.factor)


FLEXIBLE = ("1:2", "2:4", "4:8", "1:4", "2:8", "1:8", "1:16")
IMPROVEMENTS: dict[str, Improvement] = {
    "more SMs": Improvement("sm", "count", 4 / 3),
    "more DRAM bandwidth": Improvement("dram", "bandwidth_gb_per_s", 1.5),
    "more L2 bandwidth": Improvement("l2", "sustained_fraction", 1.3),
    "more L2 capacity": Improvement("l2", "capacity_bytes", 2, overrides=("l2.capacity_bytes=2621440",)),
    "a faster decoder": Improvement(
        "decoder", "codes_per_cycle", 2, "ampere_flex_nm.yaml", ("tensor_core.decoder.codes_per_cycle=8",), FLEXIBLE
    ),
    "more power": Improvement("power", "board_limit_w", 1.5),
}
"""By name of the check. L2 and decoder are ones that bind: the operands of nearly all these GEMMs fit 40 MiB and not 2.5, and 64 codes a
cycle are what the fastest instruction needs, 8 are not. An improvement that makes no GEMM faster says nothing, and its check fails."""
LIFTED = ("power", "board_limit_w", 100.0)


@dataclass(frozen=True)
class RandomGemm:
    """One GEMM of the draw."""

    m: int
    n: int
    k: int
    pattern: str | None

    def __str__(self) -> str:
        return f"{self.m} x {self.n} x {self.k} {self.pattern or 'dense'}"


@dataclass
class Found:
    """What became of the GEMMs of one check."""

    slower: list[tuple[float, str]] = field(default_factory=list)
    """Whatever kernel runs: (loss, told in words)."""
    unexplained: list[str] = field(default_factory=list)
    """Of those, the ones that are slower with the old schedule too."""
    choice: list[str] = field(default_factory=list)
    """Slower only with the kernel that the ranking chose on the better machine."""
    faster: int = 0
    """By more than ALLOWED."""
    capped: int = 0
    """Below the top clock for the board's limit, before."""


def measure(context: Context) -> Measured:
    """Run the draw of each improvement on both machines."""
    options = RunOptions(engine=context.engine or default_engine())
    count = GEMMS if context.most_macs is None else QUICK_GEMMS
    checks = []
    for done, (name, improvement) in enumerate(IMPROVEMENTS.items()):
        worse = as_gpu(context.machine(improvement.arch, improvement.overrides), "monotone")
        if improvement.block != LIFTED[0]:
            worse = improved(worse, *LIFTED)
        found, gemms = Found(), draw(count, improvement.patterns)
        for index, gemm in enumerate(gemms):
            context.progress(done * count + index, len(IMPROVEMENTS) * count, f"{name}: {gemm}")
            _compare(worse, improvement.better(worse), gemm, options, found)
        checks.append(_check(name, found, count))
    return Measured((), tuple(checks))


def _compare(worse: GpuSpec, better: GpuSpec, gemm: RandomGemm, options: RunOptions, found: Found) -> None:
    """Run a GEMM on both machines, and note what became of it."""
    problem = _problem(worse, gemm)
    before = under_power_cap(worse, best_kernel(worse, problem, options), options)
    after = under_power_cap(better, best_kernel(better, problem, options), options)
    change = _change(worse, before, better, after)
    found.capped += before.clock_mhz < worse.clock.top_mhz
    found.faster += change < -ALLOWED
    if change <= ALLOWED:
        return
    same = under_power_cap(better, run_at(better, _same_plan(better, problem, before), better.clock.top_mhz, options), options)
    if (change_of_same := _change(worse, before, better, same)) <= ALLOWED:
        found.choice.append(f"{gemm}: {change:+.1%}")
        return
    if change_of_same < change:
        after, change = same, change_of_same
    grown = max(STALL_NAMES, key=lambda stall: after.stall_cycles[stall] - before.stall_cycles[stall])
    _, placement = run_kernel_placed(worse, before.plan, before.clock_mhz)
    placed, _ = run_kernel_placed(better, before.plan, same.clock_mhz, placement)
    change_of_placed = _change(worse, before, better, placed)
    found.slower.append((change, f"{gemm}: {change:+.1%}, {grown}, {after.plan.name}; with the old schedule {change_of_placed:+.1%}"))
    if change_of_placed > ALLOWED:
        found.unexplained.append(str(gemm))


def _change(worse: GpuSpec, before: KernelRun, better: GpuSpec, after: KernelRun) -> float:
    """Of the time with the launch, positive where it grew."""
    return kernel_energy(better, after).time_us / kernel_energy(worse, before).time_us - 1


def _problem(spec: GpuSpec, gemm: RandomGemm) -> Problem:
    whole = what_if_gemm(gemm.m, gemm.n, gemm.k, 1, "fp16", "fp16")
    if gemm.pattern is None:
        return lower_dense(whole)
    pattern = NMPattern.parse(gemm.pattern)
    return lower_nm(whole, "b", pattern, spec.metadata_code("fp16", pattern))


def _same_plan(spec: GpuSpec, problem: Problem, run: KernelRun) -> KernelPlan:
    """The tile and split that another machine chose, on this one."""
    ranked = rank(spec, problem, keep=10**6)
    return build_plan(spec, next(one for one in ranked if one.key == run.plan.mainloop and one.split_k == run.plan.split_k))


def draw(count: int, patterns: Sequence[str | None] = (None, "2:4")) -> list[RandomGemm]:
    """`count` GEMMs with the patterns in turn; the same each time."""
    import numpy as np

    generator = np.random.default_rng(SEED)
    sides = np.exp(generator.uniform(np.log(SMALLEST), np.log(LARGEST), size=(count, 3)))
    gemms = []
    for index, row in enumerate(sides):
        m, n, k = (max(SMALLEST, int(side) // 8 * 8) for side in row)
        gemms.append(RandomGemm(m, n, k, patterns[index % len(patterns)]))
    return gemms


def improved(spec: GpuSpec, block: str, key: str, factor: float) -> GpuSpec:
    """`spec` with one value multiplied."""
    if block == "decoder":
        core = spec.tensor_core
        decoder = core.decoder.model_copy(update={key: getattr(core.decoder, key) * factor})
        return spec.model_copy(update={"tensor_core": core.model_copy(update={"decoder": decoder})})
    part = getattr(spec, block)
    value = getattr(part, key)
    better = int(value * factor) if isinstance(value, int) else value * factor
    return spec.model_copy(update={block: part.model_copy(update={key: better})})


def _check(name: str, found: Found, count: int) -> Check:
    losses = [loss for loss, _ in found.slower]
    few_and_small = len(losses) <= ANOMALIES * count and max(losses, default=0.0) <= WORST_ANOMALY
    holds = few_and_small and not found.unexplained and found.faster > 0
    worst = "; ".join(text for _, text in sorted(found.slower, reverse=True)[:3])
    evidence = f"slower by more than {ALLOWED:.0%}: {len(losses)} of {count}" + (f" ({worst})" if worst else "")
    evidence += f"; faster by more than that: {found.faster}"
    if found.capped:
        evidence += f"; held back by the limit before: {found.capped}"
    if found.choice:
        evidence += f"; the ranking chose worse than the kernel before for {len(found.choice)} ({'; '.join(found.choice[:3])})"
    return Check(name, holds, evidence)
