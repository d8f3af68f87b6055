"""Instruction microbenchmarks on the SM level's own units: the latency and throughput of one matrix instruction."""

from __future__ import annotations

from dataclasses import dataclass

from nmsim.arch.spec import GpuSpec, MmaSpec
from nmsim.errors import InputError
from nmsim.hw.tensor_core import tensor_cores
from nmsim.rules.fragments import instruction_of

ITERATIONS = 256


@dataclass(frozen=True)
class MmaTiming:
    """`latency_cycles`: issue to the earliest dependent issue at one warp, ILP 1. `iteration_cycles`: one pass of the loop at
    these warps and ILP. `throughput_fma_per_cycle_per_sm` counts dense-equivalent FMA.
    """

    latency_cycles: float
    iteration_cycles: float
    throughput_fma_per_cycle_per_sm: float


def microbench_mma(spec: GpuSpec, shape: tuple[int, int, int], dtype: str, *, pattern: str, warps: int, ilp: int) -> MmaTiming:
    """Run `warps` warps, each issuing `ilp` independent chains of one instruction; operands stay in registers."""
    mma = _find(spec, shape, dtype, pattern)
    if not 1 <= warps <= spec.sm.max_warps or not 1 <= ilp <= 64:
        raise InputError(f"an SM runs 1 to {spec.sm.max_warps} warps, each with 1 to 64 chains", value=(warps, ilp))
    if warps % mma.warps:
        raise InputError(
            f"{mma.warps} warps run this instruction together", path="--warps", value=warps, fix=f"use a multiple of {mma.warps}"
        )
    latency = _iteration(spec, mma, 1, 1)
    iteration = _iteration(spec, mma, warps, ilp)
    fma = shape[0] * shape[1] * shape[2] * warps * ilp / mma.warps
    return MmaTiming(latency, iteration, fma / iteration)


def _iteration(spec: GpuSpec, mma: MmaSpec, warps: int, ilp: int) -> float:
    """Steady cycles per loop iteration (each warp issues `ilp` instructions in it)."""
    one = instruction_of(mma, mma.dtype, None if mma.nm is None else spec.metadata_code(mma.dtype, mma.nm))
    read = float(one.register_bytes)
    if one.streamed_bytes:  # the port serves one such instruction, all its warps together, after another
        port = spec.shared_memory.banks * spec.shared_memory.bank_bytes
        read = max(read, one.streamed_bytes / port * spec.tensor_core.register_read_bytes_per_cycle)
    cores = tensor_cores(spec.tensor_core, mma, one.codes, read, count=spec.tensor_core.per_sm)
    chains = [[0] * ilp for _ in range(warps)]
    clocks = [0] * warps
    marks = []
    for iteration in range(ITERATIONS):
        for chain in range(ilp):
            for warp in range(warps):
                start, chains[warp][chain] = cores[warp % len(cores)].issue(clocks[warp], 0, 0, chains[warp][chain])
                clocks[warp] = start + 1
        if iteration in (ITERATIONS // 2 - 1, ITERATIONS - 1):
            marks.append(max(clocks))
    return (marks[1] - marks[0]) / (ITERATIONS // 2)


def _find(spec: GpuSpec, shape: tuple[int, int, int], dtype: str, pattern: str) -> MmaSpec:
    for mma in spec.tensor_core.mma:
        if tuple(mma.shape) == shape and mma.dtype == dtype and mma.pattern == pattern:
            return mma
    known = ", ".join(f"m{m.shape[0]}n{m.shape[1]}k{m.shape[2]} {m.dtype} {m.pattern}" for m in spec.tensor_core.mma)
    text = "m{}n{}k{} {} {}".format(*shape, dtype, pattern)
    raise InputError(f"{spec.name} has no such instruction", value=text, fix=f"it has {known}")
