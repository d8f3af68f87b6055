"""Sparse formats side by side: equal products, their passes counted, an accuracy only where one was trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nmsim.api import simulate
from nmsim.report.figures import formats
from nmsim.report.formats import kept_density, pruned_products
from nmsim.report.kernels import kernel_frame
from nmsim.report.style import figure_style
from nmsim.report.write import write_report
from nmsim.result.rows import SimulationResult
from nmsim.result.store import write_results
from nmsim.run.formats import FORMATS

MakeResult = Callable[..., SimulationResult]
ROOT = Path(__file__).parents[2]
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
        if scheme == "tew":
            assert {row.kind for row in rows} == {"gemm", "pass"}


def test_every_baseline_of_a_real_run_says_what_it_keeps(real: SimulationResult) -> None:
    """That the kernels' reasons can be read is what this rests on."""
    frame = formats.data(real)
    assert set(frame["density"]) == {0.5}
    assert set(frame.loc[frame["scheme"] != "traced", "name"].str.rpartition(", ")[2]) == {"1/2"}
    for scheme in ("tile_wise", "block_sparse", "unstructured", "tew"):
        assert kept_density(row.reason for row in real.rows if row.scheme == scheme and row.ran_sparse) == 0.5


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
