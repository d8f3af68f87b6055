"""A machine's datasheet numbers as ticks at a core clock: what is given in ns or GB/s takes more core ticks at a faster clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmsim.errors import InputError
from nmsim.hw.counters import Counters
from nmsim.hw.mainloop import MainloopTiming
from nmsim.hw.timing import TIMING_INDEX, chip_timing
from nmsim.units import RATE_BITS, TICKS_PER_CYCLE
from tests.hw.machines import load_gpu


def test_the_shipped_machine_at_its_boost_clock_by_hand(ampere: Path) -> None:
    """1410 MHz: a nanosecond is 1.41 cycles of 256 ticks, and times are rounded up to the tick."""
    timing = chip_timing(load_gpu(ampere), 1410)
    assert timing.column_access == timing.activate == timing.precharge == 5054  # 14 ns: 5053.44
    assert timing.row_active == 12273  # 34 ns: 12272.64
    assert timing.refresh_interval == 1_407_744  # 3900 ns exactly
    assert (timing.l2_near, timing.l2_far) == (211 * 256, 357 * 256)  # its own clock is the same
    assert timing.cta_launch == 128 * 256
    assert timing.port_rate == 4 << RATE_BITS  # 64 bytes a cycle
    assert timing.write_port_rate == 8 << RATE_BITS


@pytest.mark.parametrize("clock", [600, 1095, 1410, 2000])
def test_memory_does_not_speed_up_with_the_core(ampere: Path, clock: int) -> None:
    spec = load_gpu(ampere)
    timing = chip_timing(spec, clock)
    per_second = clock * 1e6 * TICKS_PER_CYCLE
    bus = timing.channels * per_second / (timing.bus_rate / (1 << RATE_BITS)) / 1e9
    assert bus == pytest.approx(spec.dram.bandwidth_gb_per_s, rel=1e-5)
    l2 = (timing.partition_mask + 1) * per_second / (timing.l2_rate / (1 << RATE_BITS)) / 1e9
    assert l2 == pytest.approx(spec.l2.bandwidth_gb_per_s, rel=1e-5)
    for ticks, nanoseconds in ((timing.column_access, spec.dram.cas_ns), (timing.refresh, spec.dram.refresh_ns)):
        assert 0 <= ticks / per_second * 1e9 - nanoseconds < 1e9 / per_second
    assert timing.cta_launch == spec.sm.cta_launch_cycles * TICKS_PER_CYCLE


def test_compiled_code_finds_each_number_where_its_name_says(ampere: Path) -> None:
    timing = chip_timing(load_gpu(ampere), 1410, ideal_memory=True)
    numbers = timing.as_array()
    assert {name: int(numbers[index]) for name, index in TIMING_INDEX.items()} == vars(timing)
    assert timing.ideal_memory == 1


def test_a_memory_that_the_address_map_cannot_hold_is_refused(ampere: Path) -> None:
    spec = load_gpu(ampere, ["dram.interleave_bytes=32", "dram.channels=256", "dram.capacity_gib=1024"])
    with pytest.raises(InputError, match="address map"):
        chip_timing(spec, 1410)


def test_a_mainloop_in_ticks_keeps_its_ratio() -> None:
    timing = MainloopTiming(((1000, 3), (500, 3)), (100, 1), 7, 9, 5, 0, ({}, {}))
    ticks = timing.ticks()
    assert ticks.period == (round(1000 / 3 * 256 * (1 << RATE_BITS)), round(500 / 3 * 256 * (1 << RATE_BITS)))
    assert (ticks.fill, ticks.drain, ticks.exchange) == (7 * 256, 9 * 256, 5 * 256)
    assert MainloopTiming.from_json(timing.to_json()) == timing


def test_counters_add_and_repeat() -> None:
    once = Counters(executed_macs=3, dram_read_bytes=5)
    assert once + once == once.scaled(2)
    assert (once + Counters(k_tiles=1)).k_tiles == 1
