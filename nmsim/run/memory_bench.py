"""Memory microbenchmarks on the units that serve GEMMs: a dependent pointer chase, and a stream of loads by all SMs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from nmsim.arch.spec import GpuSpec
from nmsim.errors import InputError
from nmsim.hw.dram import Dram
from nmsim.hw.l1 import L1
from nmsim.hw.l2 import L2
from nmsim.hw.mainloop import MainloopTicks
from nmsim.hw.sm import Sm
from nmsim.hw.timing import chip_timing
from nmsim.mapping.layout import Layout, require_memory
from nmsim.mapping.plan import KernelPlan
from nmsim.mapping.problem import Tensor, View
from nmsim.mapping.stream import CTA_BYTES, plan_stream
from nmsim.rules import box
from nmsim.run.kernel import run_engine
from nmsim.run.mainloops import mainloop_timing
from nmsim.units import TICKS_PER_CYCLE, cycles_to_ticks, cycles_to_us

FINE_STEPS = 32768
"""Up to this many lines each is visited; beyond, one in each DRAM interleave, the least that the model fetches."""
MEASURED_STEPS = 8192
STREAM_BYTES = 96 << 20
"""Least bytes that a stream moves, so that its ramps hide nothing; measured is the second half."""


@dataclass(frozen=True)
class ChaseTiming:
    """Mean time of a dependent load over a working set, and the share of loads that each level served."""

    latency_cycles: float
    l1_hits: float
    dram_reads: float


@dataclass(frozen=True)
class StreamTiming:
    """What all SMs together read per second and per core cycle, and how much of it came from DRAM."""

    bandwidth_gb_per_s: float
    bytes_per_cycle: float
    dram_share: float


def microbench_chase(spec: GpuSpec, working_set_bytes: int) -> ChaseTiming:
    """One thread of one SM follows pointers in random order over a buffer, again and again; the mean of a later round.

    InputError where the machine has no `l1` block, or the buffer is no place to walk.
    """
    if spec.l1 is None:
        raise InputError(f"{spec.name} has no L1 to chase pointers through", path="l1", fix="add the block l1 to the machine's file")
    line = spec.l1.line_bytes
    _check_working_set(spec, working_set_bytes, line)
    step = line if working_set_bytes <= FINE_STEPS * line else max(line, spec.dram.interleave_bytes)
    rows = working_set_bytes // step
    layout = Layout((Tensor("buffer", rows, step),), step, spec.dram.interleave_bytes)
    view = layout.view(View("buffer", box.ROWS, 0, 8)).tolist()
    timing = chip_timing(spec, spec.clock.boost_mhz)
    dram = Dram(timing)
    sm = Sm(0, timing, L2(timing, dram, layout.tensors.tolist()), MainloopTicks(period=(1,), fill=0, drain=0, exchange=0))
    l1, hit_ticks = L1(spec.l1.capacity_bytes // line), cycles_to_ticks(spec.l1.latency_cycles)

    def walk(now: int, order: Iterable[int]) -> tuple[int, int]:
        hits = 0
        for row in order:
            if l1.touch(row):
                now, hits = now + hit_ticks, hits + 1
            else:
                now, _ = sm.load(now, view, (row, row + 1, 0, line), line)
        return now, hits

    order = np.random.default_rng(0).permutation(rows).tolist()
    kept = 5 * spec.l2.capacity_bytes // (4 * step)  # what was visited before that no level remembers
    start, _ = walk(0, order[-kept:])
    measured = (order * -(-min(MEASURED_STEPS, 64 * rows) // rows))[:MEASURED_STEPS]
    read = dram.read_bytes
    end, hits = walk(start, measured)
    count = len(measured)
    return ChaseTiming((end - start) / count / TICKS_PER_CYCLE, hits / count, (dram.read_bytes - read) / step / count)


def microbench_stream(spec: GpuSpec, working_set_bytes: int, *, engine: str = "compiled") -> StreamTiming:
    """All SMs read a buffer again and again, past the L1; the rate between the first half of the rounds and the last."""
    _check_working_set(spec, working_set_bytes, CTA_BYTES)
    once = plan_stream("stream", working_set_bytes, 0, 0, spec.l2.block_bytes, spec.dram.interleave_bytes)
    rounds = max(2, -(-STREAM_BYTES // working_set_bytes))
    clock_mhz = spec.clock.boost_mhz
    timing, mainloop = chip_timing(spec, clock_mhz), mainloop_timing(spec, once.mainloop, once.occupancy)
    half, whole = (run_engine(timing, _repeated(once, count), mainloop, engine) for count in (rounds, 2 * rounds))
    cycles = (whole.ticks - half.ticks) / TICKS_PER_CYCLE
    nbytes = rounds * working_set_bytes
    seconds = cycles_to_us(cycles, clock_mhz) / 1e6
    return StreamTiming(nbytes / seconds / 1e9, nbytes / cycles, (whole.dram_read_bytes - half.dram_read_bytes) / nbytes)


def _repeated(plan: KernelPlan, rounds: int) -> KernelPlan:
    """The same CTAs, `rounds` times over."""
    return replace(plan, ctas=np.tile(plan.ctas, (rounds, 1)))


def _check_working_set(spec: GpuSpec, working_set_bytes: int, least: int) -> None:
    if working_set_bytes < least:
        raise InputError(f"a working set is at least {least} bytes", value=working_set_bytes)
    require_memory(spec.dram, "working set", working_set_bytes)
