"""One SM at chip level: its ports, its pipe, and the account of its idle ticks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.hw.dram import Dram
from nmsim.hw.l2 import L2
from nmsim.hw.mainloop import MainloopTicks
from nmsim.hw.noc import Port
from nmsim.hw.sm import Sm
from nmsim.hw.timing import ChipTiming
from nmsim.rules.stalls import Stall
from nmsim.units import rate_of
from tests.hw.machines import TICK_PER_BYTE, machine, stored

VIEW, TENSORS = stored(rows=64, pitch=256)
WHOLE = (0, 16, 0, 256)
"""Four blocks of 1024 bytes."""
MAINLOOP = MainloopTicks(period=(rate_of(100), rate_of(70.5)), fill=7, drain=9, exchange=3)


def unit(timing: ChipTiming) -> Sm:
    sm = Sm(0, timing, L2(timing, Dram(timing), TENSORS.tolist()), MAINLOOP)
    sm.load(0, VIEW, WHOLE, 4096)  # the blocks are resident from here on
    return sm


def test_a_port_passes_bytes_at_its_rate_and_carries_what_is_left_of_a_tick() -> None:
    port = Port(rate_of(2.5))
    assert [port.book(0, 1) for _ in range(4)] == [2, 5, 7, 10]
    assert port.book(100, 10) == 125
    assert port.bytes == 14


@pytest.mark.parametrize(("port_ticks", "landed"), [(1, 200 + 4096), (2, 200 + 8192)])
def test_a_load_has_landed_when_the_slower_of_its_blocks_and_its_port_is_through(port_ticks: int, landed: int) -> None:
    timing = machine(l2_near=200, l2_far=200, l2_rate=TICK_PER_BYTE, port_rate=rate_of(port_ticks))
    late = 1_000_000
    data, parts = unit(timing).load(late, VIEW, WHOLE, 4096)
    assert data == late + landed
    assert parts[0] == (port_ticks - 1) * 4096  # noc_queue: what the port adds
    assert parts[1] == 3 * 1024  # l2_queue: behind the three blocks before the last
    assert sum(parts) == landed


def test_loads_of_one_sm_share_its_port() -> None:
    sm = unit(machine(l2_near=200, l2_far=200, port_rate=TICK_PER_BYTE))
    late = 1_000_000
    assert sm.load(late, VIEW, WHOLE, 100)[0] == late + 300
    assert sm.load(late, VIEW, WHOLE, 100)[0] == late + 400
    assert sm.load(late + 200, VIEW, WHOLE, 1)[0] == late + 401
    assert sm.read_port.bytes == 4096 + 201


def test_a_store_has_left_when_its_port_and_every_partition_have_taken_it() -> None:
    late = 1_000_000
    assert unit(machine(write_port_rate=TICK_PER_BYTE)).store(late, VIEW, WHOLE, 100) == late + 100
    assert unit(machine(l2_rate=TICK_PER_BYTE)).store(late, VIEW, WHOLE, 100) == late + 100
    assert unit(machine(l2_near=200, l2_far=200, controller=500)).store(late, VIEW, WHOLE, 100) == late  # posted


def test_the_blocks_of_a_box_share_its_bytes_evenly_and_lose_none() -> None:
    timing = machine(partition_mask=3, l2_rate=TICK_PER_BYTE)
    sm = unit(timing)
    late = 1_000_000
    assert sm.load(late, VIEW, WHOLE, 101)[0] == late + 26  # 26 + 25 + 25 + 25, a partition each
    assert sm.load(late + 1000, VIEW, WHOLE, 4)[0] == late + 1001


def test_ideal_memory_lands_and_takes_everything_at_once() -> None:
    sm = Sm(0, (timing := machine(l2_near=200, ideal_memory=1)), L2(timing, Dram(timing), TENSORS.tolist()), MAINLOOP)
    assert sm.load(3, VIEW, WHOLE, 4096) == (3, [0] * 6)
    assert sm.store(3, VIEW, WHOLE, 4096) == 3


def test_the_pipe_is_reserved_in_turn_at_the_rate_for_the_ctas_now_in_their_mainloop() -> None:
    sm = unit(machine())
    sm.in_mainloop = 1
    assert sm.reserve_pipe(10) == (10, 110)
    sm.in_mainloop = 2
    assert [sm.reserve_pipe(20), sm.reserve_pipe(20)] == [(110, 180), (180, 251)]  # 70.5 twice is 141
    sm.in_mainloop = 1
    assert sm.reserve_pipe(251) == (251, 351)
    assert (sm.reserved_ticks, sm.k_tiles) == ([200, 141], [2, 2])


def test_the_gap_before_a_first_k_tile_is_epilogue_launch_fill_and_what_it_waited_for() -> None:
    timing = machine(cta_launch=50)
    sm = unit(timing)
    sm.pipe_free, sm.last_split_wait = 1000, 30
    sm.charge_first_gap(start=1400, began=1200, parts=[0, 0, 100, 0, 500, 0])
    expected = {"CTA_LAUNCH": 50, "SPLIT_K_WAIT": 30, "FILL_DRAIN": 9 + 7, "EPILOGUE": 200 - 50 - 30 - 9, "DRAM_ROW": 200 - 7}
    assert {reason.name: sm.stalls[reason] for reason in Stall if sm.stalls[reason]} == expected
    assert sm.unexplained == 0


def test_a_later_gap_is_what_its_operands_waited_for_and_no_gap_is_nothing() -> None:
    sm = unit(machine())
    sm.pipe_free = 1000
    sm.charge_gap(1000, [0, 0, 100, 0, 0, 0])
    assert sum(sm.stalls) == 0
    sm.charge_gap(1150, [10, 20, 100, 0, 0, 30])
    assert [sm.stalls[Stall.NOC_QUEUE + part] for part in range(6)] == [0, 20, 100, 0, 0, 30]


def test_the_end_is_epilogue_up_to_the_last_write_and_imbalance_after_it() -> None:
    sm = unit(machine())
    sm.pipe_free, sm.last_end = 500, 600
    sm.close(1000)
    assert (sm.stalls[Stall.FILL_DRAIN], sm.stalls[Stall.EPILOGUE], sm.stalls[Stall.IMBALANCE]) == (9, 91, 400)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500), st.lists(st.integers(0, 2000), min_size=6, max_size=6))
def test_every_tick_of_a_gap_is_named_or_counted_as_unexplained(idle: int, late: int, wait: int, parts: list[int]) -> None:
    sm = unit(machine(cta_launch=50))
    sm.pipe_free = 300
    began = idle + late
    start = max(began, 300) + wait
    sm.charge_first_gap(start, began, parts)
    assert sum(sm.stalls) + sm.unexplained == start - 300
