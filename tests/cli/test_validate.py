"""`nmsim validate`: rows, bars, exit codes."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nmsim.cli.main import main
from nmsim.validation.measured import Comparison, Context, Measured
from nmsim.validation.run import run_suites
from nmsim.validation.suites import ONLY_WHEN_NAMED, SUITES

MINE = "id,arch,m,n,k,dense_us,sparse_us\nsmall,ampere.yaml,64,64,64,4.0,5.8\n"


def a_suite(monkeypatch: pytest.MonkeyPatch, simulated: float) -> None:
    """Put a suite of one row where `power` is."""
    module = ModuleType("made_up_suite")
    row = Comparison("large", "rate", "TFLOP/s", 100.0, simulated, frozenset({"rate", "300 W", "400 W"}), "nobody")
    module.measure = lambda context: Measured((row,))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_up_suite", module)
    monkeypatch.setitem(SUITES, "power", ("made_up_suite", "made up"))


def test_a_suite_that_misses_a_bar_fails_loudly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    a_suite(monkeypatch, simulated=150.0)
    assert main(["validate", "power", "--json"]) == 1
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result["passed"] is False
    assert [row["error_percent"] for row in result["suites"][0]["rows"]] == [pytest.approx(50.0)]
    assert "power (worst rate, 300 W board)" in printed.err


def test_the_table_says_which_bars_are_missed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    a_suite(monkeypatch, simulated=101.0)
    assert main(["validate", "power"]) == 1  # the checks of the real suite were not made
    text = capsys.readouterr().out
    assert "MISSED" in text
    assert "met" in text
    assert "+1.0 %" in text


def test_a_suite_for_a_second_look_runs_when_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("made_up_suite")
    module.measure = lambda context: Measured(())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_up_suite", module)
    for name in SUITES:
        monkeypatch.setitem(SUITES, name, ("made_up_suite", "made up"))
    every, named = run_suites([], Context()), run_suites(["gemm-held-out"], Context())
    assert [report.name for report in every] == [name for name in SUITES if name not in ONLY_WHEN_NAMED]
    assert [report.name for report in named] == ["gemm_held_out"]


def test_own_data_are_shown_and_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(MINE)
    assert main(["validate", "--data", str(file), "--json"]) == 0
    (suite,) = json.loads(capsys.readouterr().out)["suites"]
    assert [row["quantity"] for row in suite["rows"]] == ["dense time", "2:4 time", "speed-up"]
    assert suite["verdicts"] == []


def test_own_instructions_are_told_from_own_gemms_by_their_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("id,arch,shape,measures,warps,chains,iteration_cycles\nx,ampere.yaml,m16n8k16,latency,1,1,24.7\n")
    for named in ([], ["tensor-core"]):
        assert main(["validate", *named, "--data", str(file), "--json"]) == 0
        (suite,) = json.loads(capsys.readouterr().out)["suites"]
        assert [(row["row"], row["published"], row["simulated"]) for row in suite["rows"]] == [("x", 24.7, 25)]
    assert main(["validate", "gemm", "--data", str(file)]) == 2
    assert "lacks the column 'm'" in capsys.readouterr().err


def test_out_writes_tables_figures_and_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "mine.csv", tmp_path / "deep" / "out"
    file.write_text(MINE)
    assert main(["validate", "--data", str(file), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"tables.md", "rows.csv", "scatter.svg"}
    assert str(out / "tables.md") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "nonsense"),
        (["power", "--data", "x.csv"], "--data"),
        (["gemm", "--data", "absent.csv"], "absent.csv"),
        (["power", "--set", "nonsense"], "nonsense"),
    ],
)
def test_bad_input_is_named(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_overrides_reach_the_machines(ampere: Path) -> None:
    machine = Context(overrides=("sm.count=99",)).machine("ampere.yaml")
    assert machine.sm.count == 99  # type: ignore[union-attr]
