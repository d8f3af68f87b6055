"""`nmsim sweep`: axes as options or as a file, one line for what is wrong, an exit code that says whether a point failed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmsim.cli.progress import clock_text, sweep_line
from nmsim.result.points import read_totals
from nmsim.sweep.run import Standing
from nmsim.workload.store import write_trace
from tests.sweep.conftest import recorded

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("traces")
    kinds = (("layer_dense", "dense", None), ("layer_ste", "sr-ste", "2:4"))
    return [write_trace(recorded(name, recipe, pattern), folder / f"{name}.nmtrace") for name, recipe, pattern in kinds]


def test_options_take_all_values_that_follow_them(nmsim: Run, ampere: Path, traces: list[Path]) -> None:
    options = ("--arch", ampere, "--set", "sm.count=[2,4]", "launch.kernel_us=1", "--pattern", "2:4", "1:4", "--batch", "8", "16")
    ran = nmsim("sweep", *options, "--workload", *traces, "--plan", "--json")
    assert ran.code == 0, ran.err
    plan = json.loads(ran.out)
    assert plan["points"] == 2 * 2 * (1 + 2)
    assert plan["impossible"] == 0
    assert {point["overrides"] for point in plan["plan"]} == {"sm.count=2 launch.kernel_us=1", "sm.count=4 launch.kernel_us=1"}


def test_a_file_says_the_same(nmsim: Run, ampere: Path, traces: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(f"arch: {ampere}\nset: {{sm.count: [2, 4]}}\nworkload: ['{traces[0]}', '{traces[1]}']\nbatch: [8, 16]\n")
    from_file = nmsim("sweep", file, "--plan", "--json")
    from_options = nmsim("sweep", "--arch", ampere, "--set", "sm.count=[2,4]", "--workload", *traces, "--batch", 8, 16, "--plan", "--json")
    assert from_file.code == 0
    assert from_file.out == from_options.out


def test_results_are_there_summed_up_and_kept_for_the_next_run(nmsim: Run, ampere: Path, traces: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("sweep", "--arch", ampere, "--set", "sm.count=[2,4]", "--workload", *traces, "--pattern", "1:4", "--jobs", 0, "--out", out)
    first = nmsim(*command, "--json")
    assert first.code == 0, first.err
    data = json.loads(first.out)
    assert (data["points"], data["simulated"], data["kept"], data["failed"], data["failures"]) == (4, 4, 0, 0, [])
    totals = read_totals(out)
    assert [point["speedup_vs_dense"] for point in data["best"]] == sorted(
        totals[totals["scheme"] == "traced"]["speedup_vs_dense"], reverse=True
    )
    second = nmsim(*command)
    assert second.code == 0
    assert "4 points: 0 simulated now, 4 kept, 0 failed" in second.out
    assert "2 points have a pattern that was never trained" in second.out
    assert "\x1b" not in second.out
    page = nmsim("report", out, "--out", tmp_path / "report")
    assert page.code == 0, page.err


def test_a_failed_point_is_told_and_the_exit_code_is_1(nmsim: Run, ampere: Path, traces: list[Path], tmp_path: Path) -> None:
    command = ("sweep", "--arch", ampere, "--workload", *traces, "--recipe", "sr-ste", "mvue", "--jobs", 0, "--out", tmp_path)
    ran = nmsim(*command)
    assert ran.code == 1
    assert "1 failed: recipe: no trace of layer was recorded with this recipe" in " ".join(ran.out.split())
    assert ran.err == f"nmsim: check failed: 1 of 2 points failed; the rest is in {tmp_path}\n"
    told = nmsim(*command, "--json")
    assert (told.code, told.err) == (1, "")
    assert [failure["recipe"] for failure in json.loads(told.out)["failures"]] == ["mvue"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "nothing to sweep over; name a SWEEP.yaml"),
        (("nowhere.yaml",), "nowhere.yaml: no such file"),
        (("--arch", "ARCH"), "a sweep needs at least one workload"),
        (("--workload", "TRACE"), "a sweep needs at least one arch"),
        (("--arch", "ARCH", "--workload", "TRACE"), "--out: where should the results go?"),
        (("file.yaml", "--pattern", "2:4"), "--pattern: the axes are in the file, or given as options, not both"),
        (("--arch", "ARCH", "--workload", "TRACE", "--pattern", "4-2"), "--pattern: not an N:M pattern, got '4-2'"),
        (("--arch", "ARCH", "--workload", "TRACE", "--batch", "many"), "--batch: a batch is 1 to"),
        (("--arch", "ARCH", "--workload", "none.nmtrace"), "none.nmtrace"),
        (("--arch", "ARCH", "--workload", "TRACE", "--set", "sm.count"), "is not of the form KEY.KEY=VALUE"),
        (("--arch", "ARCH", "--workload", "TRACE", "--set", "sm.county=3"), "none of the 1 points can be simulated"),
        (("--arch", "ARCH", "--workload", "TRACE", "--jobs", "2", "--dask", "tcp://x:1"), "--jobs: points run on this machine"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    options: tuple[str, ...], words: str, nmsim: Run, ampere: Path, traces: list[Path], tmp_path: Path
) -> None:
    named = {"ARCH": ampere, "TRACE": traces[0]}
    ran = nmsim("sweep", *(named.get(word, word) for word in options))
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert words in ran.err


def test_the_table_fits_eighty_columns(
    nmsim: Run, ampere: Path, traces: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmsim.cli.tables.PIPED_WIDTH", 80)
    counts = ",".join(map(str, range(2, 8)))
    options = ("--arch", ampere, "--set", f"sm.count=[{counts}]", "--batch", "8", "16", "--baseline", "dense")
    ran = nmsim("sweep", *options, "--workload", *traces, "--jobs", 0, "--out", tmp_path / "a folder with a rather long name")
    assert ran.code == 0, ran.err
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "…" not in ran.out


def test_the_line_of_progress_says_rate_time_left_failures_and_the_best() -> None:
    best = {"workload": "gpt", "recipe": "sr-ste", "pattern": "2:4", "overrides": "", "speedup_vs_dense": 1.256}
    standing = Standing(points=100, kept=20, simulated=30, failed=2, best=best)
    assert sweep_line(standing, 60.0) == "0.5 points/s, 1:36 left; 2 failed; best 1.26x: gpt sr-ste 2:4"
    assert sweep_line(Standing(points=3), 0.0) == ""


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.4, "0:59"), (61, "1:01"), (3600, "1:00:00"), (90061, "25:01:01")])
def test_times_left_read_as_a_clock(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text
