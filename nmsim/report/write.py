"""Writes a report: the page, and each figure as SVG, PNG and the CSV it was drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nmsim.errors import InputError
from nmsim.report.figures import FIGURES
from nmsim.report.figures.spec import FigureSpec
from nmsim.report.kernels import kernel_frame
from nmsim.report.page import PlacedFigure, Section, StudySection, render_page
from nmsim.report.study import Study, best_points, point_names, read_study, study_of
from nmsim.report.study_figures import STUDY_FIGURES
from nmsim.report.style import figure_style, save_figure
from nmsim.report.tables import run_names
from nmsim.result.points import is_sweep
from nmsim.result.rows import SimulationResult
from nmsim.result.store import read_results

MAX_SECTIONS = 12
"""Runs shown in detail."""
SWEEP_SECTIONS = 2
"""Points of a sweep shown in detail: the one that gains most, and the first."""
PAGE = "index.html"


@dataclass(frozen=True)
class ReportFiles:
    """What was written: the page, and every other file in the order of the page."""

    page: Path
    files: tuple[Path, ...]


def write_report(results_dir: Path, out_dir: Path, *, runs: int | None = None, png: bool = True) -> ReportFiles:
    """Read the results under `results_dir` and write `out_dir`/index.html and `out_dir`/figures/.

    Several runs get figures across them first, then `runs` of them in detail (all up to MAX_SECTIONS; SWEEP_SECTIONS of a sweep);
    `png` False leaves the figures' PNG out. Equal results give equal files.
    InputError where results cannot be read or the report cannot be written.
    """
    study: Study | None = None
    if is_sweep(results_dir):
        study = read_study(results_dir)
        keys = best_points(study, SWEEP_SECTIONS if runs is None else runs)
        results = [read_results(results_dir / key)[0] for key in keys]
        names = [point_names(study)[key] for key in keys]
    else:
        results = list(read_results(results_dir))
        names = run_names(results)
        study = study_of(results) if len(results) > 1 and all(result.rows for result in results) else None
    for result in results:
        if not result.rows:
            raise InputError(
                f"the run of {result.trace} on {result.arch} holds no kernels", file=results_dir, fix="simulate a trace with GEMMs"
            )
    detailed = results[: MAX_SECTIONS if runs is None else runs] if study is not None else results
    try:
        return _Writer(out_dir, png).write(study, results, list(zip(names, detailed, strict=False)))
    except OSError as error:
        raise InputError(
            f"cannot write the report here ({error.strerror or error})", file=out_dir, fix="choose another folder with --out"
        ) from None


class _Writer:
    """Writes the files of one report, and knows which it wrote."""

    def __init__(self, out_dir: Path, png: bool) -> None:
        self._out_dir, self._png = out_dir, png
        self._files: list[Path] = []

    def write(
        self, study: Study | None, results: Sequence[SimulationResult], detailed: Sequence[tuple[str, SimulationResult]]
    ) -> ReportFiles:
        """`detailed` are names and runs."""
        study_section = None if study is None else self._study_section(study)
        sections = [self._section(number, name, result, is_alone=study is None) for number, (name, result) in enumerate(detailed, 1)]
        page = self._out_dir / PAGE
        self._out_dir.mkdir(parents=True, exist_ok=True)
        page.write_text(render_page(results, sections, study_section), encoding="utf-8")
        return ReportFiles(page, tuple(self._files))

    def _study_section(self, study: Study) -> StudySection:
        folder = "figures/study"
        (self._out_dir / folder).mkdir(parents=True, exist_ok=True)
        figures = [self._figure(spec, spec.data(study), folder) for spec in STUDY_FIGURES]
        self._csv(study.totals, f"{folder}/points.csv")
        return StudySection(study, tuple(figure for figure in figures if figure is not None), folder)

    def _section(self, number: int, name: str, result: SimulationResult, *, is_alone: bool) -> Section:
        anchor = f"run-{number}"
        folder = "figures" if is_alone else f"figures/{anchor}"
        (self._out_dir / folder).mkdir(parents=True, exist_ok=True)
        figures = [self._figure(spec, spec.data(result), folder) for spec in FIGURES]
        self._csv(kernel_frame(result), f"{folder}/kernels.csv")
        return Section(anchor, name, result, tuple(figure for figure in figures if figure is not None), folder)

    def _figure(self, spec: FigureSpec[Any], data: pd.DataFrame, folder: str) -> PlacedFigure | None:
        """The files of one figure; None where there is nothing to show."""
        if data.empty:
            return None
        stem = f"{folder}/{spec.name}"
        self._csv(data, f"{stem}.csv")
        with figure_style():
            written = save_figure(spec.draw(data), self._out_dir / stem, png=self._png)
        self._files += written
        return PlacedFigure(spec.name, spec.title, spec.caption, written[0].read_text(encoding="utf-8"), stem, self._png)

    def _csv(self, data: pd.DataFrame, name: str) -> None:
        data.to_csv(self._out_dir / name, index=False, lineterminator="\n")
        self._files.append(self._out_dir / name)
