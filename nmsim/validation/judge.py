"""Rows against bars: what counts, what does not and why, and whether the suite passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nmsim.validation.bars import Bar, SuiteBars
from nmsim.validation.fitted import FittedRow, constants_fitted_to
from nmsim.validation.measured import Check, Comparison, Measured, Series


@dataclass(frozen=True)
class JudgedRow:
    """A row with what it was fitted to and which bars count it."""

    comparison: Comparison
    fitted_to: tuple[str, ...]
    bars: tuple[str, ...]
    """Names of the bars that count it; none for a fitted row and for one that is only reported."""

    @property
    def standing(self) -> str:
        """`fitted`, `counted` or `reported`."""
        return "fitted" if self.fitted_to else "counted" if self.bars else "reported"

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys."""
        row = self.comparison
        return {
            "row": row.row,
            "quantity": row.quantity,
            "unit": row.unit,
            "published": row.published,
            "simulated": row.simulated,
            "difference": row.difference,
            "error_percent": row.error_percent,
            "standing": self.standing,
            "fitted_to": list(self.fitted_to),
            "bars": list(self.bars),
            "tags": sorted(row.tags),
            "note": row.note,
            "source": row.source,
            "status": row.status,
        }


@dataclass(frozen=True)
class Verdict:
    """One bar or check, met or not."""

    name: str
    passed: bool | None
    """None where the rows it is about were left out of a quick run."""
    value: float | None
    """The statistic; None for a check, and where no row is left to judge by."""
    limit: float | None
    statistic: str
    rows: int
    why: str
    evidence: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class SuiteReport:
    """A suite, judged."""

    name: str
    title: str
    rows: tuple[JudgedRow, ...]
    verdicts: tuple[Verdict, ...]
    left_out: tuple[str, ...]
    series: tuple[Series, ...]

    @property
    def passed(self) -> bool:
        """Whether no bar and no check is missed."""
        return all(verdict.passed is not False for verdict in self.verdicts)

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys."""
        return {
            "suite": self.name,
            "title": self.title,
            "passed": self.passed,
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "rows": [row.to_json() for row in self.rows],
            "left_out": list(self.left_out),
            "series": [{"quantity": one.quantity, "points": [list(point) for point in one.points]} for one in self.series],
        }


def judge(name: str, title: str, measured: Measured, bars: SuiteBars, fitted: Sequence[FittedRow]) -> SuiteReport:
    """Judge a suite's rows. A fitted row is never counted; a bar without rows fails unless rows were left out; so does a check
    that nobody made.
    """
    fits = {row.id: constants_fitted_to(row, fitted) for row in measured.comparisons}
    counted = {bar.name: [row for row in measured.comparisons if bar.chooses(row) and not fits[row.id]] for bar in bars.bars}
    verdicts = [_bar_verdict(bar, counted[bar.name], bool(measured.left_out)) for bar in bars.bars]
    made = {check.name: check for check in measured.checks}
    verdicts += [_check_verdict(check, why, made.get(check)) for check, why in bars.checks.items()]
    rows = tuple(
        JudgedRow(row, fits[row.id], tuple(bar for bar, members in counted.items() if row in members)) for row in measured.comparisons
    )
    return SuiteReport(name, title, rows, tuple(verdicts), measured.left_out, measured.series)


def _bar_verdict(bar: Bar, counted: Sequence[Comparison], some_left_out: bool) -> Verdict:
    if not counted:
        return Verdict(bar.name, None if some_left_out else False, None, bar.limit, bar.statistic, 0, bar.why, "no row is left to judge by")
    value = bar.value(counted)
    worst = max(counted, key=lambda row: abs(row.difference if bar.statistic == "worst_difference" else row.error_percent))
    evidence = f"worst: {worst.id}, {worst.error_percent:+.1f} %"
    return Verdict(bar.name, value <= bar.limit, value, bar.limit, bar.statistic, len(counted), bar.why, evidence)


def _check_verdict(name: str, why: str, check: Check | None) -> Verdict:
    if check is None:
        return Verdict(name, False, None, None, "check", 0, why, "the suite did not make this check")
    return Verdict(name, check.holds, None, None, "check", 0, why, check.evidence)
