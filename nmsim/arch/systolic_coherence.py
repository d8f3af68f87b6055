"""What the values of a systolic machine must say together, and what about them looks doubtful."""

from __future__ import annotations

from collections.abc import Iterator

from nmsim.arch.coherence import Contradiction
from nmsim.arch.document import KeyPath
from nmsim.arch.systolic import SystolicSpec
from nmsim.units import BITS_PER_ELEMENT


def systolic_contradictions(spec: SystolicSpec) -> Iterator[Contradiction]:
    """Everything in `spec` that no machine can be."""
    if not spec.energy.mac_pj:
        yield Contradiction(("energy", "mac_pj"), "names no element type, so the array could run none", None, "add for example {fp16: 1.0}")
    for dtype in spec.energy.mac_pj:
        if dtype not in BITS_PER_ELEMENT:
            yield Contradiction(("energy", "mac_pj", dtype), "is not an element type", dtype, f"known: {', '.join(BITS_PER_ELEMENT)}")
    nm = spec.array.nm
    if nm.enabled and nm.patterns == ():
        problem = "is empty while nm.enabled is true"
        yield Contradiction(("array", "nm", "patterns"), problem, None, "write any, list patterns, or set enabled: false")


def systolic_remarks(spec: SystolicSpec) -> Iterator[tuple[KeyPath, str]]:
    """(path, what is doubtful about it) for everything in `spec` that looks unlike a machine one would build."""
    rows, columns = spec.array.rows, spec.array.columns
    narrowest = min(BITS_PER_ELEMENT[dtype] for dtype in spec.energy.mac_pj)
    tile_bytes = rows * columns * narrowest // 8
    stationary = {"ws": "filter_bytes", "is": "input_bytes"}.get(spec.array.dataflow)
    if stationary is not None and getattr(spec.buffers, stationary) < 2 * tile_bytes:
        problem = f"cannot hold two stationary tiles of {rows} x {columns} elements ({2 * tile_bytes} bytes), so that no GEMM runs"
        yield ("buffers", stationary), problem
    balance = spec.dram.bandwidth_gb_per_s * 1000 / spec.clock_mhz
    if balance * 8 < narrowest:
        yield ("dram", "bandwidth_gb_per_s"), f"is {balance:.2f} bytes a cycle, less than one element"
