"""What counts and what does not: fitted rows never do, and a bar without rows is no pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.validation.bars import Bar, SuiteBars
from nmsim.validation.fitted import FittedRow
from nmsim.validation.judge import SuiteReport, judge
from nmsim.validation.measured import Check, Comparison, Measured

FIT = FittedRow("a", "x.yaml", "energy.mac_pj", "somebody", "by hand")


def row(name: str, simulated: float, published: float = 100.0, tags: tuple[str, ...] = ("time",)) -> Comparison:
    return Comparison(name, "time", "us", published, simulated, frozenset(tags), "a paper")


def bar(statistic: str = "mean_error_percent", limit: float = 10.0, rows: tuple[str, ...] = ("time",), but: tuple[str, ...] = ()) -> Bar:
    return Bar.model_validate({"name": "bar", "statistic": statistic, "limit": limit, "rows": rows, "but": but, "why": "because"})


def judged(*rows: Comparison, bars: SuiteBars, checks: tuple[Check, ...] = (), left_out: tuple[str, ...] = ()) -> SuiteReport:
    return judge("suite", "title", Measured(rows, checks, left_out), bars, [FIT])


def test_a_fitted_row_is_shown_and_not_counted() -> None:
    report = judged(row("a", 100.0), row("b", 115.0), bars=SuiteBars(bars=(bar(),)))
    assert [one.standing for one in report.rows] == ["fitted", "counted"]
    assert report.rows[0].fitted_to == ("energy.mac_pj",)
    assert report.verdicts[0].value == pytest.approx(15.0)  # not 7.5, the mean with the fitted row
    assert not report.passed


def test_a_suite_of_fitted_rows_alone_fails() -> None:
    report = judged(row("a", 100.0), bars=SuiteBars(bars=(bar(),)))
    assert report.verdicts[0].passed is False
    assert "no row" in report.verdicts[0].evidence


def test_a_bar_whose_rows_a_quick_run_left_out_is_not_judged() -> None:
    report = judged(row("a", 100.0), bars=SuiteBars(bars=(bar(),)), left_out=("b: large",))
    assert report.verdicts[0].passed is None
    assert report.passed


def test_a_check_that_was_asked_for_and_not_made_fails() -> None:
    asked = SuiteBars(checks={"order": "the kernels rank"})
    assert not judged(bars=asked).passed
    assert judged(bars=asked, checks=(Check("order", True, ""),)).passed
    assert not judged(bars=asked, checks=(Check("order", False, ""),)).passed


def test_bars_choose_rows_by_all_of_their_tags_and_none_of_the_others() -> None:
    chosen = bar(rows=("time", "large"), but=("elsewhere",))
    assert chosen.chooses(row("b", 1, tags=("time", "large", "dense")))
    assert not chosen.chooses(row("b", 1, tags=("time",)))
    assert not chosen.chooses(row("b", 1, tags=("time", "large", "elsewhere")))


positive = st.floats(min_value=1e-3, max_value=1e6)


@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=8))
def test_the_mean_error_is_no_larger_than_the_worst_and_both_are_free_of_units(pairs: list[tuple[float, float]]) -> None:
    rows = [row(f"b{index}", simulated, published) for index, (published, simulated) in enumerate(pairs)]
    scaled = [row(f"b{index}", 3 * simulated, 3 * published) for index, (published, simulated) in enumerate(pairs)]
    mean, worst = bar("mean_error_percent"), bar("worst_error_percent")
    assert 0 <= mean.value(rows) <= worst.value(rows) * (1 + 1e-12)
    assert mean.value(scaled) == pytest.approx(mean.value(rows), rel=1e-6, abs=1e-9)


def test_a_difference_keeps_its_unit() -> None:
    assert bar("worst_difference").value([row("b", 24.0, 25.5), row("c", 18.0, 17.5)]) == pytest.approx(1.5)
