"""Instruction microbenchmarks on the SM level's own units: the latency and throughput of one matrix instruction."""

from __future__ import annotations

from dataclasses import dataclass

from nmsim.arch.spec import GpuSpec, MmaSpec
from nmsim.errors import InputError
from nmsim.hw.tensor_core import tensor_cores
from nmsim.rules.fragments import instruction_of
from nmsim.rules.server import serve
from nmsim.units import element_bits, rate_of

ITERATIONS = 256
PADDING_CYCLES = 25 / 32
"""Issue time of one warp beyond that of its MMAs, per MMA. Read in the compiled benchmark of Sun et al. (sunlex0717/
DissectingTensorCores, microbench/ubench/mma, nvcc 13.0 for sm_80, loop unrolled 32 times): the stall counts of m16n8k16 at ILP 3 sum
to 96 x 8 + 75 cycles, those of m16n8k8 at ILP 4 to 128 x 4 + 100."""
LOOP_CYCLES = 13 / 32
"""The loop's branch, taken once in 32 passes: at ILP 1 the same stall counts sum to 24.28 cycles a pass, and 24.7 were measured."""


@dataclass(frozen=True)
class MmaTiming:
    """`latency_cycles`: issue to the earliest dependent issue at one warp, ILP 1. `iteration_cycles`: one pass of the loop at
    these warps and ILP. `throughput_fma_per_cycle_per_sm` counts dense-equivalent FMA.
    """

    latency_cycles: float
    iteration_cycles: float
    throughput_fma_per_cycle_per_sm: float


def microbench_mma(
    spec: GpuSpec, shape: tuple[int, int, int], dtype: str, *, pattern: str, acc: str | None = None, warps: int, ilp: int
) -> MmaTiming:
    """Run `warps` warps, each issuing `ilp` independent chains of one instruction; operands stay in registers.

    A warp issues in order, and the loop around its MMAs takes issue time of its own; with two warps or more a scheduler that
    is hidden behind the other warp's MMAs. `acc` is the accumulators' type, None for the widest.
    """
    mma = _find(spec, shape, dtype, pattern, acc)
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
    accumulator_bytes = element_bits(mma.accumulator or mma.wide_accumulator) // 8
    one = instruction_of(mma, mma.dtype, None if mma.nm is None else spec.metadata_code(mma.dtype, mma.nm), accumulator_bytes)
    read = float(one.register_bytes)
    if one.streamed_bytes:  # the port serves one such instruction, all its warps together, after another
        port = spec.shared_memory.banks * spec.shared_memory.bank_bytes
        read = max(read, one.streamed_bytes / port * spec.tensor_core.register_read_bytes_per_cycle)
    cores = tensor_cores(spec.tensor_core, mma, one.codes, read, count=spec.tensor_core.per_sm)
    chains = [[0] * ilp for _ in range(warps)]
    clocks, remainders = [0] * warps, [0] * warps
    waits = not mma.reads_shared_memory  # an instruction that is issued asynchronously leaves its warps' issue time to the loop
    padding, loop = rate_of(PADDING_CYCLES * waits), rate_of(LOOP_CYCLES * waits)
    marks = []
    for iteration in range(ITERATIONS):
        for chain in range(ilp):
            for warp in range(warps):
                core = cores[warp % len(cores)]
                _, chains[warp][chain] = core.issue(clocks[warp], 0, 0, chains[warp][chain])
                own = padding + (loop if chain + 1 == ilp else 0)
                _, clocks[warp], remainders[warp] = serve(core.taken_at, 0, remainders[warp], 1, own)
        if iteration in (ITERATIONS // 2 - 1, ITERATIONS - 1):
            marks.append(max(core.free_at for core in cores))
    return (marks[1] - marks[0]) / (ITERATIONS // 2)


def _find(spec: GpuSpec, shape: tuple[int, int, int], dtype: str, pattern: str, acc: str | None) -> MmaSpec:
    for mma in spec.tensor_core.mma:
        accumulates = mma.accumulates_wide if acc is None else (mma.accumulator or mma.wide_accumulator) == acc
        if mma.shape == shape and mma.dtype == dtype and mma.pattern == pattern and accumulates:
            return mma
    known = ", ".join(_name(m.shape, m.dtype, m.pattern, m.accumulator) for m in spec.tensor_core.mma)
    raise InputError(f"{spec.name} has no such instruction", value=_name(shape, dtype, pattern, acc), fix=f"it has {known}")


def _name(shape: tuple[int, int, int], dtype: str, pattern: str, acc: str | None) -> str:
    return "m{}n{}k{} {} {}".format(*shape, dtype, pattern) + (f" into {acc}" if acc else "")
