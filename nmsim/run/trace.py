"""`nmsim simulate`: one trace on one machine under several schemes, as rows, phase sums and totals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nmsim.arch.resolve import arch_key, value_sources
from nmsim.arch.spec import GpuSpec
from nmsim.energy.model import average_power_w
from nmsim.errors import InputError
from nmsim.keys import content_key
from nmsim.result.frames import run_key
from nmsim.result.rows import Ceilings, KernelRow, SchemeTotal, SimulationResult
from nmsim.result.totals import phase_totals, scheme_totals
from nmsim.run.bound import OVERHEAD_SHARE, waiting_share, why_slower
from nmsim.run.choice import RunOptions
from nmsim.run.formats import FORMATS, plan_densities
from nmsim.run.schemes import SCHEMES, tile_wise_density
from nmsim.run.step import Progress, Simulator
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.tile_wise import kept_macs
from nmsim.version import MODEL_VERSION
from nmsim.workload.gemm import Gemm
from nmsim.workload.trace import Operator, SparsifyPass, Trace


def simulate_trace(
    spec: GpuSpec,
    trace: Trace,
    *,
    schemes: Sequence[str] = SCHEMES,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    simulator: Simulator | None = None,
) -> SimulationResult:
    """Simulate a step under each of `schemes` (of SCHEMES and FORMATS; "traced" always runs, and first).

    `simulator` is one for the same machine and options that has run other traces: kernels that they share are not run again.
    """
    options = options or RunOptions()
    unknown = [scheme for scheme in schemes if scheme not in (*SCHEMES, *FORMATS)]
    if unknown:
        raise InputError("no such scheme", path="--baseline", value=unknown[0], fix=f"use one of {', '.join((*SCHEMES, *FORMATS))}")
    if not trace.gemms:
        raise InputError("the trace holds no GEMM", value=trace.name, fix="record a step that multiplies matrices")
    simulator = simulator or Simulator(spec, options)
    rows: list[KernelRow] = []
    for scheme in _with_traced(schemes):
        rows += simulator.scheme_rows(trace, scheme, progress or _silent)
    total = scheme_totals(rows)
    return SimulationResult(
        arch=spec.name,
        arch_key=arch_key(spec),
        trace=trace.name,
        trace_key=trace_key(trace),
        model_version=MODEL_VERSION,
        engine=options.engine,
        options=_stored_options(trace, schemes, options),
        provenance={**asdict(trace.provenance), "schedule": [dict(stage) for stage in trace.schedule]},
        ceilings=ceilings(spec, trace, rows[0].clock_mhz),
        rows=tuple(rows),
        phases=phase_totals(rows),
        total=total,
        notes=tuple(_notes(spec, trace, rows, total)),
        sources=value_sources(spec),
    )


def planned_run_key(machine_key: str, step_key: str, trace: Trace, schemes: Sequence[str], options: RunOptions) -> str:
    """The `run_key` that `simulate_trace` will give, from the keys of the machine and of the trace: nothing is simulated."""
    return run_key(
        arch_key=machine_key,
        trace_key=step_key,
        model_version=MODEL_VERSION,
        engine=options.engine,
        options=_stored_options(trace, schemes, options),
    )


def _with_traced(schemes: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(("traced", *schemes)))


def _stored_options(trace: Trace, schemes: Sequence[str], options: RunOptions) -> dict[str, Any]:
    return {"l2": options.l2, "schemes": _with_traced(schemes), "batch": trace.batch, "dtype": trace.dtype}


def trace_key(trace: Trace) -> str:
    """Content key of what timing and energy read of a trace: shapes, structures and digests, not losses or names."""
    return content_key(
        {
            "gemms": [_unnamed(gemm) for gemm in trace.gemms],
            "operators": [_unnamed(one) for one in trace.operators],
            "passes": [_unnamed(one) for one in trace.passes],
            "masks": {key: record.digest for key, record in trace.masks.items()},
            "tile_wise": {
                density: {
                    module: [plan.tile_width, plan.columns.tobytes().hex(), plan.rows.tobytes().hex()] for module, plan in plans.items()
                }
                for density, plans in trace.tile_wise.items()
                if density in plan_densities(trace)
            },
        }
    )


def _unnamed(entry: Gemm | Operator | SparsifyPass) -> dict[str, Any]:
    """An entry without what only people read."""
    return {field: value for field, value in asdict(entry).items() if field not in ("id", "module", "name")}


def ceilings(spec: GpuSpec, trace: Trace, clock_mhz: int) -> Ceilings:
    """The machine's rooflines for the trace's element type at a clock, in dense-equivalent TFLOP/s."""
    patterns = {mma.pattern for mma in spec.tensor_core.mma if mma.dtype == trace.dtype and mma.nm}

    def tflops(pattern: NMPattern | None) -> float:
        return 2 * spec.peak_macs_per_cycle(trace.dtype, pattern) * clock_mhz / 1e6

    return Ceilings(
        clock_mhz=clock_mhz,
        dense_tflops=tflops(None),
        nm_tflops={pattern: tflops(NMPattern.parse(pattern)) for pattern in sorted(patterns)},
        l2_gb_per_s=spec.l2.bandwidth_gb_per_s,
        dram_gb_per_s=spec.dram.bandwidth_gb_per_s,
        shared_memory_gb_per_s=spec.sm.count * spec.shared_memory.banks * spec.shared_memory.bank_bytes * clock_mhz / 1000,
    )


def _notes(spec: GpuSpec, trace: Trace, rows: Sequence[KernelRow], total: Mapping[str, SchemeTotal]) -> list[str]:
    """The sentences a reader should see first."""
    notes = list(trace.provenance.notes)
    traced = [row for row in rows if row.scheme == "traced"]
    time_us = total["traced"].time_us
    launch_us = sum(row.launch_us for row in traced)
    if launch_us > OVERHEAD_SHARE * time_us:
        share = f"{launch_us / time_us:.0%}"
        notes.append(f"launch-bound: launches are {share} of the traced step; a larger --batch shows the kernels themselves")
    dense = total.get("dense")
    if dense is not None and any(row.ran_sparse for row in traced) and time_us > dense.time_us:
        bound = max(traced, key=lambda row: row.time_us).bound
        waits = (row.cycles / row.clock_mhz * waiting_share(row.cycles, row.busy_cycles, row.stall_cycles) for row in traced)
        notes.append(why_slower("the traced recipe", time_us, dense.time_us, launch_us + sum(waits), bound))
    notes += _clock_notes(spec, rows, total)
    assumed = sorted({row.module for row in traced if "assumed" in row.reason and row.ran_sparse})
    if assumed:
        notes.append(f"the legality of the pattern is assumed, not checked, in {len(assumed)} layer(s), the first {assumed[0]}")
    if "tile_wise" in total:
        notes.append(_tile_wise_note(trace))
    return notes


def _clock_notes(spec: GpuSpec, rows: Sequence[KernelRow], total: Mapping[str, SchemeTotal]) -> list[str]:
    """Which schemes the board's power limit slows, and whether even the lowest clock exceeds it."""
    clocks = {scheme: next(row.clock_mhz for row in rows if row.scheme == scheme) for scheme in total}
    capped = [f"{scheme} to {clock} MHz" for scheme, clock in clocks.items() if clock < spec.clock.top_mhz]
    if not capped:
        return []
    notes = [f"the board's limit of {spec.power.board_limit_w:g} W lowers the clock of {', '.join(capped)}"]
    for scheme, clock in clocks.items():
        watts = average_power_w(total[scheme].energy_j, total[scheme].time_us)
        if clock == spec.clock.min_mhz and watts > spec.power.board_limit_w:
            notes.append(f"even at its lowest clock {scheme} draws {watts:.0f} W, over the limit")
    return notes


def _tile_wise_note(trace: Trace) -> str:
    """What the tile-wise baseline leaves of the layers: a global ranking may all but empty one of them."""
    density = tile_wise_density(trace)
    plans = trace.tile_wise.get(density, {}).values()
    kept = sorted(kept_macs(plan.columns, plan.rows, plan.tile_width) / (len(plan.columns) * plan.rows.shape[1]) for plan in plans)
    spread = f", between {kept[0]:.0%} and {kept[-1]:.0%} of a single layer" if kept else ""
    return f"tile_wise keeps {density} of the pruned layers' weights, ranked over the whole network{spread}; its accuracy was not trained"


def _silent(_done: int, _of: int, _what: str) -> None:
    return None
