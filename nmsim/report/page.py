"""One self-contained HTML page of results: tables, figures as inline SVG, no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from nmsim.report.findings import findings
from nmsim.report.study import Study
from nmsim.report.study_tables import failed_table, identity_table, points_table, study_sources
from nmsim.report.style import inline_svg
from nmsim.report.tables import gemm_table, headlines, phase_table, provenance_table, run_sources, totals_table
from nmsim.result.rows import SimulationResult

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class PlacedFigure:
    """A figure as the page shows it: words, the SVG file's text, and where its files lie (relative to the page, no ending)."""

    name: str
    title: str
    caption: str
    svg: str
    stem: str
    png: bool = True


@dataclass(frozen=True)
class Section:
    """One run on the page; `folder` holds its files, relative to the page."""

    anchor: str
    name: str
    result: SimulationResult
    figures: tuple[PlacedFigure, ...]
    folder: str


@dataclass(frozen=True)
class StudySection:
    """What runs say together; `folder` holds its files, relative to the page."""

    study: Study
    figures: tuple[PlacedFigure, ...]
    folder: str


def render_page(results: Sequence[SimulationResult], sections: Sequence[Section], study: StudySection | None = None) -> str:
    """The page's text: what the runs say together if there are several, then a section for each of `sections`.

    Everything that comes from results is escaped; only the figures' SVG, in which matplotlib has escaped it, goes in as it is.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template("report.html.j2").render(
        title=sections[0].name if study is None else _title(study.study),
        study=None if study is None else _study_context(study),
        sections=[_context(section) for section in sections],
        sources=run_sources(results) if study is None else study_sources(study.study),
        model_version=results[0].model_version if study is None else ", ".join(dict.fromkeys(study.study.identities["model_version"])),
    )


def _title(study: Study) -> str:
    traced = study.traced
    points = f"{len(traced)} points: {_counted(traced['workload'].nunique(), 'workload')}"
    return f"{points}, {_counted(traced['pattern'].nunique(), 'pattern')}, {_counted(traced['machine'].nunique(), 'machine')}"


def _study_context(section: StudySection) -> dict[str, Any]:
    study = section.study
    points, points_left_out = points_table(study)
    failed = failed_table(study)
    return {
        "folder": section.folder,
        "findings": findings(study),
        "figures": [_figure("study", figure) for figure in section.figures],
        "points": points,
        "points_left_out": points_left_out,
        "failed": failed[0] if failed else None,
        "failed_left_out": failed[1] if failed else 0,
        "identities": identity_table(study),
    }


def _context(section: Section) -> dict[str, Any]:
    result = section.result
    gemms, gemm_rows_left_out = gemm_table(result)
    return {
        "anchor": section.anchor,
        "folder": section.folder,
        "name": section.name,
        "model_version": result.model_version,
        "headlines": headlines(result),
        "notes": result.notes,
        "totals": totals_table(result),
        "phases": phase_table(result),
        "figures": [_figure(section.anchor, figure) for figure in section.figures],
        "gemms": gemms,
        "gemm_rows_left_out": gemm_rows_left_out,
        "provenance": provenance_table(result),
    }


def _figure(anchor: str, figure: PlacedFigure) -> dict[str, Any]:
    description = f"{escape(figure.title)}. {escape(figure.caption)}"
    svg = Markup(inline_svg(figure.svg, f"{anchor}-{figure.name}", description))
    return {"title": figure.title, "caption": figure.caption, "stem": figure.stem, "svg": svg, "png": figure.png}


def _breakable(name: str) -> Markup:
    """A module name, escaped, that a narrow column may break after its dots."""
    return escape(name).replace(".", Markup(".<wbr>"))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
