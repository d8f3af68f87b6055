"""Bytes a plan will move between L2 and the SMs, counted without running it: what conservation is checked against."""

from __future__ import annotations

from nmsim.mapping.plan import CtaShape, KernelPlan
from nmsim.rules.box import DIMENSION, l2_bytes, operand_bytes


def planned_read_bytes(plan: KernelPlan) -> int:
    """Operand bytes of every k-tile of every CTA, plus what epilogues read back."""
    k_tile = plan.mainloop.cta_tile[2]
    operands, accumulate = plan.operands.tolist(), plan.accumulate.tolist()
    outputs = plan.outputs.tolist()
    total = 0
    for shape in plan.shapes:
        full, tail = divmod(shape.k, k_tile)
        for descriptor in operands[shape.group]:
            x = shape.rows if descriptor[DIMENSION] == 0 else shape.columns
            of_one = full * l2_bytes(descriptor, operand_bytes(descriptor, x, k_tile))
            of_one += l2_bytes(descriptor, operand_bytes(descriptor, x, tail)) if tail else 0
            total += of_one * shape.ctas
        if shape.later or accumulate[shape.group]:
            total += _output_bytes(outputs, shape)
    return total


def planned_write_bytes(plan: KernelPlan) -> int:
    """Output tiles, once for each slice of a split reduction."""
    outputs = plan.outputs.tolist()
    return sum(_output_bytes(outputs, shape) for shape in plan.shapes)


def dirty_bytes(plan: KernelPlan) -> int:
    """Bytes of the output tiles themselves: what a kernel leaves dirty in an L2 that can hold it."""
    outputs = plan.outputs.tolist()
    return sum(_output_bytes(outputs, shape) for shape in plan.shapes if not shape.later)


def _output_bytes(outputs: list[list[int]], shape: CtaShape) -> int:
    return operand_bytes(outputs[shape.group], shape.rows, shape.columns) * shape.ctas
