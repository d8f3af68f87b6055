"""k-tile events a second of both engines, by how often the L2 answers."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.measure import cpu_seconds
from nmsim.arch.spec import GpuSpec
from nmsim.hw.chip_compiled import run_compiled
from nmsim.hw.outcome import ChipOutcome
from nmsim.hw.timing import ChipTiming, chip_timing
from nmsim.mapping.candidates import build_plan, rank
from nmsim.mapping.lower import lower_dense
from nmsim.mapping.plan import KernelPlan
from nmsim.run.kernel import run_engine
from nmsim.run.mainloops import mainloop_timing
from nmsim.run.single import what_if_gemm

EVENTS_PER_S_MOSTLY_HITS, EVENTS_PER_S_ALL_MISSES = 10e6, 2e6
COMPILED_OVER_SIMPY = 25


TILE = (128, 128, 32)


def plan_of(spec: GpuSpec, m: int, n: int, k: int, batch: int = 1) -> KernelPlan:
    """A dense GEMM in CTA tiles of TILE, K not split, so that a k-tile is the same work in every benchmark."""
    ranked = rank(spec, lower_dense(what_if_gemm(m, n, k, batch, "fp16", "fp16")), keep=1000)
    return build_plan(spec, next(one for one in ranked if one.key.cta_tile == TILE and one.split_k == 1))


def reuse(spec: GpuSpec) -> KernelPlan:
    """A square: operands are read again and again."""
    return plan_of(spec, 4096, 4096, 4096)


def stream(spec: GpuSpec) -> KernelPlan:
    """A one-tile GEMM for each SM: every operand byte comes from DRAM, once."""
    return plan_of(spec, TILE[0], TILE[1], 16384, batch=spec.sm.count)


def with_l2(spec: GpuSpec, capacity_bytes: int) -> ChipTiming:
    """The machine at boost clock with another L2 capacity."""
    return chip_timing(spec.model_copy(update={"l2": spec.l2.model_copy(update={"capacity_bytes": capacity_bytes})}), spec.clock.boost_mhz)


def events_per_second(spec: GpuSpec, timing: ChipTiming, plan: KernelPlan) -> tuple[float, ChipOutcome]:
    """(k-tile events a second of the compiled engine, what the run did)."""
    ticks = mainloop_timing(spec, plan.mainloop, plan.occupancy).ticks()
    outcome = run_compiled(timing, plan, ticks)
    return plan.k_tiles / cpu_seconds(lambda: run_compiled(timing, plan, ticks), rounds=9), outcome


def _compiled_rate(benchmark: Any, spec: GpuSpec, timing: ChipTiming, plan: KernelPlan) -> tuple[float, float, float]:
    """(events a second, hit rate of look-ups, DRAM bytes read over operand bytes read), recorded too."""
    rate, outcome = events_per_second(spec, timing, plan)
    ticks = mainloop_timing(spec, plan.mainloop, plan.occupancy).ticks()
    benchmark.pedantic(lambda: run_compiled(timing, plan, ticks), rounds=5)
    hits = 1 - outcome.block_misses / outcome.block_lookups
    from_dram = outcome.dram_read_bytes / outcome.l2_read_bytes
    benchmark.extra_info |= {"k_tile_events_per_s": rate, "l2_hit_rate": hits, "read_from_dram": from_dram, "k_tiles": plan.k_tiles}
    return rate, hits, from_dram


def test_ten_million_k_tiles_a_second_where_the_l2_holds_the_operands(benchmark: Any, ampere: GpuSpec) -> None:
    rate, hits, _ = _compiled_rate(benchmark, ampere, with_l2(ampere, 1 << 30), reuse(ampere))
    assert hits >= 0.95
    assert rate >= EVENTS_PER_S_MOSTLY_HITS


def test_two_million_k_tiles_a_second_where_every_operand_byte_misses(benchmark: Any, ampere: GpuSpec) -> None:
    rate, _, from_dram = _compiled_rate(benchmark, ampere, chip_timing(ampere, ampere.clock.boost_mhz), stream(ampere))
    assert from_dram >= 1
    assert rate >= EVENTS_PER_S_ALL_MISSES


def test_the_compiled_engine_is_many_times_as_fast_as_the_simpy_one(benchmark: Any, ampere: GpuSpec) -> None:
    plan, timing = reuse(ampere), chip_timing(ampere, ampere.clock.boost_mhz)
    mainloop = mainloop_timing(ampere, plan.mainloop, plan.occupancy)
    ratios = []
    for _ in range(2):  # in turn, so that a slow moment of the machine meets both
        begin = time.process_time()
        readable = run_engine(timing, plan, mainloop, "simpy")
        simpy_s = time.process_time() - begin
        compiled_s = cpu_seconds(lambda: run_engine(timing, plan, mainloop, "compiled"))
        ratios.append(simpy_s / compiled_s)
    fast = benchmark.pedantic(lambda: run_engine(timing, plan, mainloop, "compiled"), rounds=5)
    assert fast.ticks == readable.ticks
    benchmark.extra_info |= {
        "compiled_over_simpy": max(ratios),
        "simpy_k_tile_events_per_s": plan.k_tiles / simpy_s,
        "compiled_k_tile_events_per_s": plan.k_tiles / compiled_s,
    }
    assert max(ratios) >= COMPILED_OVER_SIMPY
