"""The arithmetic of a trace."""

from __future__ import annotations

from nmsim.workload.trace import Trace


def gemm_flops(trace: Trace) -> int:
    """FLOPs of all GEMMs of the step, two to a multiply-accumulate, dense: the hand count."""
    return 2 * sum(gemm.macs * gemm.repeat for gemm in trace.gemms)
