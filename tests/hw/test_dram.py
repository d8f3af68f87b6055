"""One DRAM channel, command by command: a burst is 256 ticks, every other time a number that no sum of others gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.hw.dram import Dram, first_refresh
from nmsim.hw.timing import ChipTiming, chip_timing
from nmsim.rules.dram import locate, reciprocal
from nmsim.units import TICKS_PER_CYCLE
from tests.hw.machines import TICK_PER_BYTE, load_gpu, machine

BURST, CAS, ACTIVATE, PRECHARGE, TRAS = 256, 1_000, 10_000, 100_000, 400_000
CHANNEL = machine(bus_rate=TICK_PER_BYTE, column_access=CAS, activate=ACTIVATE, precharge=PRECHARGE)
"""One channel, four banks, rows of four bursts."""
LATE = 10_000_000
"""A tick at which everything before is long over."""


def address(bank: int, row_in_bank: int, burst: int = 0) -> int:
    """Byte address of a burst in the `row_in_bank`-th row of a bank of CHANNEL."""
    rows = [row for row in range(64) if locate(row << 2, 1, reciprocal(1), 2, 3)[1] == bank]
    return (rows[row_in_bank] << 2 | burst) << 8


def read(dram: Dram, arrival: int, where: int, nbytes: int = BURST) -> int:
    return dram.access(arrival, where, nbytes, 0)[0]


def test_a_closed_bank_costs_an_activate_an_open_row_nothing_and_another_row_a_precharge_more() -> None:
    dram = Dram(CHANNEL)
    assert read(dram, 0, address(0, 0)) == ACTIVATE + CAS + BURST
    assert read(dram, LATE, address(0, 0, burst=3)) == LATE + CAS + BURST
    assert read(dram, 2 * LATE, address(0, 1)) == 2 * LATE + PRECHARGE + ACTIVATE + CAS + BURST
    assert (dram.activates, dram.accesses, dram.read_bytes) == (2, 3, 3 * BURST)


def test_hits_of_one_row_follow_at_the_rate_of_the_bus() -> None:
    dram = Dram(CHANNEL)
    ends = [read(dram, 0, address(0, 0, burst)) for burst in range(4)]
    assert ends == [ACTIVATE + CAS + (burst + 1) * BURST for burst in range(4)]


@pytest.mark.parametrize(("arrival", "began"), [(TRAS - 1, TRAS), (TRAS, TRAS), (TRAS + 1, TRAS + 1)])
def test_a_row_stays_open_for_tras_after_its_activate(arrival: int, began: int) -> None:
    dram = Dram(machine(bus_rate=TICK_PER_BYTE, column_access=CAS, activate=ACTIVATE, precharge=PRECHARGE, row_active=TRAS))
    read(dram, 0, address(0, 0))
    assert read(dram, arrival, address(0, 1)) == began + PRECHARGE + ACTIVATE + CAS + BURST


@pytest.mark.parametrize("late", [-1, 0, 1])
def test_a_row_is_not_closed_before_its_last_column_command_is_through(late: int) -> None:
    dram = Dram(CHANNEL)
    read(dram, 0, address(0, 0))
    data = LATE + CAS
    read(dram, LATE, address(0, 0, burst=1))
    assert read(dram, data + late, address(0, 1)) == max(data, data + late) + PRECHARGE + ACTIVATE + CAS + BURST


def test_the_activate_of_another_bank_hides_behind_the_first_burst_and_that_of_the_same_bank_does_not() -> None:
    alone = ACTIVATE + CAS + BURST
    other, same = Dram(CHANNEL), Dram(CHANNEL)
    assert read(other, 0, address(0, 0)) == read(same, 0, address(0, 0)) == alone
    assert read(other, 0, address(1, 0)) == alone
    assert read(same, 0, address(0, 1)) == ACTIVATE + CAS + PRECHARGE + ACTIVATE + CAS + BURST


def test_banks_share_one_bus_in_order_of_arrival() -> None:
    dram = Dram(machine(bus_rate=TICK_PER_BYTE))
    assert [read(dram, 0, address(bank, 0)) for bank in range(4)] == [256, 512, 768, 1024]
    assert read(dram, 1000, address(0, 0, 1)) == 1280
    assert read(dram, 1281, address(1, 0, 1)) == 1281 + 256


def test_a_short_last_piece_takes_the_bus_for_its_own_bytes_only() -> None:
    dram = Dram(machine(bus_rate=TICK_PER_BYTE))
    assert read(dram, 0, address(0, 0), nbytes=7) == 7


def test_writes_are_gathered_and_the_bus_turns_around_once_a_batch() -> None:
    turnaround = 5_000
    dram = Dram(machine(bus_rate=TICK_PER_BYTE, turnaround=turnaround, write_batch=3))
    ends = [dram.access(0, address(0, 0, burst % 4), BURST, 1)[0] for burst in range(7)]
    turns = [0, 0, 1, 1, 1, 2, 2]
    assert ends == [(burst + 1) * BURST + 2 * turnaround * turns[burst] for burst in range(7)]
    assert read(dram, 0, address(0, 0)) == 8 * BURST + 4 * turnaround
    assert (dram.write_bytes, dram.read_bytes) == (7 * BURST, BURST)


@pytest.mark.parametrize(("arrival", "start"), [(999, 999), (1000, 1060), (1059, 1060), (1060, 1060), (1999, 1999), (2000, 2060)])
def test_no_burst_starts_while_the_channel_refreshes(arrival: int, start: int) -> None:
    dram = Dram(machine(bus_rate=TICK_PER_BYTE, refresh_interval=1000, refresh=60))
    assert read(dram, arrival, address(0, 0)) == start + BURST


def test_refresh_costs_a_stream_its_share_of_the_bus() -> None:
    """Of 100 intervals a tenth is lost; a burst that began before a window runs through it, so a little less than that."""
    interval, refresh = 10_000, 1_000
    dram = Dram(machine(bus_rate=TICK_PER_BYTE, refresh_interval=interval, refresh=refresh))
    bursts = 100 * (interval - refresh) // BURST
    end = max(read(dram, 0, burst << 8) for burst in range(bursts))
    lost = end - bursts * BURST
    assert 0.9 * 100 * (refresh - BURST) < lost <= 100 * refresh


def test_the_channels_take_turns_to_refresh() -> None:
    timing = machine(channels=5, refresh_interval=1000, refresh=60)
    assert [first_refresh(timing, channel) for channel in range(5)] == [200, 400, 600, 800, 1000]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 200), st.integers(1, 256), st.integers(0, 1)), max_size=40))
def test_the_parts_of_an_access_are_no_less_than_zero_and_sum_to_its_time(accesses: list[tuple[int, int, int, int]]) -> None:
    timing = machine(
        channels=3, bus_rate=TICK_PER_BYTE // 3, column_access=140, activate=130, precharge=120, row_active=340,
        turnaround=80, write_batch=2, refresh_interval=3900, refresh=260,
    )  # fmt: skip
    dram = Dram(timing)
    for arrival, chunk, nbytes, is_write in accesses:
        end, queue, row, bus = dram.access(arrival, chunk << 8, nbytes, is_write)
        assert end - arrival == queue + row + bus
        assert min(queue, row, bus) >= 0
        assert row in (140, 140 + 130, 140 + 130 + 120)
        assert abs(bus - nbytes / 3) <= 1


@pytest.fixture(scope="module")
def streaming(ampere) -> list[tuple[int, ChipTiming, float]]:
    """(clock in MHz, the shipped machine with rows that cost nothing and no refresh, ticks a byte of its datasheet) at 600 to 2000 MHz."""
    spec = load_gpu(ampere, ["dram.refresh_ns=0", "dram.turnaround_ns=0"])
    found = []
    for clock in range(600, 2001, 7):
        timing = chip_timing(spec, clock)
        per_channel = spec.dram.bandwidth_gb_per_s / spec.dram.channels * 1000 / clock / TICKS_PER_CYCLE
        found.append((clock, timing, 1 / per_channel))
    return found


def test_a_stream_of_row_hits_runs_at_the_datasheet_rate_at_every_clock(streaming) -> None:
    """Within 0.2 % of the configured bus rate, and never above it, whatever fraction of a tick a burst takes."""
    bursts, size = 400, 64
    for clock, timing, ticks_per_byte in streaming:
        dram = Dram(machine(bus_rate=timing.bus_rate, row_shift=20, bank_mask=0))
        ends = [read(dram, 0, burst * size, size) for burst in range(bursts)]
        exact = bursts * size * ticks_per_byte
        assert exact * (1 - 1e-6) - 1 <= ends[-1] <= exact / 0.998, f"at {clock} MHz"


def test_the_whole_machine_streams_at_the_datasheet_rate_with_real_rows(streaming) -> None:
    """All channels, real command times: banks work ahead, so that a long stream still gets 99.8 % of the pins."""
    for clock, timing, ticks_per_byte in streaming[::50]:
        dram, size, chunks = Dram(timing), 1 << timing.interleave_shift, timing.channels * 2000
        end = max(dram.access(0, chunk * size, size, 0)[0] for chunk in range(chunks))
        exact = chunks * size * ticks_per_byte / timing.channels
        assert exact * (1 - 1e-6) - 1 <= end <= exact / 0.998, f"at {clock} MHz"
