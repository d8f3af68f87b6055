from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import block_diag, kron

from nmsim.errors import InputError
from nmsim.sparsity import regular_flow
from nmsim.sparsity.blocks import join_blocks, split_blocks
from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.mask import nm_mask
from nmsim.sparsity.metrics import retained_magnitude
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.transposable import keep_greedy_mask, regular_patterns, transposable_mask, two_approximation_mask

TWO_OF_FOUR, FOUR_OF_EIGHT = NMPattern(2, 4), NMPattern(4, 8)
FIELD = [NMPattern.parse(text) for text in ("1:2", "2:4", "1:4", "3:4", "4:8", "2:8", "1:8", "6:8", "4:16", "8:16", "2:32", "16:32")]
"""The patterns of the literature, one to 32 wide."""
FAST: list[Callable[..., np.ndarray]] = [two_approximation_mask, keep_greedy_mask]


def side_by_side(count: int, m: int, seed: int) -> np.ndarray:
    """Weights [m, count * m]: `count` random blocks in a row."""
    return np.random.default_rng(seed).standard_normal((m, count * m))


def kept_magnitude(weights: np.ndarray, mask: np.ndarray, m: int) -> np.ndarray:
    """Per block, [blocks]."""
    return split_blocks(np.abs(weights) * mask, m).sum(axis=(1, 2))


def most_of_all_masks(blocks: np.ndarray) -> np.ndarray:
    """Most magnitude that 2:4 both ways can keep, out of all 65,536 masks of a 4x4 block."""
    masks = ((np.arange(2**16)[:, np.newaxis] >> np.arange(16)) & 1).reshape(-1, 4, 4)
    legal = masks[(masks.sum(axis=1) == 2).all(axis=1) & (masks.sum(axis=2) == 2).all(axis=1)]
    return (np.abs(blocks).reshape(-1, 16) @ legal.reshape(-1, 16).T).max(axis=1)


def most_by_linear_program(blocks: np.ndarray, n: int) -> float:
    """Most magnitude of all blocks together: the constraints are totally unimodular, so the relaxation's optimum is a mask's."""
    count, m, _ = blocks.shape
    one = np.vstack([kron(np.eye(m), np.ones(m)).toarray(), kron(np.ones(m), np.eye(m)).toarray()])
    program = linprog(-np.abs(blocks).ravel(), A_eq=block_diag([one] * count), b_eq=np.full(2 * m * count, n), bounds=(0, 1))
    assert program.status == 0
    return float(-program.fun)


def most_by_network_simplex(block: np.ndarray, n: int) -> int:
    """Most integer magnitude of one block."""
    m = len(block)
    graph = nx.DiGraph()
    for i in range(m):
        graph.add_node(("row", i), demand=-n)
        graph.add_node(("column", i), demand=n)
        for j in range(m):
            graph.add_edge(("row", i), ("column", j), capacity=1, weight=-abs(int(block[i, j])))
    cost, _ = nx.network_simplex(graph)
    return -int(cost)


def prune_upwards(block: np.ndarray, pattern: NMPattern) -> np.ndarray:
    """The published 2-approximation, an element at a time; ties prune the higher index first."""
    kept, rows, columns = np.ones(block.shape, dtype=bool), np.zeros(pattern.m), np.zeros(pattern.m)
    zeros = pattern.m - pattern.n
    for flat in sorted(range(block.size), key=lambda i: (abs(block.flat[i]), -i)):
        row, column = divmod(flat, pattern.m)
        if rows[row] < zeros or columns[column] < zeros:
            kept[row, column] = False
            rows[row] += 1
            columns[column] += 1
    return kept


def keep_downwards(block: np.ndarray, pattern: NMPattern) -> np.ndarray:
    """The shipped greedy, an element at a time; ties keep the lower index."""
    kept = np.zeros(block.shape, dtype=bool)
    for flat in sorted(range(block.size), key=lambda i: (-abs(block.flat[i]), i)):
        row, column = divmod(flat, pattern.m)
        kept[row, column] = kept[row].sum() < pattern.n and kept[:, column].sum() < pattern.n
    return kept


def test_the_five_blocks_of_the_vectors(vectors: dict[str, Any]) -> None:
    for case in vectors["transposable_2of4_4x4"]["cases"]:
        block = np.array(case["absW"])
        best, greedy = transposable_mask(block, TWO_OF_FOUR), keep_greedy_mask(block, TWO_OF_FOUR)
        np.testing.assert_array_equal(best, np.array(case["optimal_mask"], dtype=bool), err_msg=case["tag"])
        np.testing.assert_array_equal(greedy, np.array(case["greedy_mask"], dtype=bool), err_msg=case["tag"])
        assert (block[best].sum(), block[greedy].sum(), greedy.sum()) == (case["optimum_l1"], case["greedy_l1"], case["greedy_kept"])
        assert block[nm_mask(block, TWO_OF_FOUR)].sum() == case["rowwise_2of4_l1"]
        sums = np.einsum("ij,pij->p", block, regular_patterns(TWO_OF_FOUR))
        assert np.count_nonzero(sums == case["optimum_l1"]) == case["n_optimal_masks"]


def test_gaussian_weights_retain_what_the_vectors_say(vectors: dict[str, Any]) -> None:
    case = vectors["retained_l1_fraction_gaussian_256x256_seed0"]
    weights, share = np.random.default_rng(0).standard_normal((256, 256)), case["fraction"]
    for name, mask in {
        "t24_optimal": transposable_mask(weights, TWO_OF_FOUR),
        "t24_keep_greedy": keep_greedy_mask(weights, TWO_OF_FOUR),
        "t24_hubara_prune_greedy": two_approximation_mask(weights, TWO_OF_FOUR),
        "t12": transposable_mask(weights, NMPattern(1, 2)),
        "t48_optimal_all_1024_blocks": transposable_mask(weights, FOUR_OF_EIGHT),
    }.items():
        assert retained_magnitude(weights, mask) == pytest.approx(share[name], rel=1e-12), name
    first = weights[:32]
    assert retained_magnitude(first, transposable_mask(first, FOUR_OF_EIGHT)) == pytest.approx(share["t48_optimal_128blocks"], rel=1e-12)
    assert retained_magnitude(first, keep_greedy_mask(first, FOUR_OF_EIGHT)) == pytest.approx(share["t48_keep_greedy_128blocks"], rel=1e-12)
    assert retained_magnitude(first, nm_mask(first, TWO_OF_FOUR)) == pytest.approx(case["row_2of4_same_128_blocks"], rel=1e-12)
    for seed, transposable, row in case["seeds_0_1_2_t48_vs_row24"]:
        weights = np.random.default_rng(seed).standard_normal((256, 256))
        assert retained_magnitude(weights, nm_mask(weights, TWO_OF_FOUR)) == pytest.approx(row, rel=1e-12)
        assert retained_magnitude(weights, transposable_mask(weights, FOUR_OF_EIGHT)) == pytest.approx(transposable, rel=1e-12)


def test_no_two_of_four_mask_of_all_keeps_more_in_a_thousand_blocks() -> None:
    weights = side_by_side(1000, 4, seed=1)
    kept = kept_magnitude(weights, transposable_mask(weights, TWO_OF_FOUR), 4)
    np.testing.assert_allclose(kept, most_of_all_masks(split_blocks(weights, 4)), rtol=1e-13)


def test_the_flow_and_the_enumeration_find_the_same_optimum() -> None:
    for pattern in (NMPattern(1, 2), TWO_OF_FOUR, NMPattern(1, 4), NMPattern(3, 4)):
        blocks = np.abs(split_blocks(side_by_side(1000, pattern.m, seed=2), pattern.m))
        by_flow = (blocks * regular_flow.cheapest_regular(-blocks, pattern.n)).sum(axis=(1, 2))
        listed = np.einsum("bij,pij->bp", blocks, regular_patterns(pattern)).max(axis=1)
        np.testing.assert_allclose(by_flow, listed, rtol=1e-13)


@pytest.mark.parametrize(("text", "count"), [("4:8", 1000), ("2:8", 100), ("5:8", 100), ("3:6", 100), ("8:16", 40)])
def test_no_mask_keeps_more_says_a_linear_program(text: str, count: int) -> None:
    pattern = NMPattern.parse(text)
    weights = side_by_side(count, pattern.m, seed=3)
    kept = kept_magnitude(weights, transposable_mask(weights, pattern), pattern.m)
    blocks = split_blocks(weights, pattern.m)
    for start in range(0, count, 20):
        part = slice(start, start + 20)
        # HiGHS stops within 1e-7 of feasible, per constraint.
        assert kept[part].sum() == pytest.approx(most_by_linear_program(blocks[part], pattern.n), rel=1e-6)


@given(st.integers(5, 12), st.data())
def test_no_mask_keeps_more_says_network_simplex_ties_included(m: int, data: st.DataObject) -> None:
    pattern = NMPattern(data.draw(st.integers(1, m)), m)
    entries = data.draw(st.lists(st.integers(-6, 6), min_size=m * m, max_size=m * m))
    block = np.array(entries).reshape(m, m)
    assert np.abs(block)[transposable_mask(block, pattern)].sum() == most_by_network_simplex(block, pattern.n)


@pytest.mark.parametrize("pattern", FIELD, ids=str)
def test_every_row_and_column_keeps_exactly_n(pattern: NMPattern) -> None:
    weights = np.random.default_rng(4).standard_normal((2 * pattern.m, 3 * pattern.m))
    blocks = split_blocks(transposable_mask(weights, pattern), pattern.m)
    assert (blocks.sum(axis=1) == pattern.n).all()
    assert (blocks.sum(axis=2) == pattern.n).all()


@pytest.mark.parametrize("search", [transposable_mask, *FAST])
@given(
    st.sampled_from([NMPattern(1, 2), TWO_OF_FOUR, NMPattern(1, 4), FOUR_OF_EIGHT, NMPattern(2, 8)]), st.tuples(*[st.integers(1, 9)] * 3)
)
def test_masks_are_legal_along_both_reductions_whatever_the_shape(search: Any, pattern: NMPattern, shape: tuple[int, ...]) -> None:
    mask = search(np.random.default_rng(sum(shape)).standard_normal(shape), pattern)
    assert mask.shape == shape
    assert check_groups(mask, pattern, 0).legal
    assert check_groups(mask, pattern, -1).legal


@pytest.mark.parametrize("pattern", FIELD, ids=str)
def test_the_fast_masks_are_the_published_steps_element_by_element(pattern: NMPattern) -> None:
    blocks = np.random.default_rng(5).integers(-9, 10, (12, pattern.m, pattern.m))
    weights = join_blocks(blocks, (pattern.m, 12 * pattern.m))
    np.testing.assert_array_equal(
        split_blocks(two_approximation_mask(weights, pattern), pattern.m), [prune_upwards(block, pattern) for block in blocks]
    )
    np.testing.assert_array_equal(
        split_blocks(keep_greedy_mask(weights, pattern), pattern.m), [keep_downwards(block, pattern) for block in blocks]
    )


@pytest.mark.parametrize("pattern", [TWO_OF_FOUR, NMPattern(1, 4), FOUR_OF_EIGHT, NMPattern(2, 8)], ids=str)
def test_the_two_approximation_loses_at_most_twice_the_least_in_20000_blocks(pattern: NMPattern) -> None:
    # Cubes of Gaussians are heavy-tailed: the bound is nearer there than for plain ones.
    weights = side_by_side(20_000, pattern.m, seed=6) ** 3
    total = kept_magnitude(weights, np.ones(weights.shape, dtype=bool), pattern.m)
    best = total - kept_magnitude(weights, transposable_mask(weights, pattern), pattern.m)
    lost = total - kept_magnitude(weights, two_approximation_mask(weights, pattern), pattern.m)
    assert (lost <= 2 * best * (1 + 1e-12)).all()
    assert (lost > best).any()


@pytest.mark.parametrize("pattern", [TWO_OF_FOUR, FOUR_OF_EIGHT, NMPattern(1, 8)], ids=str)
def test_the_keep_greedy_keeps_at_least_half_and_never_more_than_the_optimum(pattern: NMPattern) -> None:
    weights = side_by_side(2000, pattern.m, seed=7) ** 3
    best = kept_magnitude(weights, transposable_mask(weights, pattern), pattern.m)
    greedy = kept_magnitude(weights, keep_greedy_mask(weights, pattern), pattern.m)
    assert (greedy >= best / 2).all()
    if pattern.n == 1:
        # A matching can always be completed, so that keeping more of N = 1 never costs; beyond, a stalled greedy can even win.
        assert (greedy <= best * (1 + 1e-12)).all()


def test_transposing_the_weights_transposes_the_mask() -> None:
    weights = np.random.default_rng(8).standard_normal((24, 40))
    for search in (transposable_mask, *FAST):
        for pattern in (TWO_OF_FOUR, FOUR_OF_EIGHT):
            np.testing.assert_array_equal(search(weights.T, pattern), search(weights, pattern).T)
            np.testing.assert_array_equal(search(weights.T, pattern, (1, 0)), search(weights, pattern).T)


def test_of_equal_masks_the_one_with_the_lower_indices_is_kept() -> None:
    expected = [[True, True, False, False]] * 2 + [[False, False, True, True]] * 2
    assert transposable_mask(np.ones((4, 4)), TWO_OF_FOUR).tolist() == expected


def test_near_equal_masks_are_told_apart_beyond_single_precision() -> None:
    block = np.full((4, 4), 1e8)
    block[2:, :2] += 1.0
    block[:2, 2:] += 1.0
    assert transposable_mask(block, TWO_OF_FOUR)[2:, :2].all()


@given(st.integers(5, 10), st.integers(0, 2**32 - 1))
def test_weights_of_any_scale_and_many_near_ties_have_a_best_mask(m: int, seed: int) -> None:
    """Sums of such weights round, and two ways round a cycle that should cost the same may not: the search must end all the same."""
    rng = np.random.default_rng(seed)
    weights = rng.choice([0.1, 0.2, 0.3, 0.7, 1e-9], (m, 4 * m)) * 10.0 ** rng.choice([-300, -3, 0, 200])
    mask = transposable_mask(weights, NMPattern(m // 2, m))
    assert (split_blocks(mask, m).sum(axis=1) == m // 2).all()
    scale = np.abs(weights).max()
    blocks = split_blocks(np.rint(weights / scale * 1e12).astype(np.int64), m)
    best = sum(most_by_network_simplex(block, m // 2) for block in blocks)
    # The whole numbers given to network simplex are rounded in the twelfth digit.
    assert np.abs(weights[mask] / scale).sum() * 1e12 == pytest.approx(best, abs=weights.size)


def test_without_numba_the_flow_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = side_by_side(3, 8, seed=9)
    compiled = transposable_mask(weights, FOUR_OF_EIGHT)
    monkeypatch.setattr(regular_flow, "_compiled", lambda: regular_flow._route)
    np.testing.assert_array_equal(transposable_mask(weights, FOUR_OF_EIGHT), compiled)


def test_the_patterns_are_listed_once_each() -> None:
    for pattern, count in ((NMPattern(1, 2), 2), (TWO_OF_FOUR, 90), (NMPattern(1, 4), 24), (NMPattern(3, 4), 24), (NMPattern(4, 4), 1)):
        masks = regular_patterns(pattern)
        assert len({mask.tobytes() for mask in masks}) == len(masks) == count
    with pytest.raises(InputError, match="listed up to M = 4"):
        regular_patterns(FOUR_OF_EIGHT)


def test_what_has_no_best_mask_is_refused() -> None:
    with pytest.raises(InputError, match="infinity"):
        transposable_mask(np.array([[1.0, -np.inf], [0, 0]]), TWO_OF_FOUR)
    for search in (transposable_mask, *FAST):
        with pytest.raises(InputError, match="NaN"):
            search(np.full((4, 4), np.nan), TWO_OF_FOUR)
        with pytest.raises(InputError, match="axes"):
            search(np.ones(8), TWO_OF_FOUR)


def test_empty_weights_have_an_empty_mask() -> None:
    for search in (transposable_mask, *FAST):
        for pattern in (TWO_OF_FOUR, FOUR_OF_EIGHT):
            assert search(np.zeros((0, 8)), pattern).shape == (0, 8)
