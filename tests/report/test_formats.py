"""Sparse formats side by side, of one run and over density: equal products, passes counted, an accuracy only where one was trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from nmsim.api import simulate
from nmsim.mapping.tile_wise import even_plan
from nmsim.report.figures import formats
from nmsim.report.formats import pruned_products
from nmsim.report.kernels import kernel_frame
from nmsim.report.study import Study, read_study, study_of
from nmsim.report.study_figures import formats as over_density
from nmsim.report.style import figure_style
from nmsim.report.write import write_report
from nmsim.result.rows import SimulationResult
from nmsim.result.store import write_results
from nmsim.run.formats import FORMATS
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.catalogue import WeightStructure, linear_gemms
from nmsim.workload.gemm import PHASES, GroupCheck, MaskRecord
from nmsim.workload.trace import Provenance, Trace
from tests.report.conftest import RECIPES
from tests.report.test_figures import drawn_texts

TILE = 128
MakeResult = Callable[..., SimulationResult]
ROOT = Path(__file__).parents[2]
FLEX = ROOT / "arch_configs" / "ampere_flex_nm.yaml"
AMPERE = ROOT / "arch_configs" / "ampere.yaml"


@pytest.fixture(scope="module")
def real() -> SimulationResult:
    """A committed step under every format."""
    trace = ROOT / "workloads" / "gpt_w256_sr_ste_2to4.nmtrace"
    return simulate(AMPERE, trace, baseline=("dense", "tile_wise", *FORMATS))


def test_the_step_of_each_format_is_that_of_the_result_and_the_fastest_comes_first(real: SimulationResult) -> None:
    frame = formats.data(real)
    steps = frame[frame["part"] == formats.STEP].set_index("scheme")["speedup_vs_dense"]
    assert set(steps.index) == set(real.total) - {"dense"}
    assert steps.to_dict() == pytest.approx({scheme: real.total[scheme].speedup_vs_dense for scheme in steps.index})
    assert steps.is_monotonic_decreasing


def test_all_formats_are_measured_on_the_same_products_and_pay_for_their_passes(real: SimulationResult) -> None:
    products = pruned_products(kernel_frame(real)).set_index(["scheme", "phase"])["time_us"]
    frame = formats.data(real)
    by_phase = frame[frame["part"] != formats.STEP]
    assert by_phase.groupby("part")["dense_time_us"].nunique().to_dict() == {"forward": 1, "backward_data": 1, "backward_weight": 1}
    pruned = {row.module for row in real.rows if row.ran_sparse}
    for scheme, phase, time_us in by_phase[["scheme", "part", "time_us"]].itertuples(index=False):
        rows = [row for row in real.rows if row.scheme == scheme and row.phase == phase and row.module in pruned]
        assert time_us == pytest.approx(products[scheme, phase]) == pytest.approx(sum(row.time_us for row in rows))


def test_a_pass_that_a_product_needs_counts_with_it() -> None:
    """Tiles that add to a dX of zeros, of one pruned layer; the pass of a layer that no scheme prunes is left out with it."""
    rows = [("fc", "forward", "dense", False), ("fc", "backward_data", "dense", False), ("head", "forward", "dense", False)]
    rows += [("fc", "backward_data", "tile_wise", True), ("fc", "backward_data", "tile_wise", False), ("fc", "other", "tile_wise", False)]
    kernels = pd.DataFrame(rows, columns=["module", "phase", "scheme", "ran_sparse"]).assign(time_us=10.0, energy_j=1.0, cycles=5.0)
    found = pruned_products(kernels).set_index(["scheme", "phase"])
    assert found["time_us"].to_dict() == {("dense", "forward"): 10, ("dense", "backward_data"): 10, ("tile_wise", "backward_data"): 20}
    assert found["ran_sparse"].to_dict()["tile_wise", "backward_data"]


def test_the_executed_share_counts_what_both_kinds_of_cores_multiply(real: SimulationResult) -> None:
    """Single elements at 1/2 are half of the MACs; 2:4 of all of W halves forward alone; what ran dense executes what dense does."""
    frame = formats.data(real).set_index(["scheme", "part"])
    shares = frame["executed_share"]
    assert [shares["unstructured", part] for part in PHASES] == pytest.approx([0.5] * 3, rel=0.02)
    assert shares["traced", "forward"] == 0.5
    assert shares[~frame["ran_sparse"]].eq(1).all()
    assert shares["traced", formats.STEP] == pytest.approx((0.5 + 1 + 1) / 3, rel=0.01)
    assert 0.5 < shares["tile_wise", "forward"] < 0.6, "kept rows of a tile are padded to a k-tile"


def test_every_baseline_of_a_real_run_says_what_it_keeps(real: SimulationResult) -> None:
    """The reasons of their products say it, of those too that run dense because the format is slower."""
    found = formats.data(real).drop_duplicates("scheme").set_index("scheme")
    assert found["density"].eq(0.5).all()
    assert found["name"].to_dict() == {
        "traced": "traced: sr-ste 2:4",
        "tile_wise": "tile-wise, 1/2",
        "block_sparse": "block sparse, 1/2",
        "vector_wise": "vector-wise, 1/2",
        "unstructured": "unstructured, 1/2",
        "tew": "TEW, 1/2",
        "tvw": "TVW, 1/2",
    }


def test_an_accuracy_is_that_of_what_was_trained_and_of_nothing_else(make_result: MakeResult) -> None:
    result = make_result(2)
    assert accuracies(result) == {"traced": 0.9174, "tile_wise": None}
    in_tiles = replace(result, provenance={**result.provenance, "recipe": "tile-wise"})
    assert accuracies(in_tiles) == {"traced": 0.9174, "tile_wise": 0.9174}
    untrained = replace(result, provenance={**result.provenance, "kind": "initialised"})
    assert set(accuracies(untrained).values()) == {None}
    drawn = words_of(formats.data(result))
    assert "91.7 %" in drawn
    assert formats.NOT_TRAINED in drawn


def accuracies(result: SimulationResult) -> dict[str, float | None]:
    frame = formats.data(result).drop_duplicates("scheme").set_index("scheme")["held_out_accuracy"]
    return {str(scheme): None if accuracy != accuracy else accuracy for scheme, accuracy in frame.items()}


def words_of(frame: object) -> set[str]:
    with figure_style():
        figure = formats.draw(frame)  # type: ignore[arg-type]
    return {text.get_text() for axes in figure.axes for text in axes.texts}


@pytest.mark.parametrize(("slowest", "fastest"), [(0.9, 1.05), (0.14, 1.5), (0.05, 4), (0.01, 1.05), (0.01, 30)])
def test_numbers_on_the_axis_stand_apart_and_one_of_them_is_one(
    real: SimulationResult, slowest: float, fastest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = formats.data(real)
    frame.loc[frame.index[:2], "speedup_vs_dense"] = slowest, fastest
    frame["speedup_vs_dense"] = frame["speedup_vs_dense"].clip(slowest, fastest)
    with figure_style():
        figure = formats.draw(frame)
        boxes = dict(drawn_texts(figure, monkeypatch))
    for axes in figure.axes[:-1]:
        level = [(text.get_text(), boxes[text]) for text in axes.get_xticklabels() if text in boxes]
        assert "1" in dict(level)
        assert not any(box.expanded(1.2, 1).overlaps(other) for (_, box), (_, other) in pairwise(level))


def test_a_product_that_ran_dense_says_so_beside_its_ratio(real: SimulationResult) -> None:
    """SR-STE's backward_weight has no sparse operand."""
    frame = formats.data(real)
    dense = frame[(frame["scheme"] == "traced") & (frame["part"] == "backward_weight")]
    assert not dense["ran_sparse"].any()
    assert "1.00×, dense" in words_of(frame)


def test_the_report_of_a_run_with_such_baselines_has_the_figure(make_result: MakeResult, tmp_path: Path) -> None:
    write_results([make_result(1, schemes=("traced", "dense", "block_sparse"))], tmp_path / "results")
    page = write_report(tmp_path / "results", tmp_path / "report").page.read_text(encoding="utf-8")
    assert "by sparse format" in page
    assert all((tmp_path / "report" / "figures" / f"formats.{ending}").stat().st_size > 500 for ending in ("svg", "png", "csv"))


@pytest.fixture(scope="module")
def at_two_densities() -> Study:
    """A committed step at 2:4 and at 1:4, baselines as dense as the pattern."""
    trace = ROOT / "workloads" / "gpt_w256_sr_ste_2to4.nmtrace"
    return study_of([simulate(FLEX, trace, pattern=pattern, baseline=("dense", "tile_wise", *FORMATS)) for pattern in ("2:4", "1:4")])


def test_each_format_is_at_the_density_that_it_keeps_with_the_speed_ups_of_its_point(at_two_densities: Study) -> None:
    frame = over_density.data(at_two_densities)
    assert set(frame["series"]) == {"N:M, sr-ste", "tile-wise", "block sparse", "vector-wise", "unstructured", "TEW", "TVW"}
    assert frame.groupby("series")["density"].agg(list).map(tuple).unique().tolist() == [(0.5, 0.25)]
    totals = at_two_densities.totals.set_index(["scheme", "pattern"])["speedup_vs_dense"]
    assert frame["step_speedup"].tolist() == [
        totals[scheme, pattern] for scheme, pattern in zip(frame["scheme"], frame["pattern"], strict=True)
    ]
    pruned = at_two_densities.pruned.pivot_table(index="point_key", columns="scheme", values="time_us", aggfunc="sum")
    ratios = {round(one["dense"] / one[scheme], 9) for one in pruned.to_dict("records") for scheme in one}
    assert set(frame["products_speedup"].round(9)) <= ratios


def test_formats_on_cuda_cores_gain_what_sparsity_takes_away(at_two_densities: Study) -> None:
    """Half of the kept weights are half of the flops there, launches aside."""
    frame = over_density.data(at_two_densities)
    gains = frame[frame["series"] == "unstructured"]["products_speedup"].tolist()
    assert 1.2 < gains[1] / gains[0] < 2.05


def test_accuracies_are_those_of_trained_patterns_and_the_others_are_named(sweep_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2:4, 1:4 and 1:8 the sweep trained the first alone."""
    frame = over_density.data(read_study(sweep_folder))
    trained = frame[frame["held_out_accuracy"].notna()]
    assert dict(zip(trained["recipe"], trained["held_out_accuracy"], strict=True)) == RECIPES
    assert set(trained["pattern"]) == {"2:4"}
    untrained = frame.assign(held_out_accuracy=frame["held_out_accuracy"].where(frame["recipe"] != "asp"))
    with figure_style():
        texts = {text.get_text() for text, _ in drawn_texts(over_density.draw(untrained), monkeypatch)}
    assert "not trained: N:M, asp" in texts


def test_a_study_in_which_nothing_was_trained_shows_no_accuracies(at_two_densities: Study) -> None:
    frame = over_density.data(at_two_densities)
    with figure_style():
        drawn = over_density.draw(frame.assign(held_out_accuracy=float("nan")))
    assert [axes.get_title(loc="left") for axes in drawn.axes] == list(over_density.PANELS.values())


def of_one_layer(pattern: str) -> SimulationResult:
    """A linear layer of BERT-base at `pattern`, and tiles that keep as much, the same share of columns and of rows, on a V100."""
    tokens, inputs, outputs = 3200, 768, 3072
    recorded = NMPattern.parse(pattern)
    structure = WeightStructure(recorded, 1, "fc")
    gemms = linear_gemms("fc", tokens, inputs, outputs, "fp16", weight_structure={"forward": structure, "backward_data": structure})
    mask = MaskRecord(
        (outputs, inputs), float(recorded.density), "0" * 64, False, {1: GroupCheck(recorded, outputs * inputs // recorded.m, 0)}
    )
    side = float(recorded.density) ** 0.5
    plan = even_plan(inputs, outputs, TILE, round(outputs * side / TILE) * TILE, round(inputs * side))
    density = str(recorded.density)
    provenance = Provenance("shapes-only", "a layer", "none", "none", {}, 0, 0, None, None, {})
    trace = Trace("layer", provenance, 1, "fp16", tuple(gemms), masks={"fc": mask}, tile_wise={density: {"fc": plan}}, own_density=density)
    return simulate(ROOT / "arch_configs" / "volta.yaml", trace, baseline=("dense", "tile_wise", *FORMATS))


def test_one_layer_over_sparsity_ranks_the_formats_as_their_authors_found_them() -> None:
    """Guo et al., SC20, on a V100's tensor cores: tile-wise gains most, what TEW restores costs it most of that, and neither vectors nor
    single elements pay at 75 %, on CUDA cores as they are. All gain with sparsity.
    """
    ratios = {}
    for pattern in ("2:4", "1:4"):
        frame = formats.data(of_one_layer(pattern))
        ratios[pattern] = frame[frame["part"] == "forward"].set_index("scheme")["speedup_vs_dense"].to_dict()
    at_75 = ratios["1:4"]
    assert at_75["tile_wise"] > 2
    assert at_75["tile_wise"] > 1.5 * max(at_75[scheme] for scheme in ("block_sparse", "tew", "vector_wise", "unstructured"))
    assert max(at_75["vector_wise"], at_75["unstructured"]) < 1
    assert at_75["traced"] == 1, "a V100 holds no N:M"
    for scheme in ("tile_wise", "block_sparse", "vector_wise", "unstructured", "tew"):
        assert at_75[scheme] > ratios["2:4"][scheme]
