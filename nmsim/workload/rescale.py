"""A trace at another batch size: the same network, patterns and densities, with everything that counts samples re-scaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil

from nmsim.errors import InputError
from nmsim.workload.fields import MAX_COUNT, MAX_DIMENSION
from nmsim.workload.gemm import Gemm, GroupCheck, MaskRecord, Operand
from nmsim.workload.trace import Operator, SparsifyPass, Trace
from nmsim.workload.validate import within_limits
from nmsim.workload.validate_masks import group_count


def rescale_batch(trace: Trace, batch: int) -> Trace:
    """`trace` as if recorded with `batch` samples; InputError where a recorded size does not divide into samples.

    Weights keep their masks. A mask of an activation or a gradient that grows with the batch belonged to the recorded data:
    its payload is dropped; its density, pattern and share of broken groups are kept. Loss and accuracy stay those of the
    recorded run. A provenance note says so. Bytes and flops of operators and passes that scale are taken as proportional.
    """
    if not 1 <= batch <= MAX_DIMENSION:
        raise InputError(f"a batch is 1 to {MAX_DIMENSION} samples", path="batch", value=batch)
    if batch == trace.batch:
        return trace
    ratio = Fraction(batch, trace.batch)
    gemms = tuple(_rescale_gemm(gemm, ratio, trace.batch) for gemm in trace.gemms)
    masks = _rescale_masks(trace, gemms, ratio)
    dropped = sorted(key for key in trace.payloads if masks[key] != trace.masks[key])
    note = f"batch re-scaled from {trace.batch} to {batch} samples; patterns, densities, loss and accuracy are those of the recorded run"
    if dropped:
        note += f"; masks of activations and gradients stand for their recorded density and checks alone: {', '.join(dropped)}"
    return replace(
        trace,
        batch=batch,
        gemms=gemms,
        operators=tuple(_rescale_operator(operator, ratio) if operator.scales_with_batch else operator for operator in trace.operators),
        passes=tuple(_rescale_pass(one, ratio) if one.scales_with_batch else one for one in trace.passes),
        masks=masks,
        payloads={key: payload for key, payload in trace.payloads.items() if key not in dropped},
        rescaled_from_batch=trace.rescaled_from_batch or trace.batch,
        provenance=replace(trace.provenance, notes=(*trace.provenance.notes, note)),
    )


def _rescale_gemm(gemm: Gemm, ratio: Fraction, recorded_batch: int) -> Gemm:
    axis = gemm.batch_axis
    if axis == "none":
        return gemm
    sizes = {"m": gemm.m, "n": gemm.n, "k": gemm.k, "l": gemm.l}
    if sizes[axis] % recorded_batch or (gemm.conv is not None and gemm.conv.batch % recorded_batch):
        raise InputError(
            f"{axis} is not a whole number for each of {recorded_batch} samples",
            path=f"gemms[{gemm.id!r}].{axis}",
            value=sizes[axis],
            fix="simulate this trace at its recorded batch",
        )
    sizes[axis] = int(sizes[axis] * ratio)
    scaled = replace(
        gemm,
        m=sizes["m"],
        n=sizes["n"],
        k=sizes["k"],
        l=sizes["l"],
        macs=int(gemm.macs * ratio),
        a=_rescale_operand(gemm.a, axis, ratio),
        b=_rescale_operand(gemm.b, axis, ratio),
        conv=None if gemm.conv is None else replace(gemm.conv, batch=int(gemm.conv.batch * ratio)),
    )
    if not within_limits(scaled):
        raise InputError("the batch is too large for this GEMM", path=f"gemms[{gemm.id!r}].{axis}", value=sizes[axis])
    return scaled


def _rescale_operand(operand: Operand, axis: str, ratio: Fraction) -> Operand:
    shape = tuple(int(size * ratio) if name == axis else size for name, size in zip(operand.axes, operand.shape, strict=True))
    return replace(operand, shape=shape)


def _rescale_masks(trace: Trace, gemms: Sequence[Gemm], ratio: Fraction) -> dict[str, MaskRecord]:
    """The records with the shapes of the re-scaled operands that name them; two operands that share a mask must agree."""
    shapes: dict[str, tuple[int, ...]] = {}
    for gemm in gemms:
        for operand in (gemm.a, gemm.b):
            if operand.mask is not None and shapes.setdefault(operand.mask, operand.shape) != operand.shape:
                raise InputError(
                    f"entries that share the mask {operand.mask!r} grow differently with the batch",
                    path=f"gemms[{gemm.id!r}].batch_axis",
                    value=gemm.batch_axis,
                    fix="give them the batch axes of one tensor",
                )
    return {key: _rescale_record(record, shapes.get(key, record.shape)) for key, record in trace.masks.items()}


def _rescale_record(record: MaskRecord, shape: tuple[int, ...]) -> MaskRecord:
    """The record for `shape`, its payload dropped; the digest goes on naming the recorded data that it stands for."""
    if shape == record.shape:
        return record
    checks = {axis: _rescale_check(check, group_count(shape, check.pattern.m, axis)) for axis, check in record.checks.items()}
    return replace(record, shape=shape, payload=False, checks=checks)


def _rescale_check(check: GroupCheck, groups: int) -> GroupCheck:
    # Rounded up: a mask that broke its pattern goes on breaking it, however small the batch.
    return replace(check, groups=groups, violations=ceil(Fraction(check.violations * groups, check.groups)))


def _rescale_operator(operator: Operator, ratio: Fraction) -> Operator:
    return replace(
        operator,
        bytes_read=_rescale_count(operator.bytes_read, ratio, operator.id),
        bytes_written=_rescale_count(operator.bytes_written, ratio, operator.id),
        flops=_rescale_count(operator.flops, ratio, operator.id),
    )


def _rescale_pass(one: SparsifyPass, ratio: Fraction) -> SparsifyPass:
    return replace(
        one,
        bytes_read=_rescale_count(one.bytes_read, ratio, one.id),
        bytes_written=_rescale_count(one.bytes_written, ratio, one.id),
        operations=_rescale_count(one.operations, ratio, one.id),
    )


def _rescale_count(count: int, ratio: Fraction, entry: str) -> int:
    scaled = ceil(count * ratio)
    if scaled > MAX_COUNT:
        raise InputError("the batch is too large for this entry", path=entry, value=scaled)
    return scaled
