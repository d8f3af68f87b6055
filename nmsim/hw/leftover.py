"""What an earlier kernel left in the L2 when a kernel starts cold.

Modelled: in a sequence of kernels each finds as many dirty bytes as it will leave itself, so that over the sequence every
byte written reaches DRAM once, while another kernel runs.
Not modelled: which kernel came before; clean data of an earlier kernel that this one could use.
"""

from __future__ import annotations

from nmsim.hw.timing import ChipTiming
from nmsim.mapping.plan import KernelPlan
from nmsim.mapping.traffic import dirty_bytes


def dirty_strangers(timing: ChipTiming, plan: KernelPlan) -> int:
    """Dirty bytes that a cold L2 holds: what the kernel leaves, as far as the L2 could keep it."""
    return min(timing.l2_capacity * (timing.partition_mask + 1), dirty_bytes(plan))
