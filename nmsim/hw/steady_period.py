"""After how many k-tiles the operands' blocks lie alike: what the compiled engine needs to recognise a chip that runs like clockwork.

Modelled: nothing of the hardware, only when its mainloop repeats. Not modelled: everything else.
"""

from __future__ import annotations

from nmsim.hw.timing import ChipTiming
from nmsim.mapping.plan import KernelPlan
from nmsim.rules import box

LONGEST_PERIOD = 1 << 12
"""k-tiles; what repeats less often is not waited for."""


def steady_period(timing: ChipTiming, plan: KernelPlan) -> int:
    """The least power of two of k-tiles by which a walk along K moves every operand by whole blocks back to the same partition.

    0 where there is none of at most LONGEST_PERIOD, where an operand does not move evenly along K (pixels, gathered k), or where
    the tensors do not all fit a partition of the L2, so that the order of use matters.
    """
    held = int((plan.tensors[:, box.ROW_COUNT] * plan.tensors[:, box.PITCH]).sum())
    if held > timing.l2_capacity:
        return 0
    longest = 1
    for t in plan.operands.reshape(-1, box.FIELDS).tolist():
        period = _period(t, plan.mainloop.cta_tile[2], timing.partition_mask + 1)
        if not period:
            return 0
        longest = max(longest, period)
    return longest


def _period(t: list[int], tile_k: int, partitions: int) -> int:
    period = 1
    while period <= LONGEST_PERIOD:
        moved = _blocks_moved(t, period * tile_k)
        if moved >= 0 and moved % partitions == 0:
            return period
        period *= 2
    return 0


def _blocks_moved(t: list[int], k: int) -> int:
    """Whole blocks by which `k` elements move a box of the operand wherever it starts; -1 where it is not so."""
    if t[box.KIND] == box.ROWS:
        bits = k // t[box.KEEP_M] * t[box.KEEP_N] * t[box.BITS]
        width_bits = 8 << t[box.WIDTH_SHIFT]
        return bits // width_bits if k % t[box.KEEP_M] == 0 and bits % width_bits == 0 else -1
    if t[box.KIND] == box.COLUMNS:
        return k >> t[box.ROW_SHIFT] if k % (1 << t[box.ROW_SHIFT]) == 0 else -1
    return -1
