"""Bytes a plan will move between L2 and the SMs, counted without running it: what conservation is checked against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nmsim.mapping.plan import GROUP, K0, K1, M0, M1, N0, N1, SLICE, KernelPlan
from nmsim.rules.box import DIMENSION, operand_bytes


def planned_read_bytes(plan: KernelPlan) -> int:
    """Operand bytes of every k-tile of every CTA, plus what epilogues read back."""
    ctas, k_tile = plan.ctas, plan.mainloop.cta_tile[2]
    span = ctas[:, K1] - ctas[:, K0]
    full, tail = span // k_tile, span % k_tile
    total = 0
    for group in range(len(plan.operands)):
        mine = ctas[:, GROUP] == group
        for descriptor in plan.operands[group]:
            length = _side(ctas[mine], int(descriptor[DIMENSION]))
            for x in np.flatnonzero(np.bincount(length)):
                chosen = length == x
                total += operand_bytes(descriptor, int(x), k_tile) * int(full[mine][chosen].sum())
                tails = np.bincount(tail[mine][chosen])
                total += sum(operand_bytes(descriptor, int(x), int(k)) * int(tails[k]) for k in np.flatnonzero(tails) if k)
    adding = (plan.accumulate[ctas[:, GROUP]] > 0) | (ctas[:, SLICE] > 0)
    return int(total + _output_bytes(plan, ctas[adding]))


def planned_write_bytes(plan: KernelPlan) -> int:
    """Output tiles, once for each slice of a split reduction."""
    return _output_bytes(plan, plan.ctas)


def dirty_bytes(plan: KernelPlan) -> int:
    """Bytes of the output tiles themselves: what a kernel leaves dirty in an L2 that can hold it."""
    return _output_bytes(plan, plan.ctas[plan.ctas[:, SLICE] == 0])


def _side(ctas: NDArray[np.int64], dimension: int) -> NDArray[np.int64]:
    lengths: NDArray[np.int64] = ctas[:, M1] - ctas[:, M0] if dimension == 0 else ctas[:, N1] - ctas[:, N0]
    return lengths


def _output_bytes(plan: KernelPlan, ctas: NDArray[np.int64]) -> int:
    m, n = _side(ctas, 0), _side(ctas, 1)
    rows, columns = int(m.max(initial=0)) + 1, int(n.max(initial=0)) + 1
    # one number a shape: far quicker to sort than rows of a table
    codes, counts = np.unique((ctas[:, GROUP] * rows + m) * columns + n, return_counts=True)
    shapes = zip((codes // (rows * columns)).tolist(), (codes // columns % rows).tolist(), (codes % columns).tolist(), strict=True)
    return sum(
        operand_bytes(plan.outputs[group], height, width) * count
        for (group, height, width), count in zip(shapes, counts.tolist(), strict=True)
    )
