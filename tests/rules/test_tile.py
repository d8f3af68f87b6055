"""Sides and strips of an output tile."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nmsim.rules.tile import side, strip


def test_a_tensor_follows_its_own_dimension_first() -> None:
    assert side(0, 1, 2, 3, 4) == (1, 2, 3, 4)
    assert side(1, 1, 2, 3, 4) == (3, 4, 1, 2)


@given(m0=st.integers(0, 1000), height=st.integers(1, 300), rows=st.integers(1, 64))
def test_strips_cover_the_rows_of_a_tile_once_and_in_order(m0: int, height: int, rows: int) -> None:
    strips = [strip(m0, m0 + height, rows, index) for index in range(-(-height // rows))]
    assert [row for first, stop in strips for row in range(first, stop)] == list(range(m0, m0 + height))
    assert all(stop - first == rows for first, stop in strips[:-1])
