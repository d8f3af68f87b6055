"""An exposed wait is split over the end of its request's life, and sums to it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nmsim.rules.sharing import PARTS, charge_exposed

LIFE = st.lists(st.integers(0, 1000), min_size=PARTS, max_size=PARTS)


@given(st.integers(0, 8000), LIFE)
def test_the_parts_and_what_is_left_over_sum_to_the_wait(exposed: int, parts: list[int]) -> None:
    charged = [0] * PARTS
    left = charge_exposed(exposed, parts, charged)
    assert sum(charged) + left == exposed
    assert all(0 <= share <= part for share, part in zip(charged, parts, strict=True))
    assert left == max(0, exposed - sum(parts))


@given(st.integers(0, 6000), LIFE)
def test_what_is_hidden_is_the_beginning_of_the_request(exposed: int, parts: list[int]) -> None:
    """Laid end to end, the exposed ticks are the last ones: tick for tick the same parts."""
    charged = [0] * PARTS
    charge_exposed(exposed, parts, charged)
    life = [part for part in range(PARTS) for _ in range(parts[part])]
    shown = life[max(0, len(life) - exposed) :]
    assert charged == [shown.count(part) for part in range(PARTS)]


def test_shares_are_added_to_what_was_charged_before() -> None:
    charged = [1] * PARTS
    assert charge_exposed(3, [0, 0, 0, 0, 2, 2], charged) == 0
    assert charged == [1, 1, 1, 1, 2, 3]
