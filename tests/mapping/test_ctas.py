"""The CTA table: every output once, every k once, in an order in which a serial reduction can't wait for itself."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.mapping.ctas import MAX_CTAS, count_ctas, cta_table, raster
from nmsim.mapping.plan import BATCH, GROUP, K0, K1, M0, M1, N0, N1, SLICE, SLICES, TILE
from nmsim.mapping.problem import Group, View

VIEW = View("D", 0, 0, 16)
SIZES = st.integers(1, 40)


def group(m: int, n: int, k: int) -> Group:
    return Group(m, n, k, (), VIEW)


@st.composite
def launches(draw: st.DrawFn) -> tuple[list[Group], int, tuple[int, int, int], int, int]:
    """(groups, batch, tile, split of K, raster width), K split no finer than the shortest group has k-tiles."""
    groups = [group(draw(SIZES), draw(SIZES), draw(SIZES)) for _ in range(draw(st.integers(1, 3)))]
    tile = draw(st.integers(1, 16)), draw(st.integers(1, 16)), draw(st.integers(1, 16))
    k_tiles = min(-(-one.k // tile[2]) for one in groups)
    return groups, draw(st.integers(1, 3)), tile, draw(st.integers(1, min(8, k_tiles))), draw(st.integers(1, 5))


@settings(max_examples=100, deadline=None)
@given(launches())
def test_every_output_element_of_every_slice_belongs_to_one_cta(launch: tuple[list[Group], int, tuple[int, int, int], int, int]) -> None:
    groups, batch, tile, split_k, width = launch
    table = cta_table(*launch)
    assert len(table) == count_ctas(groups, batch, tile, split_k)
    for index, one in enumerate(groups):
        covered = np.zeros((batch, split_k, one.m, one.n), dtype=np.int64)
        for row in table[table[:, GROUP] == index]:
            assert 0 < row[M1] - row[M0] <= tile[0]
            assert 0 < row[N1] - row[N0] <= tile[1]
            assert row[M1] <= one.m
            assert row[N1] <= one.n
            covered[row[BATCH], row[SLICE], row[M0] : row[M1], row[N0] : row[N1]] += 1
        assert (covered == 1).all()
    assert width >= 1


@settings(max_examples=100, deadline=None)
@given(launches())
def test_the_slices_of_a_tile_divide_k_into_whole_k_tiles(launch: tuple[list[Group], int, tuple[int, int, int], int, int]) -> None:
    groups, _, tile, split_k, _ = launch
    table = cta_table(*launch)
    for index in np.unique(table[:, TILE]):
        slices = table[table[:, TILE] == index]
        slices = slices[np.argsort(slices[:, SLICE])]
        assert slices[:, SLICE].tolist() == list(range(split_k))
        assert (slices[:, SLICES] == split_k).all()
        edges = [int(slices[0, K0]), *slices[:, K1].tolist()]
        assert (edges[0], edges[-1]) == (0, groups[slices[0, GROUP]].k)
        assert slices[1:, K0].tolist() == edges[1:-1]
        lengths = [stop - start for start, stop in pairwise(edges)]
        assert min(lengths) > 0
        assert all(length % tile[2] == 0 for length in lengths[:-1])
        assert max(-(-length // tile[2]) for length in lengths) - min(-(-length // tile[2]) for length in lengths) <= 1


@settings(max_examples=60, deadline=None)
@given(launches())
def test_all_first_slices_start_before_any_second_one(launch: tuple[list[Group], int, tuple[int, int, int], int, int]) -> None:
    assert (np.diff(cta_table(*launch)[:, SLICE]) >= 0).all()


@settings(max_examples=60, deadline=None)
@given(launches())
def test_a_tile_number_names_one_output_tile(launch: tuple[list[Group], int, tuple[int, int, int], int, int]) -> None:
    groups, batch, tile, split_k, _ = launch
    table = cta_table(*launch)
    places = {tuple(row[[GROUP, BATCH, M0, N0]]) for row in table}
    named = {(row[TILE], *row[[GROUP, BATCH, M0, N0]]) for row in table}
    assert len(places) == len(named) == count_ctas(groups, batch, tile, 1) == len(table) // split_k
    assert sorted({int(row[TILE]) for row in table}) == list(range(len(places)))


@given(tiles_m=st.integers(1, 30), tiles_n=st.integers(1, 30), width=st.integers(1, 12))
def test_the_raster_visits_every_tile_once(tiles_m: int, tiles_n: int, width: int) -> None:
    m, n = raster(tiles_m, tiles_n, width)
    assert sorted(zip(m.tolist(), n.tolist(), strict=True)) == [(i, j) for i in range(tiles_m) for j in range(tiles_n)]


def test_the_raster_walks_bands_of_its_width_row_by_row() -> None:
    m, n = raster(2, 5, 2)
    expected = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3), (0, 4), (1, 4)]
    assert list(zip(m.tolist(), n.tolist(), strict=True)) == expected


def test_a_wave_of_a_wide_raster_looks_at_fewer_distinct_operand_rows() -> None:
    """What the swizzle is for: 64 CTAs of a 64 x 64 tile grid need 64 + 1 strips of A and B in a row, 8 + 8 in a band of 8."""
    footprints = []
    for width in (64, 8):
        m, n = raster(64, 64, width)
        footprints.append(len(set(m[:64].tolist())) + len(set(n[:64].tolist())))
    assert footprints == [65, 16]


def test_more_ctas_than_memory_could_hold_are_refused() -> None:
    with pytest.raises(InputError, match="CTAs"):
        cta_table([group(MAX_CTAS, 2, 1)], 1, (1, 1, 1), 1, 8)
