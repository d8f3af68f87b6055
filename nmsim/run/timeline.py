"""The timeline of a kernel: the run that was timed is run again on the simpy engine with a probe, and must take the same time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nmsim.arch.spec import GpuSpec
from nmsim.engine.probe import Probe, Span, Window
from nmsim.errors import InputError, PhysicsError
from nmsim.hw.probed import BYTE_COUNTERS, DEPTH_COUNTERS, PIPE_COUNTER, run_probed
from nmsim.hw.timing import chip_timing
from nmsim.result.rows import SimulationResult
from nmsim.result.timeline import Counter, KernelTimeline, Slice
from nmsim.run.choice import RunOptions, best_kernel, run_at
from nmsim.run.kernel import KernelRun
from nmsim.run.mainloops import mainloop_timing
from nmsim.run.schemes import lower
from nmsim.units import TICKS_PER_CYCLE
from nmsim.workload.trace import Trace

MOST_SLICES = 300_000
"""Slices of one kernel: about 3 MB of .json.gz."""
BINS = 1000
"""Points of a counter, at most."""
LEAST_BIN_CYCLES = 32
"""A mean over less shows single bursts."""


@dataclass(frozen=True)
class TimelineWindow:
    """Which SMs get tracks of their own, and which cycles of the kernel are recorded (to its end for None)."""

    sms: tuple[int, ...] = (0, 1, 2, 3)
    first_cycle: int = 0
    end_cycle: int | None = None


def kernel_timeline(
    spec: GpuSpec, run: KernelRun, options: RunOptions, window: TimelineWindow, name: str, facts: dict[str, str]
) -> KernelTimeline:
    """Record `run` again. InputError for SMs or cycles that there are none of, PhysicsError where the probe changed a tick."""
    beyond = [sm for sm in window.sms if sm >= spec.sm.count]
    if beyond:
        raise InputError(f"{spec.name} has SMs 0 to {spec.sm.count - 1}", path="--sm", value=beyond[0])
    total = round(run.cycles * TICKS_PER_CYCLE)
    first = window.first_cycle * TICKS_PER_CYCLE
    if first >= total:
        fix = f"start before cycle {total // TICKS_PER_CYCLE}"
        raise InputError(f"{name} ends after {run.cycles:,.0f} cycles", path="--cycles", value=window.first_cycle, fix=fix)
    end = total if window.end_cycle is None else min(total, window.end_cycle * TICKS_PER_CYCLE)
    bin_ticks = max(LEAST_BIN_CYCLES, -(-(end - first) // (BINS * TICKS_PER_CYCLE))) * TICKS_PER_CYCLE
    probe = Probe(Window(first, end, bin_ticks, MOST_SLICES))
    timing = chip_timing(spec, run.clock_mhz)
    mainloop = mainloop_timing(spec, run.plan.mainloop, run.plan.occupancy).ticks()
    outcome = run_probed(timing, run.plan, mainloop, probe, window.sms, warm=options.warm, until=None if end == total else end)
    if outcome is not None and max(outcome.ticks, outcome.drained) != total:
        raise PhysicsError(f"{name} takes {total} ticks, and {max(outcome.ticks, outcome.drained)} when it is watched")
    tracks = {track: tuple(map(_slice, spans)) for track, spans in probe.cut().items()}
    return KernelTimeline(
        name=name,
        facts={**_facts(run), **facts},
        total_ticks=total,
        first_ticks=first,
        end_ticks=probe.end,
        is_cut=probe.end < end,
        bin_ticks=bin_ticks,
        tracks=tracks,
        counters=_counters(probe, bin_ticks, end - first, run.clock_mhz),
    )


def trace_timelines(
    spec: GpuSpec, trace: Trace, result: SimulationResult, gemm_ids: Sequence[str], options: RunOptions, window: TimelineWindow
) -> tuple[KernelTimeline, ...]:
    """The traced scheme's kernels of the GEMMs named, in that order; without names, of the GEMM that takes longest."""
    rows = {row.gemm_id: row for row in result.rows if row.scheme == "traced" and row.kind == "gemm"}
    gemms = {gemm.id: gemm for gemm in trace.gemms}
    chosen = list(gemm_ids) or [max(rows.values(), key=lambda row: row.cycles / row.launches).gemm_id]
    timelines = []
    for gemm_id in chosen:
        if gemm_id not in gemms:
            fix = f"`nmsim trace show` lists them; the first is {next(iter(gemms))}"
            raise InputError(f"{trace.name} holds no such GEMM", path="--timeline-gemm", value=gemm_id, fix=fix)
        row, boost = rows[gemm_id], best_kernel(spec, lower(spec, trace, gemms[gemm_id], "traced").problem, options)
        run = boost if boost.clock_mhz == row.clock_mhz else run_at(spec, boost.plan, row.clock_mhz, options)
        facts = {"gemm": gemm_id, "phase": row.phase, "shape": f"{row.m} x {row.n} x {row.k} x {row.l}", "reason": row.reason}
        timelines.append(kernel_timeline(spec, run, options, window, gemm_id, facts))
    return tuple(timelines)


def _slice(span: Span) -> Slice:
    """A span in plain ints: those that a compiled rule returned may be numpy's."""
    return Slice(span.name, int(span.start), int(span.end), {key: int(amount) for key, amount in span.amounts.items()})


def _facts(run: KernelRun) -> dict[str, str]:
    plan = run.plan
    return {
        "kernel": plan.name,
        "pattern": plan.mainloop.pattern,
        "cta_tile": "x".join(map(str, plan.mainloop.cta_tile)),
        "stages": str(plan.mainloop.stages),
        "ctas": str(len(plan.ctas)),
        "ctas_per_sm": str(plan.occupancy),
        "split_k": str(plan.split_k),
        "clock_mhz": str(run.clock_mhz),
        "cycles": f"{run.cycles:.0f}",
    }


def _counters(probe: Probe, bin_ticks: int, ticks: int, clock_mhz: int) -> tuple[Counter, ...]:
    """Means over each bin: GB/s at the kernel's clock, requests in flight, pipes at work. The last bin may be shorter."""
    counters = []
    for name in (PIPE_COUNTER, *BYTE_COUNTERS, *DEPTH_COUNTERS):
        is_bytes = name in BYTE_COUNTERS
        scale = TICKS_PER_CYCLE * clock_mhz / 1000 if is_bytes else 1.0
        sums = probe.amounts[name]
        widths = [min(bin_ticks, ticks - number * bin_ticks) for number in range(len(sums))]
        values = tuple(amount * scale / width for amount, width in zip(sums, widths, strict=True))
        unit = "GB/s" if is_bytes else "pipes" if name == PIPE_COUNTER else "requests"
        counters.append(Counter(name, unit, values))
    return tuple(counters)
