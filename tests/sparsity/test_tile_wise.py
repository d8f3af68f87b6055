from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.sparsity.metrics import retained_magnitude
from nmsim.sparsity.tile_wise import kept_macs, mask_of_plan, plan_network

MODES: tuple[Any, ...] = ("1d", "2d")


def transformer_layer(scale: float = 1.0) -> dict[str, np.ndarray]:
    """The four shapes of a small encoder layer, [K, N], equal in the size of their weights."""
    rng = np.random.default_rng(0)
    shapes = {"qkv": (192, 576), "out": (192, 192), "up": (192, 768), "down": (768, 192)}
    return {name: (scale * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


def test_one_dimensional_pruning_equals_the_vector(vectors: dict[str, Any]) -> None:
    case = vectors["tile_wise_pruning"]
    columns, rows = plan_network({"w": np.array(case["W_KxN"])}, 0.5, case["G"], "1d")["w"]
    assert columns.all()
    np.testing.assert_array_equal(mask_of_plan(columns, rows, case["G"]), np.array(case["tw1_50pct_mask"], dtype=bool))


def test_two_dimensional_pruning_equals_the_vector(vectors: dict[str, Any]) -> None:
    case = vectors["tile_wise_pruning"]
    expected = case["tw2_75pct"]
    columns, rows = plan_network({"w": np.array(case["W_KxN"])}, 0.25, case["G"], "2d")["w"]
    np.testing.assert_array_equal(mask_of_plan(columns, rows, case["G"]), np.array(expected["mask"], dtype=bool))
    kept = np.flatnonzero(columns).tolist()
    tiles = [(kept[case["G"] * i : case["G"] * (i + 1)], np.flatnonzero(row).tolist()) for i, row in enumerate(rows)]
    assert tiles == [(tile["cols"], tile["rows"]) for tile in expected["tiles"]]
    assert kept_macs(columns, rows, case["G"]) == expected["macs"]


def test_one_dimensional_pruning_retains_what_the_vector_says(vectors: dict[str, Any]) -> None:
    weights = np.random.default_rng(0).standard_normal((256, 256))
    plan = plan_network({"w": weights}, 0.5, 32, "1d")["w"]
    expected = vectors["retained_l1_fraction_gaussian_256x256_seed0"]["fraction"]["tw_128x_tiles_G32_50"]
    assert retained_magnitude(weights, mask_of_plan(*plan, 32)) == pytest.approx(expected, rel=1e-12)


def test_counting_elements_keeps_more_than_the_vector_that_counts_row_vectors(vectors: dict[str, Any]) -> None:
    """The vector's 2-D plan counts row vectors, however narrow, and so keeps 49.1 % of the elements where half was asked for."""
    weights = np.random.default_rng(0).standard_normal((256, 256))
    columns, rows = plan_network({"w": weights}, 0.5, 32, "2d")["w"]
    assert columns.sum() == round(np.sqrt(0.5) * 256) == 181
    tiles = np.split(np.flatnonzero(columns), range(32, 181, 32))
    scores = np.array([np.linalg.norm(weights[:, tile], axis=1) / tile.size for tile in tiles])
    by_number = scores >= np.sort(scores, axis=None)[-round(np.sqrt(0.5) * scores.size)]
    expected = vectors["retained_l1_fraction_gaussian_256x256_seed0"]["fraction"]["tw2_G32_50"]
    assert retained_magnitude(weights, mask_of_plan(columns, by_number, 32)) == pytest.approx(expected, rel=1e-12)
    assert kept_macs(columns, by_number, 32) / weights.size < 0.492
    assert kept_macs(columns, rows, 32) / weights.size == pytest.approx(0.5, abs=16 / weights.size)
    assert retained_magnitude(weights, mask_of_plan(columns, rows, 32)) > expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("density", [0.75, 0.5, 0.25, 0.125])
@pytest.mark.parametrize("tile_width", [32, 128])
def test_a_network_keeps_the_asked_share_to_within_half_a_row_vector(mode: Any, density: float, tile_width: int) -> None:
    weights = transformer_layer()
    plan = plan_network(weights, density, tile_width, mode)
    total = sum(weight.size for weight in weights.values())
    kept = sum(kept_macs(*plan[name], tile_width) for name in weights)
    assert abs(kept - density * total) <= tile_width / 2


@pytest.mark.parametrize("mode", MODES)
def test_the_mask_is_the_plan_and_macs_are_its_elements(mode: Any) -> None:
    weights = transformer_layer()
    for name, (columns, rows) in plan_network(weights, 0.3, 128, mode).items():
        mask = mask_of_plan(columns, rows)
        assert mask.shape == weights[name].shape
        assert mask.sum() == kept_macs(columns, rows)
        np.testing.assert_array_equal(mask.any(axis=0), columns)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.floats(0.01, 1), st.sampled_from(MODES), st.integers(0, 999))
def test_gathered_dense_tiles_compute_the_masked_product(k: int, n: int, width: int, density: float, mode: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, x = rng.integers(-9, 10, (k, n)), rng.integers(-9, 10, (3, k))
    columns, rows = plan_network({"w": weight}, density, width, mode)["w"]
    y, macs = np.zeros((3, n), dtype=int), 0
    kept = np.flatnonzero(columns)
    for tile, kept_rows in enumerate(rows):
        members = kept[tile * width : (tile + 1) * width]
        gathered = weight[np.ix_(kept_rows, members)]
        y[:, members] = x[:, kept_rows] @ gathered
        macs += gathered.size
    np.testing.assert_array_equal(y, x @ (weight * mask_of_plan(columns, rows, width)))
    assert macs == kept_macs(columns, rows, width)


@given(st.floats(1e-6, 1), st.sampled_from(MODES), st.integers(1, 20), st.integers(0, 999))
def test_no_layer_is_ever_dropped_and_no_tile_is_empty(density: float, mode: Any, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = {"large": 1e6 * rng.standard_normal((12, 17)), "small": 1e-6 * rng.standard_normal((5, 9)), "zero": np.zeros((4, 4))}
    for columns, rows in plan_network(weights, density, width, mode).values():
        assert columns.any()
        assert rows.shape[0] == -(-columns.sum() // width)
        assert rows.any(axis=1).all()


@pytest.mark.parametrize("mode", MODES)
def test_kept_row_vectors_score_at_least_as_high_as_dropped_ones(mode: Any) -> None:
    weights = transformer_layer()
    kept_scores, dropped_scores = [], []
    for name, (columns, rows) in plan_network(weights, 0.25, 64, mode).items():
        kept = np.flatnonzero(columns)
        for tile, kept_rows in enumerate(rows):
            scores = np.linalg.norm(weights[name][:, kept[tile * 64 : tile * 64 + 64]].astype(float), axis=1)
            scores /= min(64, kept.size - tile * 64)
            kept_scores.append(scores[kept_rows].min())
            dropped_scores.append(scores[~kept_rows].max(initial=0))
    assert min(kept_scores) >= max(dropped_scores)


def test_the_ranking_spans_the_network_so_a_layer_of_small_weights_gives_way() -> None:
    weights = transformer_layer()
    weights["out"] = weights["out"] / 100
    plan = plan_network(weights, 0.5)
    assert mask_of_plan(*plan["out"]).mean() < 0.05
    assert min(mask_of_plan(*plan[name]).mean() for name in ("qkv", "up", "down")) > 0.4


def test_layers_of_equal_weights_and_unequal_reductions_give_way_alike() -> None:
    """Ranked by norm / K, the columns of `down` (K four times as long) would score half and go first."""
    weights = transformer_layer()
    plan = plan_network(weights, 0.5, 64)
    assert all(0.5 < plan[name][0].mean() < 0.9 for name in weights)


def test_columns_are_ranked_on_the_whole_of_a_long_reduction() -> None:
    weight = np.random.default_rng(1).standard_normal((2500, 6))
    weight[:2000, :3] = 0
    weight[2000:, :3] *= 10
    columns, _ = plan_network({"w": weight}, 0.25, 3)["w"]
    assert columns.tolist() == [True] * 3 + [False] * 3


def test_full_density_keeps_everything() -> None:
    weights = transformer_layer()
    for mode in MODES:
        for columns, rows in plan_network(weights, 1.0, mode=mode).values():
            assert columns.all()
            assert rows.all()


def test_the_plan_depends_on_magnitudes_only_up_to_one_scale() -> None:
    for name, (columns, rows) in plan_network(transformer_layer(), 0.25).items():
        scaled_columns, scaled_rows = plan_network({k: -v for k, v in transformer_layer(4.0).items()}, 0.25)[name]
        np.testing.assert_array_equal(columns, scaled_columns)
        np.testing.assert_array_equal(rows, scaled_rows)


def test_ties_keep_the_earlier_index() -> None:
    columns, rows = plan_network({"w": np.ones((4, 4))}, 0.25, 2)["w"]
    assert columns.tolist() == [True, True, False, False]
    assert rows.tolist() == [[True, True, False, False]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": {}}, "there is no weight"),
        ({"density": 0.0}, r"density: a density is a share in \(0, 1\], got 0.0"),
        ({"density": 1.5}, "density"),
        ({"density": float("nan")}, "density"),
        ({"tile_width": 0}, "one column wide"),
        ({"mode": "3d"}, "1d or 2d"),
        ({"weights": {"layer.0": np.zeros((2, 2, 2))}}, "layer.0: tile-wise pruning takes"),
        ({"weights": {"layer.0": np.zeros((0, 2))}}, "non-empty"),
        ({"weights": {"layer.0": np.array([[1.0, np.nan]])}}, "layer.0: the weight holds NaN"),
    ],
)
def test_requests_that_make_no_sense_are_refused(change: dict[str, Any], message: str) -> None:
    request = {"weights": {"w": np.ones((4, 4))}, "density": 0.5, "tile_width": 2, "mode": "2d", **change}
    with pytest.raises(InputError, match=message):
        plan_network(**request)


def test_rows_that_do_not_fit_the_columns_are_refused() -> None:
    columns, rows = np.array([True, True, True, False]), np.ones((1, 4), dtype=bool)
    for measure in (mask_of_plan, kept_macs):
        with pytest.raises(InputError, match="3 kept columns make 2 tiles of 2"):
            measure(columns, rows, 2)
        with pytest.raises(InputError, match="one column wide"):
            measure(columns, rows, 0)


@pytest.mark.parametrize("mode", ["1d", "2d"])
@pytest.mark.parametrize("least", [0.0, 0.05, 0.1, 0.25])
def test_a_floor_keeps_a_share_of_a_layer_of_small_weights_and_the_density_of_the_whole(mode: Any, least: float) -> None:
    """One layer has a hundredth of the other's weights: without a floor it keeps next to nothing."""
    generator = np.random.default_rng(0)
    weights = {"large": generator.normal(size=(256, 256)), "small": 0.01 * generator.normal(size=(256, 256))}
    plans = plan_network(weights, 0.25, 32, mode, least)
    kept = {name: kept_macs(*plan, 32) / weights[name].size for name, plan in plans.items()}
    assert kept["small"] >= least
    assert sum(kept.values()) / 2 == pytest.approx(0.25, abs=0.02)
    assert least or kept["small"] < 0.01


def test_a_floor_above_the_density_is_refused() -> None:
    with pytest.raises(InputError, match="least_share: a layer can't be promised more"):
        plan_network({"fc": np.ones((64, 64))}, 0.25, 32, least_share=0.5)
