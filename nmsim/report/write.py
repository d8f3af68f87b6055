"""Writes a report: the page, and each figure as SVG, PNG and the CSV it was drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nmsim.errors import InputError
from nmsim.report.figures import FIGURES, FigureSpec
from nmsim.report.kernels import kernel_frame
from nmsim.report.page import PlacedFigure, Section, render_page
from nmsim.report.style import figure_style, save_figure
from nmsim.result.rows import SimulationResult
from nmsim.result.store import read_results

MAX_SECTIONS = 12
"""Runs shown in detail; the overview has all."""
PAGE = "index.html"


@dataclass(frozen=True)
class ReportFiles:
    """What was written: the page, and every other file in the order of the page."""

    page: Path
    files: tuple[Path, ...]


def write_report(results_dir: Path, out_dir: Path) -> ReportFiles:
    """Read the results under `results_dir` and write `out_dir`/index.html and `out_dir`/figures/.

    Equal results give equal files. InputError where results cannot be read or the report cannot be written.
    """
    results = read_results(results_dir)
    for result in results:
        if not result.rows:
            raise InputError(
                f"the run of {result.trace} on {result.arch} holds no kernels", file=results_dir, fix="simulate a trace with GEMMs"
            )
    try:
        return _write(results, out_dir)
    except OSError as error:
        raise InputError(
            f"cannot write the report here ({error.strerror or error})", file=out_dir, fix="choose another folder with --out"
        ) from None


def _write(results: Sequence[SimulationResult], out_dir: Path) -> ReportFiles:
    sections: list[Section] = []
    for number, result in enumerate(results[:MAX_SECTIONS], 1):
        anchor = f"run-{number}"
        folder = "figures" if len(results) == 1 else f"figures/{anchor}"
        (out_dir / folder).mkdir(parents=True, exist_ok=True)
        _write_csv_of_kernels(result, out_dir / folder)
        figures = [_write_figure(spec, result, out_dir, folder) for spec in FIGURES]
        sections.append(Section(anchor, result, tuple(figure for figure in figures if figure is not None), folder))
    page = out_dir / PAGE
    page.write_text(render_page(results, sections), encoding="utf-8")
    stems = [out_dir / figure.stem for section in sections for figure in section.figures]
    files = [stem.with_suffix(ending) for stem in stems for ending in (".svg", ".png", ".csv")]
    return ReportFiles(page, (*files, *(out_dir / section.folder / "kernels.csv" for section in sections)))


def _write_figure(spec: FigureSpec, result: SimulationResult, out_dir: Path, folder: str) -> PlacedFigure | None:
    """The files of one figure; None where the result has nothing for it."""
    data = spec.data(result)
    if data.empty:
        return None
    stem = f"{folder}/{spec.name}"
    data.to_csv(out_dir / f"{stem}.csv", index=False, lineterminator="\n")
    with figure_style():
        svg, _ = save_figure(spec.draw(data), out_dir / stem)
    return PlacedFigure(spec.name, spec.title, spec.caption, svg.read_text(encoding="utf-8"), stem)


def _write_csv_of_kernels(result: SimulationResult, folder: Path) -> None:
    kernel_frame(result).to_csv(folder / "kernels.csv", index=False, lineterminator="\n")
