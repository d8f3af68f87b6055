"""The L1 against a list of what was used last."""

from hypothesis import given
from hypothesis import strategies as st

from nmsim.hw.l1 import L1


@given(st.lists(st.integers(0, 9)), st.integers(1, 6))
def test_the_l1_holds_the_lines_used_last(lines: list[int], capacity: int) -> None:
    l1, recent = L1(capacity), list[int]()
    for line in lines:
        assert l1.touch(line) == (line in recent[-capacity:])
        if line in recent:
            recent.remove(line)
        recent.append(line)
