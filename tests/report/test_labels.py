"""Numbers keep their value and names their ends when they are written for people."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.report.labels import (
    common_name,
    count_text,
    numberless,
    percent_text,
    shorten,
    si,
    si_scale,
    significant,
    time_text,
    times,
    unit_name,
)
from nmsim.result.rows import ENERGY_UNITS
from nmsim.rules.stalls import STALL_NAMES

magnitudes = st.floats(1e-11, 1e14)
PREFIX = {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3, "": 1.0, "m": 1e-3, "µ": 1e-6, "n": 1e-9, "p": 1e-12}


@given(value=magnitudes)
def test_a_quantity_with_prefix_reads_back_within_half_a_unit_of_the_third_digit(value: float) -> None:
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?) ([TGMkmµnp]?)B", si(value, "B"))
    assert match is not None
    assert float(match[1]) * PREFIX[match[2]] == pytest.approx(value, rel=0.00501)


@given(value=st.floats(1e-6, 1e9))
def test_three_significant_digits_without_an_exponent(value: float) -> None:
    text = significant(value)
    assert "e" not in text
    assert float(text) == pytest.approx(value, rel=0.00501)


@given(value=st.floats(1e-11, 1e15))
def test_an_axis_scaled_for_its_largest_value_reads_one_to_three_digits(value: float) -> None:
    scale, _ = si_scale(value)
    assert 0.99 < value / scale < 1000 or value >= 1e15


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (si(0.0, "J"), "0 J"),
        (si(999.7, "W"), "1.00 kW"),
        (time_text(1234.0), "1.23 ms"),
        (count_text(512), "512"),
        (count_text(1_230_000), "1.23 M"),
        (times(1.234), "1.23×"),
        (times(123.4), "123×"),
        (times(None), "–"),
        (percent_text(0.0996), "10 %"),
        (percent_text(0.0123), "1.2 %"),
        (percent_text(0.0), "0 %"),
        (significant(1234.0), "1230"),
        (unit_name("l2_queue"), "L2 queue"),
        (unit_name("split_k_wait"), "split-K wait"),
        (unit_name("fill_drain"), "fill and drain"),
        (unit_name("dram"), "DRAM"),
    ],
)
def test_the_field_writes_it_so(found: str, text: str) -> None:
    assert found == text


def test_every_stall_and_unit_has_its_own_name_without_underscores() -> None:
    names = [unit_name(name) for name in (*STALL_NAMES, *ENERGY_UNITS)]
    assert not any("_" in name for name in names)
    assert len({unit_name(name) for name in STALL_NAMES}) == len(STALL_NAMES)


@given(text=st.text(min_size=1, max_size=80), limit=st.integers(4, 60))
def test_a_shortened_name_fits_and_says_where_it_was_cut(text: str, limit: int) -> None:
    shorter = shorten(text, limit)
    assert len(shorter) <= max(limit, 1)
    assert shorter == text or "…" in shorter


def test_a_dotted_name_loses_whole_parts_and_keeps_its_ends() -> None:
    assert shorten("bert.encoder.layer.11.attention.self.query", 30) == "bert…11.attention.self.query"


@given(st.lists(st.integers(0, 999), min_size=1, max_size=6, unique=True))
def test_layers_that_differ_in_one_number_share_a_name_with_one_star(numbers: list[int]) -> None:
    names = [f"layer4.{number}.conv2" for number in numbers]
    assert common_name(names) == (names[0] if len(names) == 1 else "layer4.*.conv2")
    assert {numberless(name) for name in names} == {"layer*.*.conv*"}
