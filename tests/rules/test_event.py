"""The packed key orders events exactly as the tuple (rank, SM, CTA) does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nmsim.rules.event import BEGIN, CTA_BITS, END, EPILOGUE, SM_BITS, START, WRITE, event_key, key_cta, key_rank, key_sm

PLACES = st.tuples(st.integers(END, START), st.integers(0, (1 << SM_BITS) - 1), st.integers(0, (1 << CTA_BITS) - 1))


@given(PLACES, PLACES)
def test_keys_order_as_tuples_and_unpack_to_them(left: tuple[int, int, int], right: tuple[int, int, int]) -> None:
    assert (event_key(*left) < event_key(*right)) == (left < right)
    assert (key_rank(event_key(*left)), key_sm(event_key(*left)), key_cta(event_key(*left))) == left


def test_what_frees_comes_before_what_takes() -> None:
    assert END < BEGIN < EPILOGUE < WRITE < START


@given(PLACES)
def test_a_key_fits_a_signed_word(place: tuple[int, int, int]) -> None:
    assert event_key(*place) < 1 << 63
