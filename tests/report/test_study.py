"""Figures across runs: their numbers are those of the points, their texts can be read, and the page says what they show."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from nmsim.errors import InputError
from nmsim.report.figures.spec import FigureSpec
from nmsim.report.findings import findings
from nmsim.report.study import Study, best_points, density_of, differing_words, point_names, read_study, short_key, study_of
from nmsim.report.study_figures import STUDY_FIGURES, density, limits, pareto, tornado, variants
from nmsim.report.style import figure_style
from nmsim.report.write import write_report
from nmsim.result.points import is_sweep, read_totals
from nmsim.result.store import read_results
from tests.report.conftest import FACTORS, PATTERNS, RECIPES, build_result, build_sweep
from tests.report.test_figures import drawn_texts
from tests.report.test_write import Page

by_name = pytest.mark.parametrize("spec", STUDY_FIGURES, ids=lambda spec: spec.name)
SPARSE_SHARES = list(limits.SHARES.values())


@pytest.fixture(scope="module")
def study(sweep_folder: Path) -> Study:
    return read_study(sweep_folder)


def test_a_study_has_every_point_and_those_that_failed(study: Study, sweep_folder: Path) -> None:
    assert is_sweep(sweep_folder)
    assert len(study.traced) == len(PATTERNS) * len(RECIPES) * 4
    assert study.failed["error"].tolist() == ["no such <i>pattern</i>, got '1:16'"]
    stored = read_totals(sweep_folder)
    assert study.traced["speedup_vs_dense"].tolist() == stored[stored["scheme"] == "traced"]["speedup_vs_dense"].tolist()


def test_accuracy_counts_only_where_the_pattern_was_trained(study: Study) -> None:
    trained = study.traced[study.traced["pattern"] == "2:4"]
    assert dict(zip(trained["recipe"], trained["held_out_accuracy"], strict=True)) == RECIPES
    assert study.traced.loc[study.traced["pattern"] != "2:4", "held_out_accuracy"].isna().all()


@pytest.mark.parametrize(("pattern", "share"), [("dense", 1.0), ("2:4", 0.5), ("1:16", 1 / 16), ("mixed", None)])
def test_density_of_a_pattern(pattern: str, share: float | None) -> None:
    assert density_of(pattern) == share


@pytest.mark.parametrize(
    ("key", "short"),
    [
        ("shared_memory.banks", "banks"),
        ("tensor_core.register_read_bytes_per_cycle", "register_read"),
        ("dram.bandwidth_gb_per_s", "dram"),
        ("l2.bytes_per_cycle_per_slice", "l2"),
        ("clock.boost_mhz", "boost"),
        ("sm.count", "count"),
        ("count", "count"),
    ],
)
def test_a_key_goes_by_what_it_is_about(key: str, short: str) -> None:
    assert short_key(key) == short


def test_the_speed_up_of_a_patterns_products_is_of_the_gemms_that_run_it(study: Study, sweep_folder: Path) -> None:
    frame = density.data(study)
    point = study.traced.iloc[0]
    result = read_results(sweep_folder / point["point_key"])[0]
    ran = {row.gemm_id for row in result.rows if row.scheme == "traced" and row.ran_sparse and row.native_pattern == point["pattern"]}
    times = {scheme: sum(row.time_us for row in result.rows if row.scheme == scheme and row.gemm_id in ran) for scheme in result.total}
    assert frame["sparse_speedup"].iloc[0] == pytest.approx(times["dense"] / times["traced"])
    assert frame["sparse_speedup"].iloc[0] == pytest.approx(1 / PATTERNS["2:4"])
    assert frame["step_speedup"].iloc[0] == point["speedup_vs_dense"]
    assert frame.groupby("series")["density"].agg(lambda one: one.is_monotonic_decreasing).all()


def test_the_parts_of_a_bar_are_its_time_against_dense(study: Study) -> None:
    frame = limits.data(study)
    assert frame[SPARSE_SHARES].sum(axis=1).to_numpy() == pytest.approx((100 / frame["speedup"]).to_numpy())
    dense = frame[frame["pattern"] == "dense"]
    assert dense[SPARSE_SHARES].sum(axis=1).to_numpy() == pytest.approx(100)
    assert len(dense) == frame["machine"].nunique() == 2
    assert frame.loc[frame["machine"] == frame["machine"].iloc[0], "pattern"].tolist() == ["dense", *PATTERNS]


def test_a_parameter_moves_the_speed_up_by_what_it_was_made_to(tmp_path: Path) -> None:
    frame = tornado.data(read_study(build_sweep(tmp_path, layers=1)))
    swept = frame[(frame["metric"] == "sparse_speedup") & (frame["pattern"] == "1:8")].set_index("parameter")
    assert set(swept.index) == {name.split("=")[0] for name in FACTORS}
    for override, factors in FACTORS.items():
        name, value = (str(part) for part in override.split("="))
        row = swept.loc[[name]].to_dict("records")[0]
        assert (row["value"], row["base"], row["points"]) == (value, "1", 2)
        assert row["ratio"] == pytest.approx(1 / factors["1:8"])
    assert (frame.loc[frame["metric"] == "time_us", "ratio"] <= 1).all()


def test_a_point_is_on_the_front_where_no_other_is_cheaper_and_as_accurate(study: Study) -> None:
    frame = pareto.data(study)
    assert set(frame["recipe"]) == set(RECIPES)
    for cost, front in pareto.FRONTS.items():
        points = list(zip(frame[cost], frame["held_out_accuracy"], frame[front], strict=True))
        assert any(on_front for *_, on_front in points)
        for (time, accuracy, _), (other_time, other_accuracy, other_on_front) in itertools.permutations(points, 2):
            if time < other_time and accuracy > other_accuracy:
                assert not other_on_front
    assert (frame["run_time_s"] / frame["time_s"]).to_numpy() == pytest.approx(frame["steps"].to_numpy())


def test_a_run_of_several_stages_costs_what_its_steps_cost_and_a_stage_is_no_point(tmp_path: Path) -> None:
    study = read_study(build_sweep(tmp_path, ("sr-ste", "asp", "bdwp"), overrides=(), layers=1))
    stages = ((300.0, "bert_asp"), (100.0, "bert_sr-ste"))
    totals = study.totals.copy()
    totals["schedule"] = totals["recipe"].map(lambda recipe: stages if recipe == "sr-ste" else ())
    totals.loc[totals["recipe"] == "asp", "time_us"] *= 2
    frame = pareto.data(replace(study, totals=totals)).set_index("recipe")
    assert set(frame.index) == {"sr-ste", "bdwp"}
    own_s = float(frame["time_s"]["sr-ste"])
    assert frame["run_time_s"]["sr-ste"] == pytest.approx(300 * 2 * own_s + 100 * own_s)
    assert frame["run_time_s"]["bdwp"] == pytest.approx(400 * own_s)


def test_a_run_that_the_sweep_added_up_is_taken_as_it_is(study: Study) -> None:
    """A stage that is a later checkpoint of another trace is known to the sweep alone."""
    totals = study.totals.copy()
    known = totals["recipe"] == "asp"
    totals.loc[known, ["run_time_s", "run_energy_j"]] = (12.5, 3000.0)
    frame = pareto.data(replace(study, totals=totals)).set_index("recipe")
    assert (frame["run_time_s"]["asp"], frame["run_energy_j"]["asp"]) == (12.5, 3000.0)
    assert frame["run_time_s"].drop("asp").to_numpy() == pytest.approx((frame["time_s"] * frame["steps"]).drop("asp").to_numpy())


def test_a_pattern_that_ran_nowhere_is_said_and_has_no_bar(study: Study) -> None:
    sparsest = study.traced.loc[study.traced["pattern"] == "1:8", "point_key"]
    without = replace(study, products=study.products[~study.products["point_key"].isin(sparsest)])
    said = findings(without)
    assert "No product ran 1:8 on 4 of 4 machines: those steps are dense with the recipe's passes on top." in said
    assert not any("1:8" in one and "ideal" in one for one in said)
    assert not any("nan" in one for one in said)
    assert set(limits.data(without)["pattern"]) == {"dense", "2:4", "1:4"}
    points = density.data(without)
    assert points.loc[points["pattern"] == "1:8", "sparse_speedup"].isna().all()
    for spec in STUDY_FIGURES:
        with figure_style():
            spec.draw(spec.data(without)).draw_without_rendering()


def test_a_pattern_that_runs_as_another_says_as_which(study: Study) -> None:
    products = study.products.assign(native=study.products["native"].replace("1:8", "1:4"))
    said = " ".join(findings(replace(study, products=products)))
    assert "1:8 (run as 1:4) " in said
    assert "1:4 (run" not in said


def test_machines_are_ordered_by_what_their_sparsest_pattern_gains(study: Study) -> None:
    frame = variants.data(study)
    gains = frame[frame["pattern"] == "1:8"]["sparse_speedup"].tolist()
    assert gains[1:] == sorted(gains[1:], reverse=True)
    assert frame["name"].nunique() == 4 * len(RECIPES) <= variants.MAX_ROWS


def test_the_points_shown_in_detail_are_the_best_and_the_first(study: Study) -> None:
    best, first = best_points(study, 2)
    assert best == study.traced.nlargest(1, "speedup_vs_dense")["point_key"].iloc[0]
    assert first == study.traced["point_key"].iloc[0]
    assert best_points(study, 0) == []


def test_a_dense_point_is_shown_in_detail_only_where_nothing_is_sparse(study: Study) -> None:
    """However fast: a step that runs dense explains nothing of a pattern."""
    totals, fast = study.totals.copy(), study.traced["point_key"].iloc[0]
    totals.loc[totals["point_key"] == fast, ["density", "speedup_vs_dense"]] = (1.0, 99.0)
    assert fast not in best_points(replace(study, totals=totals), 2)
    assert fast == best_points(replace(study, totals=totals.assign(density=1.0)), 1)[0]


def test_every_point_has_a_name_of_its_own(study: Study) -> None:
    names = point_names(study)
    assert list(names) == list(study.traced["point_key"])
    assert len(set(names.values())) == len(names)


def test_a_batch_is_a_whole_number(study: Study) -> None:
    batches = [8, 1024] * (len(study.traced) // 2)
    said = differing_words(study.traced.assign(batch=batches))
    assert "batch 8," in said[0]
    assert "batch 1\u2009024," in said[1]


def test_findings_name_the_gain_the_limit_the_parameter_and_what_nobody_trained(study: Study) -> None:
    said = " ".join(findings(study))
    assert "36 points over 4 machines, 3 recipes, 3 patterns; 1 more could not be simulated" in said
    gain = density.data(study).iloc[0]
    assert f"2:4 {gain['sparse_speedup']:.2f}× of an ideal 2×" in said
    assert "1:8 hardly pays beside 1:4: +" in said
    assert "shared_memory.banks 1 → 64" in said
    assert "Nobody trained 1:4, 1:8 in 24 of these points" in said


@pytest.mark.parametrize("factor", [1.0, 0.98, 1.2])
def test_whether_a_sparser_pattern_pays_is_said_by_the_step(factor: float) -> None:
    steps = [{"pattern": "1:4", "density": 0.25, "step_speedup": 1.0, "sparse_speedup": 1.0}]
    steps.append({"pattern": "1:8", "density": 0.125, "step_speedup": factor, "sparse_speedup": factor})
    from nmsim.report.findings import _pays

    verdict = {1.0: "does not pay", 0.98: "does not pay", 1.2: "pays"}[factor]
    assert f"1:8 {verdict} beside 1:4" in _pays(pd.DataFrame(steps))[0]


@by_name
@pytest.mark.parametrize("recipes", [1, 3])
def test_no_text_of_a_study_covers_another_or_leaves_the_figure(
    spec: FigureSpec[Study], recipes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = spec.data(read_study(build_sweep(tmp_path, tuple(RECIPES)[:recipes], layers=1)))
    if spec.name in ("pareto", "formats") and recipes == 1:
        assert frame.empty
        return
    with figure_style():
        figure = spec.draw(frame)
        texts = drawn_texts(figure, monkeypatch)
    paper = figure.bbox.expanded(1.001, 1.001)
    assert [
        text for text, box in texts if not (paper.x0 <= box.x0 and box.x1 <= paper.x1 and paper.y0 <= box.y0 and box.y1 <= paper.y1)
    ] == []
    boxes = [(text.get_text(), box.shrunk(0.98, 0.8)) for text, box in texts if text.get_rotation() % 180 == 0]
    assert [(one, other) for (one, box), (other, other_box) in itertools.combinations(boxes, 2) if box.overlaps(other_box)] == []
    labels = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    assert labels
    assert all("(" in label and ")" in label for label in labels), "every axis names its unit"


@by_name
def test_a_study_without_sparsity_or_baseline_draws_nothing(spec: FigureSpec[Study]) -> None:
    assert spec.data(study_of([build_result(1, ("dense",), seed=1), build_result(1, ("dense",), seed=2)])).empty


def test_the_page_of_a_sweep_holds_findings_figures_points_failures_and_sources(sweep_folder: Path, tmp_path: Path) -> None:
    written = write_report(sweep_folder, tmp_path, runs=1, png=False)
    page = Page(written.page.read_text(encoding="utf-8"))
    assert not any(file.suffix == ".png" for file in written.files)
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == {written.page, *written.files}
    assert {spec.title for spec in STUDY_FIGURES} <= {title for title in (spec.title for spec in STUDY_FIGURES) if title in page.text}
    for text in (*findings(read_study(sweep_folder)), "no such <i>pattern</i>", "bert & co", "flex <b>", "3f" * 32, "points.csv"):
        assert text in page.text
    assert not {"i", "b"} & set(page.tags)
    assert page.text.count("One training step, by scheme") == 1
    assert not list(write_report(sweep_folder, tmp_path / "none", runs=0, png=False).page.parent.glob("figures/run-*"))


def test_a_sweep_in_which_every_point_failed_says_why(tmp_path: Path) -> None:
    folder = build_sweep(tmp_path, layers=1)
    for point in folder.glob("*/manifest.json"):
        for file in list(point.parent.iterdir()):
            file.unlink()
    with pytest.raises(InputError, match="no point of this sweep has a result; the first says: no such"):
        read_study(folder)


def test_the_report_of_a_sweep_has_the_same_bytes_in_processes_of_other_hash_seeds(tmp_path: Path) -> None:
    sweep_folder = build_sweep(tmp_path / "sweep", overrides=tuple(FACTORS)[:1], layers=1)
    digests = []
    for seed in ("0", "4711"):
        out = tmp_path / seed
        command = [sys.executable, "-m", "nmsim", "report", str(sweep_folder), "--out", str(out), "--runs", "0"]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True)
        files = sorted(file for file in out.rglob("*") if file.is_file())
        digests.append([(str(file.relative_to(out)), hashlib.sha256(file.read_bytes()).hexdigest()) for file in files])
    assert len(digests[0]) == 14
    assert digests[0] == digests[1]
