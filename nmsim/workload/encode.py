"""A trace as the plain data of `manifest.json`: every field by its name, arrays by their sizes, in a fixed order."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

from nmsim.sparsity.packing import mask_digest
from nmsim.workload.fields import Place, take_free_data
from nmsim.workload.gemm import Gemm, MaskRecord, Operand
from nmsim.workload.trace import SCHEMA, Provenance, TileWisePlan, Trace


def encode_trace(trace: Trace) -> dict[str, Any]:
    """The manifest of `trace`; InputError where free-form data (hyper-parameters, schedule) are not plain."""
    return {
        "schema": SCHEMA,
        "name": trace.name,
        "provenance": _encode_provenance(trace.provenance),
        "batch": trace.batch,
        "rescaled_from_batch": trace.rescaled_from_batch,
        "dtype": trace.dtype,
        "own_density": trace.own_density,
        "gemms": [_encode_gemm(gemm) for gemm in trace.gemms],
        "operators": [asdict(operator) for operator in trace.operators],
        "passes": [asdict(one) for one in trace.passes],
        "masks": {key: _encode_mask(trace.masks[key]) for key in sorted(trace.masks)},
        "tile_wise": {
            density: {module: _encode_plan(plans[module]) for module in sorted(plans)} for density, plans in sorted(trace.tile_wise.items())
        },
        "schedule": take_free_data(list(trace.schedule), Place(None, "schedule")),
    }


def plan_digest(plan: TileWisePlan) -> str:
    """sha256 (hex) by which a stored tile-wise plan is known: of the digests of its columns and its rows."""
    return hashlib.sha256((mask_digest(plan.columns) + mask_digest(plan.rows)).encode()).hexdigest()


def _encode_provenance(provenance: Provenance) -> dict[str, Any]:
    place = Place(None, "provenance")
    return {
        "kind": provenance.kind,
        "model": provenance.model,
        "dataset": provenance.dataset,
        "recipe": provenance.recipe,
        "hyper_parameters": take_free_data(provenance.hyper_parameters, place.key("hyper_parameters")),
        "seed": provenance.seed,
        "step": provenance.step,
        "loss": provenance.loss,
        "accuracy": provenance.accuracy,
        "versions": take_free_data(provenance.versions, place.key("versions")),
        "command": provenance.command,
        "notes": list(provenance.notes),
    }


def _encode_gemm(gemm: Gemm) -> dict[str, Any]:
    return {
        "id": gemm.id,
        "module": gemm.module,
        "phase": gemm.phase,
        "m": gemm.m,
        "n": gemm.n,
        "k": gemm.k,
        "l": gemm.l,
        "dtype": gemm.dtype,
        "out_dtype": gemm.out_dtype,
        "macs": gemm.macs,
        "batch_axis": gemm.batch_axis,
        "repeat": gemm.repeat,
        "a": _encode_operand(gemm.a),
        "b": _encode_operand(gemm.b),
        "conv": None if gemm.conv is None else asdict(gemm.conv),
    }


def _encode_operand(operand: Operand) -> dict[str, Any]:
    return {
        "role": operand.role,
        "axes": list(operand.axes),
        "shape": list(operand.shape),
        "structure": operand.structure,
        "pattern": None if operand.pattern is None else str(operand.pattern),
        "group_axis": operand.group_axis,
        "mask": operand.mask,
    }


def _encode_mask(record: MaskRecord) -> dict[str, Any]:
    return {
        "shape": list(record.shape),
        "density": record.density,
        "digest": record.digest,
        "payload": record.payload,
        "checks": {
            str(axis): {"pattern": str(check.pattern), "groups": check.groups, "violations": check.violations}
            for axis, check in sorted(record.checks.items())
        },
    }


def _encode_plan(plan: TileWisePlan) -> dict[str, Any]:
    return {
        "tile_width": plan.tile_width,
        "columns": int(plan.columns.shape[0]),
        "tiles": int(plan.rows.shape[0]),
        "rows": int(plan.rows.shape[1]),
        "digest": plan_digest(plan),
    }
