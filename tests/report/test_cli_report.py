"""`nmsim report` says where it wrote, and costs nothing until it is run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from nmsim.cli.report import report
from nmsim.errors import InputError
from nmsim.report.write import ReportFiles
from nmsim.result.rows import SimulationResult
from nmsim.result.store import write_results

MakeResult = Callable[..., SimulationResult]


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(report)
    return app


@pytest.fixture
def results(make_result: MakeResult, tmp_path: Path) -> Path:
    write_results([make_result(1, schemes=("dense",))], tmp_path / "results")
    return tmp_path / "results"


def test_it_prints_the_page_it_wrote(app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "report" / "index.html"
    monkeypatch.setattr("nmsim.report.write.write_report", lambda directory, out, **_: ReportFiles(out / "index.html", (directory, out)))
    done = CliRunner().invoke(app, [str(tmp_path), "--out", str(page.parent)])
    assert done.exit_code == 0
    assert done.output == f"report   {page}\nfigures  2 files in {page.parent / 'figures'}\n"


def test_json_lists_files_that_exist(app: typer.Typer, results: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(results), "--out", str(tmp_path / "report"), "--json"])
    found = json.loads(done.output)
    assert set(found) == {"page", "files"}
    assert all(Path(file).is_file() for file in [found["page"], *found["files"]])


def test_a_wrong_folder_ends_in_a_sentence_with_the_exit_code_of_bad_input(app: typer.Typer, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(tmp_path / "nowhere"), "--out", str(tmp_path / "report")])
    assert isinstance(done.exception, InputError)
    assert done.exception.exit_code == 2
    assert "no such folder of results; write one with `nmsim simulate ... --out DIR`" in str(done.exception)


def test_its_help_gives_an_example_without_importing_anything_heavy() -> None:
    code = "import sys, nmsim.cli.report; print(sorted({'matplotlib', 'pandas', 'pyarrow', 'jinja2', 'numba', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    assert report.__doc__ is not None
    assert "nmsim report results" in report.__doc__
