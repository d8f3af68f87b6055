"""`nmsim simulate` on a systolic array: one trace under the traced recipe and dense, as rows, phase sums and totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nmsim.arch.resolve import arch_key, value_sources
from nmsim.arch.systolic import SystolicSpec
from nmsim.errors import InputError
from nmsim.result.frames import run_key
from nmsim.result.rows import KernelRow, SimulationResult
from nmsim.result.totals import phase_totals, scheme_totals
from nmsim.run.bound import why_slower
from nmsim.run.schemes import SCHEMES
from nmsim.run.systolic import ENGINE
from nmsim.run.systolic_step import SYSTOLIC_SCHEMES, Progress, SystolicSimulator, array_ceilings
from nmsim.run.trace import trace_key
from nmsim.version import MODEL_VERSION
from nmsim.workload.trace import Trace


def simulate_array_trace(
    spec: SystolicSpec, trace: Trace, *, schemes: Sequence[str] = SCHEMES, progress: Progress | None = None
) -> SimulationResult:
    """Simulate a step under each of `schemes`; the defaults of a GPU stand for those that an array runs. "traced" always runs."""
    wanted = _wanted(schemes)
    unknown = [scheme for scheme in wanted if scheme not in SYSTOLIC_SCHEMES]
    if unknown:
        fix = f"use one of {', '.join(SYSTOLIC_SCHEMES)}"
        raise InputError(f"a machine of kind {spec.kind} does not run this scheme", path="--baseline", value=unknown[0], fix=fix)
    if not trace.gemms:
        raise InputError("the trace holds no GEMM", value=trace.name, fix="record a step that multiplies matrices")
    simulator = SystolicSimulator(spec)
    rows: list[KernelRow] = []
    for scheme in wanted:
        rows += simulator.scheme_rows(trace, scheme, progress or _silent)
    total = scheme_totals(rows)
    notes = list(trace.provenance.notes)
    traced, dense = total["traced"], total.get("dense")
    if dense is not None and any(row.ran_sparse for row in rows) and traced.time_us > dense.time_us:
        slowest = max((row for row in rows if row.scheme == "traced"), key=lambda row: row.time_us)
        passes_us = sum(row.time_us for row in rows if row.scheme == "traced" and row.kind == "pass")
        notes.append(why_slower("the traced recipe", traced.time_us, dense.time_us, passes_us, slowest.bound))
    return SimulationResult(
        arch=spec.name,
        arch_key=arch_key(spec),
        trace=trace.name,
        trace_key=trace_key(trace),
        model_version=MODEL_VERSION,
        engine=ENGINE,
        options=_stored_options(trace, wanted),
        provenance=asdict(trace.provenance),
        ceilings=array_ceilings(spec, trace),
        rows=tuple(rows),
        phases=phase_totals(rows),
        total=total,
        notes=tuple(notes),
        sources=value_sources(spec),
    )


def planned_array_key(machine_key: str, step_key: str, trace: Trace, schemes: Sequence[str]) -> str:
    """The `run_key` that `simulate_array_trace` will give, from the keys of the machine and of the trace: nothing is simulated."""
    options = _stored_options(trace, _wanted(schemes))
    return run_key(arch_key=machine_key, trace_key=step_key, model_version=MODEL_VERSION, engine=ENGINE, options=options)


def _wanted(schemes: Sequence[str]) -> tuple[str, ...]:
    return SYSTOLIC_SCHEMES if tuple(schemes) == SCHEMES else tuple(dict.fromkeys(("traced", *schemes)))


def _stored_options(trace: Trace, wanted: Sequence[str]) -> dict[str, Any]:
    return {"l2": "none", "schemes": list(wanted), "batch": trace.batch, "dtype": trace.dtype}


def _silent(_done: int, _of: int, _what: str) -> None:
    return None
