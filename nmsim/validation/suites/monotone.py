"""Suite `monotone`: a better machine is never slower, on random GEMMs, dense and 2:4.

Each GEMM runs on the A100 and on A100s with one thing improved, its L2 cold. The better machine runs the kernel that it chooses and the
one that the A100 chose, and the faster counts: that the library's ranking may choose worse on another machine is no fault of the
machine, and is told apart. Except where power is what improves, the board's limit is lifted: more SMs draw more power, and
under a limit the clock of all of them falls for it, which is physics and no anomaly. A GEMM that is still more than ALLOWED
slower is told with the stall that grew most, and has to be shown to be a scheduling anomaly, as Graham's of list scheduling
(SIAM J. Appl. Math. 17, 1969): the order in which CTAs meet in L2 and DRAM changes with the machine, and a few then queue longer.
"""

from __future__ import annotations

from dataclasses import dataclass

from nmsim.api import default_engine
from nmsim.arch.machine import as_gpu
from nmsim.arch.spec import GpuSpec
from nmsim.mapping.candidates import build_plan, rank
from nmsim.mapping.lower import lower_dense, lower_nm
from nmsim.mapping.problem import Problem
from nmsim.rules.stalls import STALL_NAMES
from nmsim.run.choice import RunOptions, best_kernel, run_at, under_power_cap
from nmsim.run.kernel import KernelRun
from nmsim.run.power import kernel_energy
from nmsim.run.single import what_if_gemm
from nmsim.sparsity.pattern import NMPattern
from nmsim.validation.measured import Check, Context, Measured

GEMMS, QUICK_GEMMS, SEED = 200, 20, 7
SMALLEST, LARGEST = 64, 4096
"""Sides are log-uniform between these, in steps of 8."""
ALLOWED = 0.01
ANOMALIES = 0.02
"""At most this share of the GEMMs may be slower by more than ALLOWED, and each of them must be shown to be a scheduling anomaly.

Shown is what tells one from a model in which more costs time: on a machine improved by less, in one of GENTLER_STEPS, the same kernel
gains more than GAIN. Such losses come and go as CTAs meet in another order; a model that is wrong about the machine loses at every step.

What was found behind them, all kernels of a few microseconds on a cold L2: kernels that need as many rounds of CTAs on 144 SMs as on
108. The first round then asks for more at once of the same memory and takes longer, and some of the CTAs left over are handed out two by
two to the SMs that are through first, while others have nothing to do.
"""
GENTLER_STEPS = 12
GAIN = 0.001

IMPROVEMENTS: dict[str, tuple[str, str, float]] = {
    "more SMs": ("sm", "count", 4 / 3),
    "more DRAM bandwidth": ("dram", "bandwidth_gb_per_s", 1.5),
    "more L2 bandwidth": ("l2", "sustained_fraction", 1.3),
    "more L2 capacity": ("l2", "capacity_bytes", 2),
    "a faster decoder": ("decoder", "codes_per_cycle", 2),
    "more power": ("power", "board_limit_w", 1.5),
}
"""Name of the check -> block, key and factor."""
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


@dataclass(frozen=True)
class Slowdowns:
    """GEMMs that got slower on a better machine."""

    machine: list[tuple[float, str]]
    """Whatever kernel runs: (loss, told in words)."""
    unexplained: list[str]
    """Of those, the ones that gain from no gentler improvement."""
    choice: list[str]
    """Only with the kernel that the ranking chose there."""


def measure(context: Context) -> Measured:
    """Run the draw on every machine."""
    base = as_gpu(context.machine("ampere_pcie.yaml"), "monotone")
    options = RunOptions(engine=context.engine or default_engine())
    free = improved(base, *LIFTED)
    bases = {name: base if change[0] == "power" else free for name, change in IMPROVEMENTS.items()}
    machines = {name: improved(bases[name], *change) for name, change in IMPROVEMENTS.items()}
    gemms = draw(GEMMS if context.most_macs is None else QUICK_GEMMS)
    found = {name: Slowdowns([], [], []) for name in machines}
    for done, gemm in enumerate(gemms):
        context.progress(done, len(gemms), str(gemm))
        problem = _problem(base, gemm)
        before = best_kernel(base, problem, options)
        times = {id(one): _time_us(one, before, options) for one in (base, free)}
        for name, machine in machines.items():
            before_us = times[id(bases[name])]
            chosen = best_kernel(machine, problem, options)
            chosen_us = _time_us(machine, chosen, options)
            if chosen_us <= before_us * (1 + ALLOWED):
                continue
            same = _same_kernel(machine, problem, before, options)
            same_us = _time_us(machine, same, options)
            after, after_us = (same, same_us) if same_us < chosen_us else (chosen, chosen_us)
            grown = max(STALL_NAMES, key=lambda stall: after.stall_cycles[stall] - before.stall_cycles[stall])
            text = f"{gemm}: {after_us / before_us - 1:+.1%}, {grown}, {after.plan.name}"
            if after_us > before_us * (1 + ALLOWED):
                gentler = _gentler(bases[name], name, problem, before, before_us, options)
                found[name].machine.append((after_us / before_us - 1, f"{text}; {gentler or 'slower with any improvement'}"))
                if not gentler:
                    found[name].unexplained.append(str(gemm))
            else:
                found[name].choice.append(f"{gemm}: {chosen_us / before_us - 1:+.1%}")
    return Measured((), tuple(_check(name, slow, len(gemms)) for name, slow in found.items()))


def _problem(spec: GpuSpec, gemm: RandomGemm) -> Problem:
    whole = what_if_gemm(gemm.m, gemm.n, gemm.k, 1, "fp16", "fp16")
    if gemm.pattern is None:
        return lower_dense(whole)
    pattern = NMPattern.parse(gemm.pattern)
    return lower_nm(whole, "b", pattern, spec.metadata_code("fp16", pattern))


def _time_us(spec: GpuSpec, run: KernelRun, options: RunOptions) -> float:
    return kernel_energy(spec, under_power_cap(spec, run, options)).time_us


def _gentler(base: GpuSpec, name: str, problem: Problem, before: KernelRun, before_us: float, options: RunOptions) -> str:
    """The largest smaller improvement with which the kernel is faster than before, in words; empty where there is none."""
    block, key, factor = IMPROVEMENTS[name]
    for step in reversed(range(1, GENTLER_STEPS)):
        less = 1 + (factor - 1) * step / GENTLER_STEPS
        machine = improved(base, block, key, less)
        after_us = _time_us(machine, _same_kernel(machine, problem, before, options), options)
        if after_us < before_us * (1 - GAIN):
            return f"{after_us / before_us - 1:+.1%} with {less:.3g} times"
    return ""


def _same_kernel(spec: GpuSpec, problem: Problem, run: KernelRun, options: RunOptions) -> KernelRun:
    """The tile and split that another machine chose, on this one."""
    ranked = rank(spec, problem, keep=10**6)
    same = next(one for one in ranked if one.key == run.plan.mainloop and one.split_k == run.plan.split_k)
    return run_at(spec, build_plan(spec, same), spec.clock.top_mhz, options)


def draw(count: int) -> list[RandomGemm]:
    """`count` GEMMs, every other one 2:4; the same each time."""
    import numpy as np

    generator = np.random.default_rng(SEED)
    sides = np.exp(generator.uniform(np.log(SMALLEST), np.log(LARGEST), size=(count, 3)))
    gemms = []
    for index, row in enumerate(sides):
        m, n, k = (max(SMALLEST, int(side) // 8 * 8) for side in row)
        gemms.append(RandomGemm(m, n, k, "2:4" if index % 2 else None))
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


def _check(name: str, slow: Slowdowns, count: int) -> Check:
    holds = len(slow.machine) <= ANOMALIES * count and not slow.unexplained
    worst = "; ".join(text for _, text in sorted(slow.machine, reverse=True)[:3])
    evidence = f"slower by more than {ALLOWED:.0%}: {len(slow.machine)} of {count}" + (f" ({worst})" if worst else "")
    if slow.choice:
        evidence += f"; the ranking chose worse than the kernel before for {len(slow.choice)} ({'; '.join(slow.choice[:3])})"
    return Check(name, holds, evidence)
