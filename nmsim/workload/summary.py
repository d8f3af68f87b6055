"""What a trace holds, as plain data for `nmsim trace show`, and what is odd about it, for `nmsim trace check`."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from nmsim.errors import InputError
from nmsim.sparsity.tile_wise import kept_macs
from nmsim.workload.gemm import PHASES, Gemm, Operand
from nmsim.workload.legality import usable_structure
from nmsim.workload.store import MANIFEST, read_trace, trace_file_findings
from nmsim.workload.trace import Trace

PLAN_TOLERANCE = 0.05
"""How far, as a share of the asked density, a tile-wise plan may be from it before `check` speaks: whole tiles round."""


def summarise_trace(trace: Trace) -> dict[str, Any]:
    """Phases (GEMM count and MACs of a step, sparse operands, patterns), masks, tile-wise plans and provenance; JSON-ready."""
    return {
        "name": trace.name,
        "provenance": asdict(trace.provenance),
        "batch": trace.batch,
        "rescaled_from_batch": trace.rescaled_from_batch,
        "dtype": trace.dtype,
        "own_density": trace.own_density,
        "modules": len({gemm.module for gemm in trace.gemms}),
        "phases": {phase: _summarise_phase([gemm for gemm in trace.gemms if gemm.phase == phase], trace) for phase in PHASES},
        "operators": {
            "entries": len(trace.operators),
            "launches": sum(operator.count for operator in trace.operators),
            "bytes": sum(operator.count * (operator.bytes_read + operator.bytes_written) for operator in trace.operators),
        },
        "passes": {
            "entries": len(trace.passes),
            "bytes_per_step": float(sum(Fraction(one.bytes_read + one.bytes_written, one.every_steps) for one in trace.passes)),
        },
        "masks": {
            key: {
                "shape": list(record.shape),
                "density": record.density,
                "payload_bytes": _packed_bytes(record.shape) if record.payload else 0,
                "source": "mask" if record.payload else "verified-at-record",
                "checks": {
                    str(axis): f"{check.violations} of {check.groups} groups break {check.pattern}" for axis, check in record.checks.items()
                },
            }
            for key, record in sorted(trace.masks.items())
        },
        "tile_wise": {density: _plan_density(trace, density) for density in sorted(trace.tile_wise)},
        "schedule": [dict(entry) for entry in trace.schedule],
    }


def check_trace(path: str | Path) -> list[str]:
    """Findings on the trace in `path`, one sentence each, none where it is sound.

    Every contradiction that the reader would refuse; where there is none, what is legal and yet surely not meant: a weight that
    breaks its own pattern, an unused mask, a density without its tile-wise plan, a scheduled trace that is not there.
    """
    try:
        lies = [str(finding) for finding in trace_file_findings(path)]
    except InputError as error:
        return [str(error)]
    if lies:
        return lies
    trace = read_trace(path)
    notes = [*_broken_patterns(trace), *_unused_masks(trace), *_odd_plans(trace), *_missing_traces(trace, Path(path))]
    return [f"{Path(path) / MANIFEST}: {note}" for note in notes]


def _summarise_phase(gemms: list[Gemm], trace: Trace) -> dict[str, Any]:
    usable = [gemm for gemm in gemms if any(usable_structure(gemm, operand, trace).ok for operand in (gemm.a, gemm.b))]
    sparse = [operand for gemm in gemms for operand in (gemm.a, gemm.b) if operand.structure != "dense"]
    return {
        "gemms": sum(gemm.repeat for gemm in gemms),
        "macs": sum(gemm.repeat * gemm.macs for gemm in gemms),
        "usable_sparse_gemms": sum(gemm.repeat for gemm in usable),
        "usable_sparse_macs": sum(gemm.repeat * gemm.macs for gemm in usable),
        "sparse_operands": len(sparse),
        "structures": sorted({_structure_text(operand) for operand in sparse}),
    }


def _structure_text(operand: Operand) -> str:
    return f"{operand.role} {operand.structure}" + ("" if operand.pattern is None else f" {operand.pattern}")


def _packed_bytes(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape[:-1], dtype=object)) * -(-shape[-1] // 8)


def _plan_density(trace: Trace, density: str) -> dict[str, Any]:
    plans = trace.tile_wise[density].values()
    kept = sum(kept_macs(plan.columns, plan.rows, plan.tile_width) for plan in plans)
    return {
        "modules": len(plans),
        "tiles": sum(plan.rows.shape[0] for plan in plans),
        "kept_share": kept / max(1, sum(plan.columns.shape[0] * plan.rows.shape[1] for plan in plans)),
    }


def _broken_patterns(trace: Trace) -> list[str]:
    """Operands whose groups do lie along the reduction and yet break the pattern they were recorded with."""
    notes = []
    for gemm in trace.gemms:
        for name, operand in (("a", gemm.a), ("b", gemm.b)):
            if operand.structure == "nm" and operand.group_axis == operand.reduction_axis:
                usable = usable_structure(gemm, operand, trace)
                if not usable.ok:
                    notes.append(f"gemms[{gemm.id!r}].{name}: {usable.reason}: this GEMM of {gemm.module} runs dense")
    return notes


def _unused_masks(trace: Trace) -> list[str]:
    used = {operand.mask for gemm in trace.gemms for operand in (gemm.a, gemm.b)}
    return [f"masks[{key!r}]: no operand names this mask" for key in sorted(set(trace.masks) - used)]


def _odd_plans(trace: Trace) -> list[str]:
    notes = []
    if trace.tile_wise and trace.own_density is not None and trace.own_density not in trace.tile_wise:
        notes.append(f"own_density: there is no tile-wise plan at {trace.own_density}: the baseline can't match the trace")
    for density in sorted(trace.tile_wise):
        kept = _plan_density(trace, density)["kept_share"]
        if abs(kept / float(Fraction(density)) - 1) > PLAN_TOLERANCE:
            notes.append(f"tile_wise[{density!r}]: the plans keep {kept:.4f} of the weights")
    return notes


def _missing_traces(trace: Trace, path: Path) -> list[str]:
    """Scheduled traces are named relative to the folder that this trace lies in."""
    return [
        f"schedule[{index}].trace: there is no {entry['trace']} beside this trace"
        for index, entry in enumerate(trace.schedule)
        if not (path.parent / str(entry["trace"]) / MANIFEST).is_file()
    ]
