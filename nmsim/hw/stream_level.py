"""The SM level of a memory-bound pass: no simulation, because nothing in it waits for anything but data.

Modelled: the CUDA cores' time for the flops of a k-tile, and the load path of the SM.
Not modelled: the mix of instructions, special functions, shared-memory reductions.
"""

from __future__ import annotations

from nmsim.arch.spec import GpuSpec
from nmsim.hw.mainloop import MainloopTiming
from nmsim.mapping.plan import MainloopKey


def stream_timing(spec: GpuSpec, key: MainloopKey, occupancy: int) -> MainloopTiming:
    """A memory-bound pass: the CUDA cores' time for its flops, one cycle a warp-wide access at least; no simulation needed."""
    load_cycles = -(-key.copy_bytes // (spec.shared_memory.banks * spec.shared_memory.bank_bytes))
    cycles = max(load_cycles, -(-key.stream_flops // (2 * spec.sm.fp32_fma_per_cycle)))
    return MainloopTiming(
        period=((cycles, 1),) * occupancy,
        busy_cycles=(cycles, 1),
        fill_cycles=spec.shared_memory.latency_cycles,
        drain_cycles=0,
        exchange_cycles=0,
        shared_memory_bytes=0,
        stall_share=({},) * occupancy,
    )
