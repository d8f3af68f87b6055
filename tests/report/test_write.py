"""A report is complete, self-contained, escaped, and the same for the same results."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import nmsim.report.write as write_module
from nmsim.errors import InputError
from nmsim.report.figures import FIGURES
from nmsim.report.labels import times
from nmsim.report.tables import run_names, sources_table
from nmsim.report.write import ReportFiles, write_report
from nmsim.result.rows import SimulationResult
from nmsim.result.store import write_results

MakeResult = Callable[..., SimulationResult]
VOID = {"meta", "br", "hr", "wbr"}


class Page(HTMLParser):
    """Tags, attributes, ids and text of a page; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value for attribute, value in self.attributes if attribute == name]


def make_report(results: list[SimulationResult], folder: Path) -> ReportFiles:
    write_results(results, folder / "results")
    return write_report(folder / "results", folder / "report")


@pytest.fixture(scope="module")
def written(result: SimulationResult, tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    return make_report([result], tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def page(written: ReportFiles) -> Page:
    return Page(written.page.read_text(encoding="utf-8"))


def test_every_figure_is_written_as_svg_png_and_csv_beside_the_page(written: ReportFiles) -> None:
    names = {file.relative_to(written.page.parent).as_posix() for file in written.files}
    figures = {f"figures/{spec.name}.{ending}" for spec in FIGURES for ending in ("svg", "png", "csv")}
    assert names == figures | {"figures/kernels.csv"}
    assert all(file.stat().st_size > 0 for file in written.files)
    assert {file for file in written.page.parent.rglob("*") if file.is_file()} == {written.page, *written.files}


def test_the_page_runs_nothing_and_loads_nothing(page: Page) -> None:
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert not any(name.startswith("on") or name in ("src", "srcset", "action") for name, _ in page.attributes)
    assert page.tags.count("svg") == len(FIGURES)
    html_of_styles = " ".join(page.values("style")) + page.text
    assert not re.search(r"@import|url\((?!#)", html_of_styles)


def test_links_lead_to_files_of_the_report_or_into_the_page(page: Page, written: ReportFiles) -> None:
    ids = set(page.values("id"))
    for link in page.values("href") + page.values("xlink:href"):
        assert link.removeprefix("#") in ids if link.startswith("#") else (written.page.parent / link).is_file()


def test_ids_are_unique_although_figures_share_a_page(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    used = set(re.findall(r"url\(#([^)]*)\)", " ".join(value for _, value in page.attributes)))
    assert used <= set(ids)


def test_names_with_markup_are_shown_as_they_are_and_never_become_markup(page: Page) -> None:
    assert not {"b", "i", "y", "pcie", "on", "train"} & set(page.tags)
    for name in (
        "bert-large & <i>friends</i>",
        "Ampere-like, 80 GB <PCIe>",
        "<script>alert('x')</script>",
        "sst-2 <train>",
        "x--><y",
        "注意",
    ):
        assert name in page.text


def test_the_page_says_the_totals_the_notes_and_where_the_trace_comes_from(page: Page, result: SimulationResult) -> None:
    for total in result.total.values():
        assert times(total.speedup_vs_dense) in page.text
    for text in (*result.notes, result.arch_key, result.trace_key, result.provenance["command"], "91.7 %", "0.9174", "sr-ste"):
        assert str(text) in page.text
    for row in result.rows:
        assert row.scheme != "traced" or row.kind != "gemm" or row.reason in page.text


def test_the_page_says_what_the_values_of_each_machine_rest_on(page: Page, result: SimulationResult) -> None:
    for text in result.sources.values():
        assert text in page.text
    assert sources_table(result.sources).rows == (
        ("sm", "the others, registers", "datasheet: whitepaper <i>table</i> 4"),
        ("sm", "count", "set by --set sm.count=108"),
        ("dram.timing", "refresh_ns", "assumption: as HBM2"),
    )


def test_no_value_is_printed_as_a_programmer_would(page: Page) -> None:
    assert not re.search(r"\b(nan|None|inf|True|False)\b|[0-9]e[+-]?[0-9]{2}(?!\d*[a-z])", page.text.split("Provenance")[0])


def test_the_csv_of_a_figure_has_the_numbers_of_the_result(written: ReportFiles, result: SimulationResult) -> None:
    with (written.page.parent / "figures/waterfall.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    time_us = sum(float(row["time_us"]) for row in rows if row["scheme"] == "traced")
    assert time_us == pytest.approx(result.total["traced"].time_us)
    with (written.page.parent / "figures/kernels.csv").open(newline="") as file:
        assert [row["gemm_id"] for row in csv.DictReader(file)] == [row.gemm_id for row in result.rows]


def test_equal_results_give_equal_bytes_in_every_file(make_result: MakeResult, tmp_path: Path) -> None:
    first, second = (make_report([make_result(1, ("traced", "dense"))], tmp_path / name) for name in ("first", "second"))
    assert first.page.read_bytes() == second.page.read_bytes()
    assert [file.read_bytes() for file in first.files] == [file.read_bytes() for file in second.files]


def test_drawing_leaves_the_settings_of_the_caller_alone(make_result: MakeResult, tmp_path: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 23.0}):
        make_report([make_result(1, schemes=("dense",))], tmp_path)
        assert mpl.rcParams["font.size"] == 23.0


def test_a_run_without_a_baseline_is_reported_without_speed_ups(make_result: MakeResult, tmp_path: Path) -> None:
    written = make_report([make_result(1, schemes=("dense",))], tmp_path)
    page = Page(written.page.read_text(encoding="utf-8"))
    assert page.tags.count("svg") == len([spec for spec in FIGURES if spec.name not in ("speedup", "formats", "layer_energy")])
    assert "ran sparse" not in page.text
    assert not re.search(r"\b(nan|None)\b", page.text.split("Provenance")[0])


def test_several_runs_get_an_overview_and_a_section_each_up_to_a_limit(
    make_result: MakeResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_module, "MAX_SECTIONS", 1)
    results = [make_result(1, schemes=("traced", "dense"), trace=f"trace <{n}>", seed=n) for n in range(3)]
    written = make_report(results, tmp_path)
    page = Page(written.page.read_text(encoding="utf-8"))
    assert "3 points: 3 workloads, 1 pattern, 1 machine" in page.text
    assert all(f"trace <{n}>" in page.text for n in range(3))
    assert {file.parent.name for file in written.files} == {"study", "run-1"}


def test_runs_of_one_trace_are_told_apart_by_the_options_in_which_they_differ(make_result: MakeResult) -> None:
    runs = [replace(make_result(1), options={"l2": l2, "dtype": "fp16"}) for l2 in ("cold", "warm")]
    name = f"{runs[0].trace} on {runs[0].arch}"
    assert run_names(runs) == [f"{name} (l2 = cold)", f"{name} (l2 = warm)"]
    assert run_names(runs[:1]) == [name]


def test_a_run_without_kernels_is_refused_by_name(make_result: MakeResult, tmp_path: Path) -> None:
    write_results([replace(make_result(1), rows=(), phases=(), total={})], tmp_path)
    with pytest.raises(InputError, match=r"the run of bert-large .* holds no kernels; simulate a trace with GEMMs"):
        write_report(tmp_path, tmp_path / "report")


def test_a_folder_without_results_and_a_place_that_cannot_be_written_are_named(make_result: MakeResult, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder of results"):
        write_report(tmp_path / "nowhere", tmp_path / "report")
    write_results([make_result(1)], tmp_path / "results")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file: cannot write the report here \(Not a directory\); choose another folder with --out"):
        write_report(tmp_path / "results", tmp_path / "file")
