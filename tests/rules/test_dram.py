"""DRAM rules on their own: the address map, the bank's command times, refresh windows, write batches."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.rules.dram import RECIPROCAL_BITS, after_refresh, drain_ticks, locate, open_column, reciprocal


@pytest.mark.parametrize("channels", [1, 2, 3, 10, 40, 64, 80])
def test_each_stripe_visits_every_channel_once_and_each_row_holds_its_chunks_of_one_channel(channels: int) -> None:
    row_shift, stripes = 3, 64
    places = [locate(chunk, channels, reciprocal(channels), row_shift, 15) for chunk in range(channels * stripes)]
    for stripe in range(stripes):
        assert {channel for channel, _, _ in places[stripe * channels : (stripe + 1) * channels]} == set(range(channels))
    chunks_of_row = Counter((channel, row) for channel, _, row in places)
    assert set(chunks_of_row.values()) == {1 << row_shift}
    assert len({(channel, bank, row) for channel, bank, row in places}) == len(chunks_of_row)  # a row lies in one bank


@pytest.mark.parametrize("stride_shift", range(8))
def test_strides_of_a_power_of_two_keep_more_than_half_of_the_channels_and_banks_busy(stride_shift: int) -> None:
    channels, banks = 40, 16
    places = [locate(index << stride_shift, channels, reciprocal(channels), 3, banks - 1) for index in range(4096)]
    assert len({channel for channel, _, _ in places}) > channels // 2
    assert len({bank for _, bank, _ in places}) > banks // 2


@given(st.integers(1, 256), st.data())
def test_multiplying_by_the_reciprocal_is_dividing_wherever_it_is_said_to_be(channels: int, data: st.DataObject) -> None:
    last = ((1 << RECIPROCAL_BITS) - 1) // channels
    chunk = data.draw(st.one_of(st.integers(0, last), st.integers(0, last // channels).map(lambda q: max(0, q * channels - 1))))
    assert chunk * reciprocal(channels) >> RECIPROCAL_BITS == chunk // channels


def bank(arrival: int, row: int, open_row: int, column_ready: int = 0, precharge_ready: int = 0) -> tuple[int, int, int]:
    return open_column(arrival, row, open_row, column_ready, precharge_ready, precharge=14, activate=15)


def test_a_closed_bank_activates_an_open_row_does_not_and_another_row_precharges_first() -> None:
    assert bank(100, row=5, open_row=-1) == (115, 100, 1)
    assert bank(100, row=5, open_row=5) == (100, 100, 0)
    assert bank(100, row=6, open_row=5) == (129, 100, 1)


@pytest.mark.parametrize(("arrival", "began"), [(99, 100), (100, 100), (101, 101)])
def test_a_command_waits_until_its_bank_takes_it(arrival: int, began: int) -> None:
    assert bank(arrival, row=5, open_row=5, column_ready=100, precharge_ready=900) == (began, began, 0)
    assert bank(arrival, row=6, open_row=5, column_ready=900, precharge_ready=100) == (began + 29, began, 1)


@pytest.mark.parametrize(
    ("start", "after", "window"),
    [(999, 999, 1000), (1000, 1050, 2000), (1049, 1050, 2000), (1050, 1050, 2000), (1999, 1999, 2000), (7020, 7050, 8000)],
)
def test_refresh_holds_the_bus_for_its_window_and_not_a_tick_longer(start: int, after: int, window: int) -> None:
    assert after_refresh(start, 1000, 1000, 50) == (after, window)


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=30), st.integers(1, 400), st.integers(0, 399))
def test_no_start_lies_in_a_refresh_window(steps: list[int], interval: int, length: int) -> None:
    length %= interval
    start, window = 0, interval
    for step in steps:
        asked = start + step
        start, window = after_refresh(asked, window, interval, length)
        assert asked <= start <= asked + length
        assert start < interval or start % interval >= length


def test_a_batch_of_writes_turns_the_bus_around_once_there_and_back() -> None:
    assert [drain_ticks(pending, 4, 9) for pending in (1, 2, 3, 4)] == [0, 0, 0, 18]
