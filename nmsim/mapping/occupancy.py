"""How many CTAs of a kernel an SM holds, and what limits it."""

from __future__ import annotations

from nmsim.arch.spec import SmSpec
from nmsim.mapping.plan import MainloopKey
from nmsim.rules.fragments import Fragments

WARP_LANES = 32
MAX_REGISTERS_PER_THREAD = 255


def registers_per_thread(key: MainloopKey, base: int) -> int:
    """Registers of one thread: its share of the FP32 accumulators and `base` for everything else, capped at the ISA's 255.

    What does not fit is assumed to be rematerialised; no spill traffic is modelled.
    """
    accumulators = key.warp_tile[0] * key.warp_tile[1] // WARP_LANES
    return min(MAX_REGISTERS_PER_THREAD, accumulators + base)


def occupancy(sm: SmSpec, key: MainloopKey, fragments: Fragments, base_registers: int, all_registers: int | None = None) -> tuple[int, str]:
    """(CTAs resident on one SM, limiter); 0 where one does not fit (then the limiter says why not).

    A thread takes `all_registers` where a kernel says so, else its accumulators and `base_registers`.
    """
    shared = key.stages * key.stage_bytes
    threads = fragments.warps * WARP_LANES
    registers = threads * (all_registers or registers_per_thread(key, base_registers))
    bounds = {
        "shared_memory": sm.shared_memory_bytes // (shared + sm.shared_memory_reserved_per_cta_bytes),
        "registers": sm.registers // registers,
        "warps": sm.max_warps // fragments.warps,
        "ctas": sm.max_ctas,
    }
    if shared > sm.shared_memory_per_cta_bytes:
        bounds["shared_memory"] = 0
    limiter = min(bounds, key=lambda name: bounds[name])
    return bounds[limiter], limiter
