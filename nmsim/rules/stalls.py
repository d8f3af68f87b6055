"""The one list of reasons why an SM's tensor pipe is not doing useful work; busy + these = total, in every run."""

from __future__ import annotations

from enum import IntEnum


class Stall(IntEnum):
    """Reasons in the order of the machine, SM level first; the names are the columns of every result."""

    METADATA = 0
    """SM level: the decoder delivers codes slower than the MMA consumes them."""
    SHARED_MEMORY = 1
    """SM level: the shared-memory port (operand fragments, bank conflicts, copy writes) is the limit."""
    REGISTER_FILE = 2
    """SM level: operand reads from the register file are the limit."""
    SELECTOR = 3
    """SM level: groups are wider than the selector, so that operand B passes it in several turns."""
    MATH_LATENCY = 4
    """SM level: dependent instructions, barriers and issue slots; too few warps to hide them."""
    NOC_QUEUE = 5
    """Waiting for the SM's own port to the L2."""
    L2_QUEUE = 6
    """Waiting for an L2 partition's bandwidth."""
    L2_LATENCY = 7
    """The unloaded time of an L2 hit."""
    DRAM_QUEUE = 8
    """Waiting for a bank or behind other requests of the channel, refresh and turnaround included."""
    DRAM_ROW = 9
    """Precharge, activate and column access."""
    DRAM_BUS = 10
    """Transfer on the channel's data bus, and the controller's fixed path."""
    CTA_LAUNCH = 11
    """From a free slot to the first instruction of a CTA."""
    FILL_DRAIN = 12
    """First fragments into the pipe, last results out of it."""
    SPLIT_K_WAIT = 13
    """Waiting for the previous slice of K to release the output tile."""
    EPILOGUE = 14
    """Writing the output tile (and reading partial sums)."""
    IMBALANCE = 15
    """No CTA left for this SM while others still run: tails and unequal tiles."""


STALL_NAMES: tuple[str, ...] = tuple(reason.name.lower() for reason in Stall)
BOUNDS = ("tensor", "metadata", "shared_memory", "l2", "dram", "latency", "imbalance")
"""What a kernel can be bound by."""

BOUND_OF_STALL: dict[Stall, str] = {
    Stall.METADATA: "metadata",
    Stall.SHARED_MEMORY: "shared_memory",
    Stall.REGISTER_FILE: "shared_memory",
    Stall.SELECTOR: "metadata",
    Stall.MATH_LATENCY: "latency",
    Stall.NOC_QUEUE: "l2",
    Stall.L2_QUEUE: "l2",
    Stall.L2_LATENCY: "latency",
    Stall.DRAM_QUEUE: "dram",
    Stall.DRAM_ROW: "dram",
    Stall.DRAM_BUS: "dram",
    Stall.CTA_LAUNCH: "latency",
    Stall.FILL_DRAIN: "latency",
    Stall.SPLIT_K_WAIT: "latency",
    Stall.EPILOGUE: "latency",
    Stall.IMBALANCE: "imbalance",
}
"""Which bound a stall counts towards; cycles of the busy pipe and what is left count as `tensor`."""
