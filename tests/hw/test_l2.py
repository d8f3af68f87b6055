"""The L2 alone, tick by tick: near and far, bandwidth, misses, joined misses, replacement, write-back."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.hw.dram import Dram
from nmsim.hw.l2 import L2
from nmsim.hw.timing import ChipTiming
from tests.hw.machines import TICK_PER_BYTE, machine, stored

NEAR, FAR, CONTROLLER, CAS = 200, 350, 5_000, 10_000
BLOCK = 1024
VIEW, TENSORS = stored(rows=64, pitch=256)
"""16 blocks of four rows of 256 bytes each."""


def cache(timing: ChipTiming) -> L2:
    return L2(timing, Dram(timing), TENSORS.tolist())


def read(l2: L2, now: int, block: int, *, sm: int = 0, nbytes: int = 100) -> int:
    return l2.read(now, sm, VIEW, block, 0, nbytes)[0]


def filled(l2: L2, *blocks: int, at: int = 0) -> L2:
    for block in blocks:
        read(l2, at, block)
    return l2


def test_a_hit_takes_the_near_latency_in_the_own_partition_and_the_far_one_elsewhere() -> None:
    l2 = filled(cache(machine(partition_mask=1, l2_near=NEAR, l2_far=FAR)), 0, 1)
    late = 100_000
    assert read(l2, late, 0, sm=0) == read(l2, late, 1, sm=1) == late + NEAR
    assert read(l2, late, 1, sm=0) == read(l2, late, 0, sm=1) == late + FAR
    assert read(l2, late, 0, sm=2) == late + NEAR  # even SMs sit at partition 0


def test_a_partition_serves_its_requests_one_after_another_and_the_other_one_meanwhile() -> None:
    l2 = filled(cache(machine(partition_mask=1, l2_near=NEAR, l2_far=NEAR, l2_rate=TICK_PER_BYTE)), 0, 1, 2)
    late = 100_000
    assert [read(l2, late, block, nbytes=50) for block in (0, 2, 1)] == [late + 50 + NEAR, late + 100 + NEAR, late + 50 + NEAR]
    assert read(l2, late + 99, 0, nbytes=10) == late + 100 + 10 + NEAR
    assert read(l2, late + 111, 0, nbytes=10) == late + 111 + 10 + NEAR


def test_a_miss_goes_half_the_latency_out_through_dram_and_the_controller_and_the_other_half_back() -> None:
    timing = machine(l2_near=201, l2_far=201, controller=CONTROLLER, column_access=CAS, bus_rate=TICK_PER_BYTE, row_shift=9)
    assert read(cache(timing), 7, 0) == 7 + 100 + CAS + BLOCK + CONTROLLER + 101


def test_the_parts_of_a_miss_sum_to_it() -> None:
    timing = machine(l2_near=NEAR, l2_far=NEAR, controller=CONTROLLER, column_access=CAS, bus_rate=TICK_PER_BYTE, row_shift=9)
    data, (noc, l2_queue, l2_latency, queue, row, bus) = cache(timing).read(7, 0, VIEW, 0, 0, 100)
    assert (noc, l2_queue, l2_latency, row, bus) == (0, 0, NEAR, CAS, 256 + CONTROLLER)
    assert queue == 3 * 256  # behind the three pieces of the block before the last one
    assert data == 7 + NEAR + queue + row + bus


def test_a_read_of_a_block_on_its_way_joins_the_fill_and_costs_no_second_access() -> None:
    l2 = cache(machine(l2_near=NEAR, l2_far=NEAR, controller=CONTROLLER))
    landed = read(l2, 0, 0)
    assert landed == NEAR + CONTROLLER
    assert read(l2, 10, 0) == landed
    assert (l2.lookups, l2.misses, l2._dram.accesses) == (2, 1, 4)


@pytest.mark.parametrize("late", [-1, 0, 1])
def test_once_the_fill_is_in_a_joined_read_is_a_hit(late: int) -> None:
    """A request at the tick at which its own trip just meets the filled block waits for nothing."""
    l2 = cache(machine(l2_near=NEAR, l2_far=NEAR, controller=CONTROLLER))
    landed = read(l2, 0, 0)
    just_in_time = landed - NEAR
    data, parts = l2.read(just_in_time + late, 0, VIEW, 0, 0, 100)
    assert data == max(landed, just_in_time + late + NEAR)
    assert parts[3] == max(0, -late)  # the rest of the fill counts as waiting for DRAM


def test_the_least_recently_used_block_goes_first_and_a_touch_saves_it() -> None:
    l2 = filled(cache(machine(l2_capacity=3 * BLOCK)), 0, 1, 2)
    read(l2, 0, 0)  # 1 is now the oldest
    read(l2, 0, 3)
    before = l2.misses
    filled(l2, 2, 0, 3)
    assert l2.misses == before
    read(l2, 0, 1)
    assert l2.misses == before + 1
    filled(l2, 0, 3, 1)
    assert l2.misses == before + 1
    read(l2, 0, 2)
    assert l2.misses == before + 2


@pytest.mark.parametrize(("capacity", "misses"), [(3 * BLOCK, 3), (3 * BLOCK - 1, 6)])
def test_capacity_is_exact_to_the_byte(capacity: int, misses: int) -> None:
    """Three blocks read round and round: they fit, or LRU throws out each one just before its turn."""
    assert filled(cache(machine(l2_capacity=capacity)), 0, 1, 2, 0, 1, 2).misses == misses


def test_a_clean_block_is_dropped_and_a_dirty_one_written_back_whole() -> None:
    l2 = cache(machine(l2_capacity=2 * BLOCK))
    l2.write(0, 0, VIEW, 0, 0, 1)
    read(l2, 0, 1)
    assert (l2._dram.write_bytes, l2._dram.read_bytes) == (0, BLOCK)
    read(l2, 0, 2)
    assert (l2._dram.write_bytes, l2._dram.read_bytes) == (BLOCK, 2 * BLOCK)
    filled(l2, 3, 4, 5)
    assert l2._dram.write_bytes == BLOCK


def test_writing_a_resident_block_makes_it_dirty_and_young() -> None:
    l2 = filled(cache(machine(l2_capacity=2 * BLOCK)), 0, 1)
    l2.write(0, 0, VIEW, 0, 0, 1)
    read(l2, 0, 2)
    assert l2._dram.write_bytes == 0  # 1 went, not 0
    read(l2, 0, 3)
    assert l2._dram.write_bytes == BLOCK


def test_a_write_is_posted_and_waits_for_its_partition_only() -> None:
    l2 = cache(machine(l2_near=NEAR, l2_far=FAR, controller=CONTROLLER, l2_rate=TICK_PER_BYTE))
    assert [l2.write(5, 0, VIEW, block, 0, 100) for block in (0, 1)] == [105, 205]
    assert l2._dram.accesses == 0  # written whole: nothing to fetch


def test_a_block_larger_than_the_cache_is_still_served() -> None:
    l2 = filled(cache(machine(l2_capacity=BLOCK // 2)), 0, 0, 1, 1, 0)
    assert (l2.lookups, l2.misses) == (5, 3)


def test_a_warm_start_keeps_contents_and_dirty_marks_but_no_times() -> None:
    timing = machine(l2_capacity=2 * BLOCK, controller=CONTROLLER, l2_near=NEAR, l2_far=NEAR)
    first = filled(cache(timing), 0)
    first.write(0, 0, VIEW, 1, 0, 1)
    second = cache(timing)
    second.warm_from(first)
    assert read(second, 0, 0) == NEAR
    filled(second, 2, 3)
    assert second._dram.write_bytes == BLOCK


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 15), st.booleans()), max_size=80), st.integers(1, 12))
def test_misses_and_write_backs_are_those_of_a_textbook_lru_cache(accesses: list[tuple[int, bool]], blocks: int) -> None:
    l2, held = cache(machine(l2_capacity=blocks * BLOCK)), OrderedDict[int, bool]()
    misses = written = 0
    for block, is_write in accesses:
        if is_write:
            l2.write(0, 0, VIEW, block, 0, 1)
        else:
            read(l2, 0, block)
        misses += block not in held
        held[block] = held.get(block, False) or is_write
        held.move_to_end(block)
        if len(held) > blocks:
            written += held.popitem(last=False)[1]
    assert (l2.misses, l2._dram.write_bytes) == (misses, written * BLOCK)


def two_partitions(capacity: int = 1 << 40, copies: int = 1) -> L2:
    return cache(machine(partition_mask=1, l2_near=NEAR, l2_far=FAR, l2_capacity=capacity, l2_copies=copies))


def test_a_block_read_from_the_other_partition_is_near_from_then_on_where_copies_are_kept() -> None:
    for copies, second in ((1, NEAR), (0, FAR)):
        l2 = filled(two_partitions(copies=copies), 1)
        late = 1_000_000
        assert read(l2, late, 1, sm=0) == late + second
        assert read(l2, late, 1, sm=2) == late + second
        assert read(l2, late, 1, sm=1) == late + NEAR


def test_a_write_drops_the_copies_of_its_block() -> None:
    l2 = filled(two_partitions(), 1)
    late = 1_000_000
    l2.write(late, 0, VIEW, 1, 0, 1)
    assert read(l2, 2 * late, 1, sm=0) == 2 * late + FAR
    assert read(l2, 3 * late, 1, sm=0) == 3 * late + NEAR
    assert l2.misses == 1


def test_a_copy_takes_room_of_the_partition_that_keeps_it_and_leaves_the_home_alone() -> None:
    """A partition of three blocks, read by one SM: blocks 0 and 2 live there, 1 and 3 elsewhere."""
    l2 = filled(two_partitions(capacity=3 * BLOCK), 0, 1, 2, 3)
    assert l2.misses == 4
    assert filled(l2, 3, 2, 1).misses == 4  # 0 has made room; 1 comes from home again, or is still near
    assert filled(l2, 0).misses == 5
    assert filled(l2, 1, 3).misses == 5  # their home has room for both


def test_a_reader_near_a_copy_that_is_still_on_its_way_waits_for_it() -> None:
    l2 = cache(machine(partition_mask=1, l2_near=NEAR, l2_far=FAR, l2_copies=1, controller=CONTROLLER))
    first = read(l2, 0, 1, sm=0)
    assert first == FAR + CONTROLLER
    assert read(l2, 1, 1, sm=2) == first  # on the same path from the copying partition on
