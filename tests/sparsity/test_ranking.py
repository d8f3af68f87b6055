from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.sparsity.ranking import keep_best, keep_largest, require_density

SCORES = st.lists(st.lists(st.integers(0, 5), max_size=8), max_size=4)


@given(SCORES, st.data())
def test_the_largest_are_those_of_a_stable_sort_over_the_whole_network(lists: list[list[int]], data: st.DataObject) -> None:
    scores = {str(i): np.array(values, dtype=np.float32) for i, values in enumerate(lists)}
    flat = [value for values in lists for value in values]
    count = data.draw(st.integers(0, len(flat)))
    expected = np.zeros(len(flat), dtype=bool)
    expected[sorted(range(len(flat)), key=lambda i: -flat[i])[:count]] = True
    kept = keep_largest(scores, count)
    assert [kept[name].shape for name in scores] == [score.shape for score in scores.values()]
    assert [flag for name in scores for flag in kept[name].tolist()] == expected.tolist()


def test_units_go_in_by_score_until_the_kept_elements_are_nearest_to_the_budget() -> None:
    scores, sizes = [np.array([[5.0, 1.0, 4.0]]), np.array([[0.5, 3.0]])], [np.array([[10]]), np.array([[4, 7]])]
    # Forced: the best of each owner, 10 + 7; then the 10 of score 4, the 10 of score 1, the 4 of score 0.5.
    for budget, expected in ((0, 17), (21, 17), (23, 27), (31, 27), (33, 37), (40, 41)):
        kept = keep_best(scores, sizes, budget)
        total = sum(int(np.broadcast_to(size, flags.shape)[flags].sum()) for flags, size in zip(kept, sizes, strict=True))
        assert total == expected
        assert kept[0][0, 0]
        assert kept[1][0, 1]


@pytest.mark.parametrize("density", [0.0, -1.0, 1.01, float("nan")])
def test_a_density_out_of_range_is_refused(density: float) -> None:
    with pytest.raises(InputError, match="density"):
        require_density(density)


@pytest.mark.parametrize("count", [-1, 5])
def test_more_than_there_is_can_not_be_chosen(count: int) -> None:
    with pytest.raises(InputError, match="4 elements to choose from"):
        keep_largest({"w": np.zeros(4)}, count)
