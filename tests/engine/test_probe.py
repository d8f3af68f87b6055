"""A probe keeps what lies in its window, loses nothing it was told of amounts, and stays within its bound."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nmsim.engine.probe import Probe, Window

pieces = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60), st.integers(0, 10_000)), max_size=40)


@given(pieces, st.integers(1, 50))
def test_an_amount_is_spread_over_the_bins_without_loss(moved: list[tuple[int, int, int]], bin_ticks: int) -> None:
    probe = Probe(Window(0, 500, bin_ticks, 10))
    for start, length, amount in moved:
        probe.moved("bytes", start, start + length, amount)
    assert abs(sum(probe.amounts.get("bytes", [0])) - sum(amount for _, _, amount in moved)) < 1e-6


def test_an_amount_is_spread_evenly_and_cut_at_the_window() -> None:
    probe = Probe(Window(100, 200, 50, 10))
    probe.moved("bytes", 80, 180, 100)
    assert probe.amounts["bytes"] == [50.0, 30.0]
    probe.moved("bytes", 170, 170, 7)
    probe.moved("bytes", 99, 99, 7)
    assert probe.amounts["bytes"] == [50.0, 37.0]


@given(pieces, st.integers(1, 30))
def test_slices_stay_in_the_window_and_within_their_bound_and_the_earliest_are_kept(
    told: list[tuple[int, int, int]], most_spans: int
) -> None:
    probe = Probe(Window(50, 300, 10, most_spans))
    for start, length, number in told:
        probe.span(("unit", str(number % 3)), "work", start, start + length)
    kept = [span for spans in probe.cut().values() for span in spans]
    inside = [(max(start, 50), min(start + length, 300)) for start, length, _ in told]
    inside = [(start, end) for start, end in inside if start < end]
    assert len(kept) <= most_spans
    assert all(50 <= span.start < span.end <= probe.end <= 300 for span in kept)
    if len(inside) <= most_spans:
        assert sorted((span.start, span.end) for span in kept) == sorted(inside)
    else:
        assert sorted(span.start for span in kept) == sorted(start for start, _ in inside if start < probe.end)


def test_neighbours_of_one_name_join_and_their_amounts_add_up() -> None:
    probe = Probe(Window(0, 100, 10, 10))
    for name, start, end in (("read", 0, 4), ("read", 4, 9), ("write", 9, 12), ("read", 12, 20), ("read", 21, 30)):
        probe.joined(("DRAM", "channel 0"), name, start, end, bytes=64)
    spans = probe.cut()["DRAM", "channel 0"]
    assert [(span.name, span.start, span.end, span.amounts["count"]) for span in spans] == [
        ("read", 0, 9, 2),
        ("write", 9, 12, 1),
        ("read", 12, 20, 1),
        ("read", 21, 30, 1),
    ]
    assert sum(span.amounts["bytes"] for span in spans) == 5 * 64
    assert all(one.end <= other.start for one, other in pairwise(spans))
