"""What if: the same recorded step in another N:M pattern or another element type, without its weights."""

from __future__ import annotations

from dataclasses import replace

from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import BITS_PER_ELEMENT
from nmsim.workload.gemm import Gemm, Operand
from nmsim.workload.legality import usable_structure
from nmsim.workload.trace import Trace


def with_pattern(trace: Trace, pattern: NMPattern) -> Trace:
    """`trace` with every weight that was recorded N:M assumed to obey `pattern` instead, on the axes recorded for it.

    A weight whose recorded mask was usable in a phase stays so; one whose groups lay across the reduction goes on doing so.
    Their masks are dropped, and with them loss, accuracy and the claim to be a trained run: they belong to the recorded
    pattern. The result is `shapes-only`, and a provenance note says why. InputError where no weight was recorded N:M.
    """
    gemms = tuple(replace(gemm, a=_assume(gemm, gemm.a, trace, pattern), b=_assume(gemm, gemm.b, trace, pattern)) for gemm in trace.gemms)
    if gemms == trace.gemms and not any(_is_nm_weight(operand) for gemm in gemms for operand in (gemm.a, gemm.b)):
        raise InputError(
            "no weight of this trace was recorded with an N:M structure, so no group axis is known",
            path="pattern",
            value=str(pattern),
            fix="record the trace with an N:M recipe",
        )
    used = {operand.mask for gemm in gemms for operand in (gemm.a, gemm.b)}
    recorded = trace.provenance
    origin = f"the group axes of a {recorded.kind} run ({recorded.recipe})"
    note = f"pattern {pattern} assumed on {origin}, whose masks, loss and accuracy do not apply"
    return replace(
        trace,
        gemms=gemms,
        masks={key: record for key, record in trace.masks.items() if key in used},
        payloads={key: payload for key, payload in trace.payloads.items() if key in used},
        own_density=None if pattern.n == pattern.m else str(pattern.density),
        provenance=replace(recorded, kind="shapes-only", loss=None, accuracy=None, notes=(*recorded.notes, note)),
    )


def with_dtype(trace: Trace, dtype: str) -> Trace:
    """`trace` with every GEMM that ran in its autocast type run in `dtype` instead; results that had that type follow.

    A GEMM recorded in another type keeps it. Loss, accuracy and the bytes of other operators stay those of the recorded
    type, and a note says so. InputError for an unknown type.
    """
    if dtype not in BITS_PER_ELEMENT:
        raise InputError("there is no such element type", path="dtype", value=dtype, fix=f"use one of {', '.join(BITS_PER_ELEMENT)}")
    if dtype == trace.dtype:
        return trace
    recorded = trace.provenance
    kept = f"loss, accuracy and the bytes of other operators are those of {trace.dtype}"
    note = f"element type {dtype} in place of the recorded {trace.dtype}; {kept}"
    return replace(
        trace,
        dtype=dtype,
        gemms=tuple(_retype(gemm, trace.dtype, dtype) for gemm in trace.gemms),
        provenance=replace(recorded, notes=(*recorded.notes, note)),
    )


def _is_nm_weight(operand: Operand) -> bool:
    return operand.role == "weight" and operand.structure == "nm"


def _assume(gemm: Gemm, operand: Operand, trace: Trace, pattern: NMPattern) -> Operand:
    if not _is_nm_weight(operand):
        return operand
    usable = usable_structure(gemm, operand, trace).ok
    axis = operand.reduction_axis if usable else operand.group_axis
    return replace(operand, pattern=pattern, group_axis=axis, mask=None)


def _retype(gemm: Gemm, recorded: str, dtype: str) -> Gemm:
    if gemm.dtype != recorded:
        return gemm
    return replace(gemm, dtype=dtype, out_dtype=dtype if gemm.out_dtype == recorded else gemm.out_dtype)
