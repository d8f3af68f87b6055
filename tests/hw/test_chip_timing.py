"""One or two CTAs on a machine with round numbers: the ticks of both wirings are those counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from nmsim.errors import InputError
from nmsim.hw.chip_compiled import run_compiled
from nmsim.hw.chip_events import run_events
from nmsim.hw.mainloop import MainloopTicks
from nmsim.hw.outcome import ChipOutcome
from nmsim.hw.timing import ChipTiming
from nmsim.rules.stalls import Stall
from nmsim.units import rate_of
from tests.hw.chip_cases import Kernel, Linear, kernel_plan
from tests.hw.machines import TICK_PER_BYTE, machine

LAUNCH, NEAR, PERIOD, FILL, DRAIN = 10_000_000, 1_000_000, 100_000, 10_000, 1_000
A = B = D = 16 * 16 * 2
"""Bytes of an FP16 tile of 16 x 16: of A and of B a k-tile, and of the output."""
STRIP = D // 2
"""Of the output: eight rows."""

Run = Callable[..., ChipOutcome]
both_engines = pytest.mark.parametrize("run", [run_events, run_compiled])


def launch(
    run: Run,
    timing: ChipTiming,
    m: int,
    n: int,
    k: int,
    *,
    stages: int = 2,
    split_k: int = 1,
    period: tuple[int, ...] = (PERIOD,),
    copy: str = "async",
    exchange: int = 0,
) -> ChipOutcome:
    """A dense GEMM in tiles of 16 x 16 x 16, its operands in the L2 before it starts."""
    ticks = tuple(rate_of(ticks) for ticks in period)
    kernel = Kernel((16, 16, 16), stages, split_k, 1, 1024, ticks, FILL, DRAIN, copy)
    plan = kernel_plan(Linear(0, m, k, n).problem(), kernel, 1 << timing.interleave_shift)
    return run(timing, plan, MainloopTicks(ticks, FILL, DRAIN, exchange), warm=True)


def stalls(outcome: ChipOutcome, sm: int = 0) -> dict[str, int]:
    return {reason.name: int(outcome.stalls[sm, reason]) for reason in Stall if outcome.stalls[sm, reason]}


@both_engines
def test_a_cta_of_one_k_tile_is_launch_load_fill_mma_drain_and_store(run: Run) -> None:
    timing = machine(cta_launch=LAUNCH, l2_near=NEAR, l2_far=NEAR, port_rate=TICK_PER_BYTE, write_port_rate=TICK_PER_BYTE)
    outcome = launch(run, timing, 16, 16, 16)
    assert outcome.ticks == LAUNCH + NEAR + A + B + FILL + PERIOD + DRAIN + D
    assert stalls(outcome) == {"CTA_LAUNCH": LAUNCH, "L2_LATENCY": NEAR, "NOC_QUEUE": A + B, "FILL_DRAIN": FILL + DRAIN, "EPILOGUE": D}
    assert outcome.reserved_ticks.tolist() == [[PERIOD]]


@both_engines
@pytest.mark.parametrize(("latency", "wait"), [(PERIOD - 1, 0), (PERIOD, 0), (PERIOD + 1, 1)])
def test_with_two_stages_a_k_tile_hides_a_load_as_long_as_itself_and_not_a_tick_more(run: Run, latency: int, wait: int) -> None:
    """One load is asked for as the k-tile before starts, so each of the three later k-tiles waits for what sticks out."""
    outcome = launch(run, machine(l2_near=latency, l2_far=latency), 16, 16, 64)
    assert outcome.ticks == latency + FILL + PERIOD + 3 * (PERIOD + wait) + DRAIN
    assert stalls(outcome).get("L2_LATENCY", 0) == latency + 3 * wait


@both_engines
@pytest.mark.parametrize(("stages", "copy"), [(1, "async"), (2, "sync"), (4, "sync")])
@pytest.mark.parametrize("latency", [1, PERIOD, 3 * PERIOD])
def test_every_load_of_a_synchronous_copy_or_a_single_stage_is_waited_for(run: Run, latency: int, stages: int, copy: str) -> None:
    outcome = launch(run, machine(cta_launch=LAUNCH, l2_near=latency, l2_far=latency), 16, 16, 64, stages=stages, copy=copy)
    assert outcome.longest_cta == FILL + 4 * (latency + PERIOD) + DRAIN
    assert outcome.ticks == LAUNCH + outcome.longest_cta
    assert stalls(outcome)["L2_LATENCY"] == 4 * latency


@both_engines
def test_another_cta_works_while_one_waits_for_a_synchronous_copy(run: Run) -> None:
    """Two resident CTAs on one SM, a latency below a k-tile's time: from the second k-tile on the pipe is never idle."""
    timing = machine(sms=1, l2_near=PERIOD - 1, l2_far=PERIOD - 1)
    outcome = launch(run, timing, 16, 32, 64, period=(PERIOD, PERIOD), copy="sync")
    assert outcome.ticks == PERIOD - 1 + FILL + 8 * PERIOD + DRAIN
    assert outcome.longest_cta == outcome.ticks


@both_engines
@pytest.mark.parametrize("stages", [2, 3, 4, 5])
def test_more_stages_hide_more_k_tiles_of_latency(run: Run, stages: int) -> None:
    """With stages - 1 loads in flight, `stages - 1` k-tiles pass a latency of four periods; the first ones come together."""
    latency, k_tiles = 4 * PERIOD, 8
    outcome = launch(run, machine(l2_near=latency, l2_far=latency), 16, 16, 16 * k_tiles, stages=stages)
    landed, start = [latency] * (stages - 1), []
    for k_tile in range(k_tiles):
        free = start[-1] + PERIOD if start else latency + FILL
        start.append(max(free, landed[k_tile]))
        landed.append(start[-1] + latency)
    assert outcome.ticks == start[-1] + PERIOD + DRAIN


@both_engines
def test_the_second_cta_of_an_sm_is_launched_when_the_first_has_written_its_tile(run: Run) -> None:
    timing = machine(cta_launch=LAUNCH, write_port_rate=TICK_PER_BYTE)
    outcome = launch(run, timing, 32, 16, 16)
    assert outcome.ticks == 2 * (LAUNCH + FILL + PERIOD + DRAIN + D)
    assert stalls(outcome) == {"CTA_LAUNCH": 2 * LAUNCH, "FILL_DRAIN": 2 * (FILL + DRAIN), "EPILOGUE": 2 * D}


@both_engines
def test_two_resident_ctas_share_the_pipe_at_the_rate_for_two_and_the_last_one_alone_at_the_rate_for_one(run: Run) -> None:
    """Both are ready at FILL and the older goes first; while both are in their mainloop (drain included) a k-tile takes 60, then 100."""
    outcome = launch(run, machine(), 32, 16, 32, period=(100_000, 60_000))
    assert outcome.k_tiles.tolist() == [[1, 3]]
    assert outcome.ticks == FILL + 3 * 60_000 + 100_000 + DRAIN
    alone = launch(run, machine(), 16, 16, 32, period=(100_000, 60_000))
    assert alone.k_tiles.tolist() == [[2, 0]]
    assert alone.ticks == FILL + 2 * 100_000 + DRAIN


@both_engines
def test_the_oldest_cta_has_the_pipe_whenever_it_is_ready_so_that_the_next_one_fills_behind_the_second(run: Run) -> None:
    """Taking turns, both would end together and the third's fill would be exposed."""
    outcome = launch(run, machine(), 48, 16, 32, period=(PERIOD, PERIOD))
    assert FILL + DRAIN < 2 * PERIOD
    assert outcome.ticks == FILL + 6 * PERIOD + DRAIN


@both_engines
def test_ctas_go_to_sms_round_by_round_and_the_rest_is_imbalance(run: Run) -> None:
    outcome = launch(run, machine(sms=4), 16 * 6, 16, 16)
    assert outcome.k_tiles.sum(axis=1).tolist() == [2, 2, 1, 1]
    assert outcome.ticks == 2 * (FILL + PERIOD + DRAIN)
    assert [stalls(outcome, sm).get("IMBALANCE", 0) for sm in range(4)] == [0, 0, FILL + PERIOD + DRAIN, FILL + PERIOD + DRAIN]


@both_engines
def test_a_later_slice_of_a_split_reduction_waits_for_the_one_before_and_adds_its_sums(run: Run) -> None:
    """Two slices on two SMs: the first writes the tile, then the second reads it back and writes it again, strip by strip."""
    handover = 777
    timing = machine(sms=2, write_port_rate=TICK_PER_BYTE, port_rate=TICK_PER_BYTE, handover=handover)
    outcome = launch(run, timing, 16, 16, 32, split_k=2)
    through = A + B + FILL + PERIOD + DRAIN
    assert outcome.ticks == through + D + handover + 3 * STRIP
    assert stalls(outcome, 1)["SPLIT_K_WAIT"] == D + handover
    assert stalls(outcome, 0)["IMBALANCE"] == handover + 3 * STRIP
    assert (outcome.l2_read_bytes, outcome.l2_write_bytes) == (2 * (A + B) + D, 2 * D)


@both_engines
@pytest.mark.parametrize(("late", "waited"), [(D, 778), (D + 776, 2), (D + 777, 1), (D + 778, 0), (D + 779, 0)])
def test_a_slice_that_comes_late_still_waits_until_it_can_see_that_the_one_before_has_ended(run: Run, late: int, waited: int) -> None:
    """Only the second slice adds k-tiles to the mainloop: it drains `late` ticks after the first, which ends D after it drained."""
    handover = 778
    timing = machine(sms=2, write_port_rate=TICK_PER_BYTE, handover=handover)
    kernel = Kernel((16, 16, 16), 2, 2, 1, 1024, (rate_of(late),), FILL, DRAIN, "async")
    plan = kernel_plan(Linear(0, 16, 48, 16).problem(), kernel, 1 << timing.interleave_shift)
    assert plan.k_tiles_per_cta.tolist() == [1, 2]
    outcome = run(timing, plan, MainloopTicks(kernel.period, FILL, DRAIN, 0), warm=True)
    assert stalls(outcome, 1).get("SPLIT_K_WAIT", 0) == waited
    assert outcome.ticks == FILL + 2 * late + DRAIN + waited + D


@both_engines
@pytest.mark.parametrize(("exchange", "after_the_last"), [(STRIP - 1, STRIP + 1), (STRIP, STRIP), (STRIP + 1, STRIP)])
def test_an_epilogue_writes_a_strip_while_the_next_is_exchanged_and_not_a_tick_more(run: Run, exchange: int, after_the_last: int) -> None:
    outcome = launch(run, machine(write_port_rate=TICK_PER_BYTE), 16, 16, 16, exchange=exchange)
    assert outcome.ticks == FILL + PERIOD + DRAIN + 2 * exchange + after_the_last


@both_engines
def test_a_slice_that_adds_waits_for_each_strip_to_come_from_the_l2_before_it_exchanges_it(run: Run) -> None:
    timing = machine(sms=2, l2_near=NEAR, l2_far=NEAR)
    outcome = launch(run, timing, 16, 16, 32, split_k=2, exchange=500)
    assert outcome.ticks == NEAR + FILL + PERIOD + DRAIN + 2 * 500 + 2 * (NEAR + 500)


@both_engines
def test_ideal_memory_leaves_launch_fill_mma_and_drain(run: Run) -> None:
    timing = machine(cta_launch=LAUNCH, l2_near=NEAR, l2_far=NEAR, port_rate=TICK_PER_BYTE, ideal_memory=1)
    outcome = launch(run, timing, 16, 16, 48)
    assert outcome.ticks == LAUNCH + FILL + 3 * PERIOD + DRAIN
    assert (outcome.l2_read_bytes, outcome.block_lookups, outcome.dram_read_bytes) == (0, 0, 0)


def test_a_run_longer_than_the_compiled_engine_can_count_is_refused_rather_than_wrapped() -> None:
    long = machine(cta_launch=1 << 45)
    assert launch(run_compiled, long, 16, 16, 16).ticks > 1 << 45
    with pytest.raises(InputError, match="simpy engine"):
        launch(run_compiled, machine(cta_launch=1 << 46), 16, 16, 16)
    assert launch(run_events, machine(cta_launch=1 << 46), 16, 16, 16).ticks > 1 << 46


def test_replacement_is_by_least_use_when_blocks_are_used_again_and_again_before_one_has_to_go() -> None:
    """Operands that almost fit: every block is looked up many times between two evictions, in an order that changes."""
    for capacity, copies in product(range(1_500, 20_000, 1_500), (0, 1)):
        numbers = {"l2_capacity": capacity, "l2_copies": copies, "partition_mask": 1}
        timing = machine(sms=3, bus_rate=TICK_PER_BYTE, l2_rate=TICK_PER_BYTE, **numbers)
        events, compiled = (launch(run, timing, 96, 80, 128, stages=3) for run in (run_events, run_compiled))
        assert events.equals(compiled)
        assert events.block_misses > 0
