"""A run checks its own physics: what is conserved, bounded and accounted for, and what happens where it is not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.arch.spec import GpuSpec
from nmsim.errors import InputError, PhysicsError
from nmsim.hw.mainloop import MainloopTiming
from nmsim.hw.outcome import ChipOutcome
from nmsim.hw.timing import ChipTiming, chip_timing
from nmsim.mapping.candidates import build_plan, rank
from nmsim.mapping.lower import lower_dense, lower_nm
from nmsim.mapping.plan import KernelPlan
from nmsim.mapping.stream import plan_stream
from nmsim.mapping.traffic import planned_read_bytes, planned_write_bytes
from nmsim.run.kernel import run_engine, run_kernel
from nmsim.run.mainloops import mainloop_timing
from nmsim.run.physics import check_outcome
from nmsim.run.single import what_if_gemm
from nmsim.sparsity.pattern import NMPattern

TWO_FOUR = NMPattern(2, 4)


def plan_of(spec: GpuSpec, m: int, n: int, k: int, pattern: NMPattern | None = None, place: int = 0) -> KernelPlan:
    gemm = what_if_gemm(m, n, k, 1, "fp16", "fp16")
    ranked = rank(spec, lower_dense(gemm) if pattern is None else lower_nm(gemm, "b", pattern), keep=1000)
    return build_plan(spec, ranked[place % len(ranked)])


@settings(max_examples=25, deadline=None)
@given(
    m=st.integers(1, 900),
    n=st.integers(1, 900),
    k=st.integers(1, 900),
    pattern=st.sampled_from([None, TWO_FOUR]),
    place=st.integers(0, 60),
    clock_mhz=st.sampled_from([210, 795, 1410]),
    warm=st.booleans(),
)
def test_any_kernel_accounts_for_its_cycles_and_moves_its_bytes(
    m: int, n: int, k: int, pattern: NMPattern | None, place: int, clock_mhz: int, warm: bool, spec: GpuSpec
) -> None:
    plan = plan_of(spec, m, n, k, pattern, place)
    run = run_kernel(spec, plan, clock_mhz, warm=warm)
    assert run.busy_cycles + sum(run.stall_cycles.values()) == pytest.approx(run.cycles)
    assert run.busy_cycles > 0
    assert min(run.stall_cycles.values()) >= 0
    counters = run.counters
    assert counters.executed_macs == plan.k_tiles * plan.executed_macs_per_k_tile >= m * n * k // (2 if pattern else 1)
    assert (counters.l2_read_bytes, counters.l2_write_bytes) == (planned_read_bytes(plan), planned_write_bytes(plan))
    assert run.time_us == pytest.approx(run.cycles / clock_mhz)
    ideal = run_kernel(spec, plan, clock_mhz, ideal_memory=True)
    assert ideal.cycles <= run.cycles


@settings(max_examples=15, deadline=None)
@given(read=st.integers(0, 3_000_000), written=st.integers(0, 3_000_000), flops=st.integers(0, 10**8))
def test_a_pass_accounts_for_its_cycles_and_is_no_faster_than_dram(read: int, written: int, flops: int, spec: GpuSpec) -> None:
    plan = plan_stream("pass", read, written, flops, spec.l2.block_bytes, spec.dram.interleave_bytes)
    run = run_kernel(spec, plan, spec.clock.boost_mhz)
    assert run.busy_cycles + sum(run.stall_cycles.values()) == pytest.approx(run.cycles)
    assert run.time_us >= run.counters.dram_read_bytes / spec.dram.bandwidth_gb_per_s / 1000
    assert run.time_us >= flops / (2 * spec.sm.fp32_fma_per_cycle * spec.sm.count * spec.clock.boost_mhz)


def test_cold_operands_are_each_fetched_once_where_they_fit_the_l2(spec: GpuSpec) -> None:
    run = run_kernel(spec, plan_of(spec, 1024, 1024, 1024), spec.clock.boost_mhz)
    assert run.counters.dram_read_bytes == 2 * 2 * 1024 * 1024
    assert run.counters.l2_read_bytes > 4 * run.counters.dram_read_bytes


def test_an_unknown_engine_is_refused(spec: GpuSpec) -> None:
    with pytest.raises(InputError, match="no such engine, got 'verilog'"):
        run_kernel(spec, plan_of(spec, 64, 64, 64), 1410, engine="verilog")


Outcome = tuple[ChipTiming, KernelPlan, MainloopTiming, ChipOutcome]


@pytest.fixture(scope="module")
def honest(spec: GpuSpec) -> Outcome:
    plan = plan_of(spec, 300, 300, 300)
    timing, mainloop = chip_timing(spec, 1410), mainloop_timing(spec, plan.mainloop, plan.occupancy)
    return timing, plan, mainloop, run_engine(timing, plan, mainloop, "compiled")


def bumped(table: np.ndarray, by: int) -> np.ndarray:
    changed = table.copy()
    changed.flat[0] += by
    return changed


LIES: dict[str, tuple[Callable[[ChipOutcome], ChipOutcome], str]] = {
    "a tick too many": (lambda o: replace(o, ticks=o.ticks + 1), "accounts for"),
    "a stall moved away": (lambda o: replace(o, stalls=bumped(o.stalls, -1)), "accounts for"),
    "ticks without a cause": (lambda o: replace(o, unexplained=7), "7 ticks of waiting have no cause"),
    "a k-tile too few": (lambda o: replace(o, k_tiles=bumped(o.k_tiles, -1)), "k-tiles"),
    "a byte read twice": (lambda o: replace(o, l2_read_bytes=o.l2_read_bytes + 1), "read .* bytes of L2, planned"),
    "a byte not written": (lambda o: replace(o, l2_write_bytes=o.l2_write_bytes - 1), "wrote .* bytes of L2, planned"),
    "a block fetched twice": (lambda o: replace(o, dram_read_bytes=2 * o.dram_read_bytes), "DRAM read .* bytes where the L2 asked for"),
    "a write that never reached DRAM": (lambda o: replace(o, dram_write_bytes=0), "DRAM wrote 0 bytes where the L2 asked for"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_broken_law_is_named_with_its_kernel(lie: str, honest: Outcome) -> None:
    timing, plan, mainloop, outcome = honest
    check_outcome(timing, plan, mainloop, outcome)
    tamper, words = LIES[lie]
    with pytest.raises(PhysicsError, match=f"{plan.name}: .*{words}"):
        check_outcome(timing, plan, mainloop, tamper(outcome))


def test_a_run_faster_than_a_roofline_is_refused(honest: Outcome) -> None:
    timing, plan, mainloop, outcome = honest
    slow = replace(mainloop, busy_cycles=(mainloop.busy_cycles[0] * 1000, mainloop.busy_cycles[1]))
    with pytest.raises(PhysicsError, match="is faster than the tensor bound"):
        check_outcome(timing, plan, slow, outcome)
    for field, unit in (("port_rate", "SM ports"), ("l2_rate", "L2"), ("bus_rate", "DRAM")):
        with pytest.raises(PhysicsError, match=f"is faster than the {unit} bound"):
            check_outcome(replace(timing, **{field: 1 << 40}), plan, mainloop, outcome)
