"""A FIFO server keeps its rate exactly over a run: what is left of a tick is carried, and nothing is rounded per request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.rules.server import serve
from nmsim.units import RATE_BITS

ONE = 1 << RATE_BITS


def back_to_back(requests: list[int], rate: int) -> list[tuple[int, int]]:
    """(start, end) of requests that all wait from tick 0."""
    free = remainder = 0
    served = []
    for units in requests:
        start, free, remainder = serve(0, free, remainder, units, rate)
        served.append((start, free))
    return served


@pytest.mark.parametrize(("arrival", "start"), [(99, 100), (100, 100), (101, 101)])
def test_a_request_starts_when_it_has_arrived_and_the_server_is_free(arrival: int, start: int) -> None:
    assert serve(arrival, 100, 0, 4, 2 * ONE) == (start, start + 8, 0)


def test_a_third_of_a_tick_three_times_is_one_tick() -> None:
    third = -(-ONE // 3)
    assert [end for _, end in back_to_back([1] * 7, third)] == [0, 0, 1, 1, 1, 2, 2]


@given(st.lists(st.integers(0, 10_000), max_size=60), st.integers(0, 8 * ONE))
def test_every_end_is_the_floor_of_the_exact_time_however_the_work_is_cut(requests: list[int], rate: int) -> None:
    done = 0
    for (_, end), units in zip(back_to_back(requests, rate), requests, strict=True):
        done += units
        assert end == done * rate // ONE


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 300)), max_size=40), st.integers(1, 4 * ONE))
def test_requests_never_overlap_never_start_early_and_lose_less_than_a_tick_in_all(gaps: list[tuple[int, int]], rate: int) -> None:
    now = free = remainder = busy = work = 0
    for gap, units in gaps:
        now += gap
        start, end, remainder = serve(now, free, remainder, units, rate)
        assert start == max(now, free)
        assert end >= start
        free, busy, work = end, busy + end - start, work + units * rate
        assert 0 <= work - busy * ONE == remainder < ONE


def test_an_idle_server_does_not_save_up_time() -> None:
    _, free, remainder = serve(0, 0, 0, 3, ONE // 2)
    assert (free, remainder) == (1, ONE // 2)
    assert serve(1000, free, remainder, 3, ONE // 2) == (1000, 1002, 0)
