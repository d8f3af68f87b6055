"""Leaping over steady states changes no tick, no counter and no stall, and it does happen where it can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.hw.chip_compiled import CompiledChip
from nmsim.hw.chip_events import run_events
from nmsim.hw.mainloop import MainloopTicks
from nmsim.hw.steady_period import steady_period
from nmsim.hw.timing import ChipTiming
from nmsim.mapping.plan import KernelPlan
from nmsim.units import rate_of
from tests.hw.chip_cases import LARGE, MEDIUM, PRODUCTS, Case, Kernel, Linear, cases, kernel_plan, timings
from tests.hw.machines import TICK_PER_BYTE, machine
from tests.hw.test_engines_agree import RELAXED, assert_equal

Draw = Callable[[st.SearchStrategy[Any]], Any]
RELAX = settings(deadline=None, database=None, print_blob=True, suppress_health_check=RELAXED)


def leapt(timing: ChipTiming, plan: KernelPlan, mainloop: MainloopTicks, *, warm: bool) -> int:
    """k-tiles leapt over, after checking that nothing else differs from the engine that never leaps and from leaping switched off."""
    outcomes, chips = [], [CompiledChip(timing, plan, mainloop, skip=skip) for skip in (True, False)]
    for chip in chips:
        for _ in range(1 + warm):
            outcome = chip.run()
        outcomes.append(outcome)
    assert_equal(*outcomes)
    assert_equal(run_events(timing, plan, mainloop, warm=warm), outcomes[0])
    assert chips[1].skipped_k_tiles == 0
    return chips[0].skipped_k_tiles


@st.composite
def clockwork(draw: Draw, most_k_tiles: int) -> Case:
    """Launches with a long K whose operands stay in the L2, on machines whose servers' remainders come round again."""
    timing: ChipTiming = draw(timings(MEDIUM))
    rates = st.integers(0, 24).map(lambda quarters: rate_of(quarters / 4))
    timing = replace(
        timing,
        sms=draw(st.integers(1, 3)),
        ideal_memory=0,
        l2_capacity=1 << 30,
        l2_rate=draw(rates),
        port_rate=draw(rates),
        cta_launch=draw(st.integers(0, 5_000)),
        controller=draw(st.integers(0, 5_000)),
    )
    tile = draw(st.sampled_from([(16, 16, 16), (16, 32, 16), (32, 16, 32)]))
    period = st.integers(0, 16_000).map(rate_of)
    stages, rates_by_level = draw(st.integers(2, 8)), tuple(draw(st.lists(period, min_size=1, max_size=3)))
    split_k, width, block_bytes = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.sampled_from([1024, 2048]))
    kernel = Kernel(tile, stages, split_k, width, block_bytes, rates_by_level, 700, 300)
    m, n = (draw(st.integers(1, 2)) * side for side in tile[:2])
    k_tiles = draw(st.integers(60, most_k_tiles // (m // tile[0] * n // tile[1])))
    phase, k = draw(st.integers(0, 2)), k_tiles * tile[2] - draw(st.sampled_from([0, 0, 3]))
    tokens, inputs, outputs = ((m, k, n), (m, n, k), (k, n, m))[phase]
    sparse = draw(st.sampled_from(["", "", "a", "b"]))
    return Case(timing, kernel, Linear(phase, tokens, inputs, outputs, "fp16", sparse, "2:4"), draw(st.sampled_from([True, True, False])))


def share_leapt(examples: int, most_k_tiles: int) -> float:
    """Share of random clockwork launches in which the engine leapt, each checked."""
    found: list[int] = []

    @settings(RELAX, max_examples=examples)
    @given(case=clockwork(most_k_tiles))
    def check(case: Case) -> None:
        found.append(leapt(case.timing, case.plan, case.mainloop, warm=case.warm))

    check()
    return sum(skipped > 0 for skipped in found) / len(found)


def test_leaps_of_the_whole_chip_change_nothing_and_are_common_where_the_l2_holds_all_operands() -> None:
    assert share_leapt(50, 600) > 0.04


@pytest.mark.slow
def test_leaps_of_the_whole_chip_change_nothing_in_thousands_of_launches() -> None:
    assert share_leapt(4_000, 2_000) > 0.15


@pytest.mark.parametrize("kind", PRODUCTS)
@settings(RELAX, max_examples=25)
@given(data=st.data())
def test_sms_that_run_alone_where_memory_answers_at_once_change_nothing(kind: str, data: st.DataObject) -> None:
    case = data.draw(cases(MEDIUM, kind))
    leapt(replace(case.timing, ideal_memory=1), case.plan, case.mainloop, warm=case.warm)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PRODUCTS)
@settings(RELAX, max_examples=1_500)
@given(data=st.data())
def test_sms_that_run_alone_change_nothing_in_thousands_of_launches(kind: str, data: st.DataObject) -> None:
    case = data.draw(cases(LARGE, kind))
    leapt(replace(case.timing, ideal_memory=1), case.plan, case.mainloop, warm=case.warm)


def long_k(k: int, **numbers: int) -> tuple[ChipTiming, KernelPlan, MainloopTicks]:
    """Six CTAs on two SMs, two resident, each with k / 16 k-tiles."""
    period = (rate_of(9_000), rate_of(8_000))
    kernel = Kernel((16, 16, 16), 4, 1, 1, 1024, period, 500, 200)
    timing = machine(sms=2, partition_mask=1, l2_near=4_000, l2_far=6_000, l2_rate=TICK_PER_BYTE, port_rate=TICK_PER_BYTE, **numbers)
    return timing, kernel_plan(Linear(0, 48, k, 32).problem(), kernel, 256), MainloopTicks(period, 500, 200, 0)


@pytest.mark.parametrize(
    ("numbers", "warm"), [({"ideal_memory": 1}, False), ({}, True)], ids=["memory that answers at once", "all in the L2"]
)
def test_what_is_left_to_run_does_not_grow_with_k(numbers: dict[str, int], warm: bool) -> None:
    run = []
    for k in (4_096, 16_384):
        timing, plan, mainloop = long_k(k, **numbers)
        run.append(plan.k_tiles - leapt(timing, plan, mainloop, warm=warm))
    assert run[0] == run[1] < 1_000


def test_nothing_is_leapt_over_while_operands_come_from_dram_or_could_be_pushed_out() -> None:
    timing, plan, mainloop = long_k(4_096, bus_rate=TICK_PER_BYTE, channels=3)
    assert steady_period(timing, plan) > 0
    small = replace(timing, l2_capacity=int((plan.tensors[:, 3] * plan.tensors[:, 4]).sum()) - 1)
    assert steady_period(small, plan) == 0
    assert leapt(small, plan, mainloop, warm=True) == 0
    assert leapt(timing, replace(plan, ctas=plan.ctas[:4]), mainloop, warm=False) == 0
