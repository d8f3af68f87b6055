"""Run suites and judge them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from typing import Any

from nmsim.errors import InputError
from nmsim.validation.bars import SuiteBars, read_bars
from nmsim.validation.fitted import read_fitted_rows
from nmsim.validation.judge import SuiteReport, judge
from nmsim.validation.measured import Context, Measured
from nmsim.validation.suites import ONLY_WHEN_NAMED, SUITES
from nmsim.version import MODEL_VERSION


def run_suites(names: Sequence[str], context: Context) -> list[SuiteReport]:
    """Run the named suites (without names all but ONLY_WHEN_NAMED) in the order of the table. InputError for a name that is none."""
    names = [name.replace("-", "_") for name in names]
    for name in names:
        if name not in SUITES:
            raise InputError("no such suite", path="SUITE", value=name, fix=f"use one of {', '.join(SUITES)}")
    bars, fitted = read_bars(), read_fitted_rows()
    reports = []
    for name, (_, title) in SUITES.items():
        if name in names or not (names or name in ONLY_WHEN_NAMED):
            asked = SuiteBars() if context.data else bars[name]  # a user's own rows are shown, not judged by our bars
            reports.append(judge(name, title, measure_suite(name, context), asked, fitted))
    return reports


def measure_suite(name: str, context: Context) -> Measured:
    """One suite's rows and checks, unjudged."""
    measured: Measured = import_module(SUITES[name][0]).measure(context)
    return measured


def as_plain_data(reports: Sequence[SuiteReport], command: str, ablation: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """All of it as one object with stable keys: what `--json` prints and `nmsim.report.validation` draws."""
    return {
        "command": command,
        "model_version": MODEL_VERSION,
        "passed": all(report.passed for report in reports),
        "suites": [report.to_json() for report in reports],
        "fitted": [asdict(row) for row in read_fitted_rows()],
        "ablation": list(ablation),
    }
