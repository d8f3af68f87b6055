import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmsim.workload.catalogue import linear_gemms
from nmsim.workload.store import write_trace
from nmsim.workload.summary import summarise_trace
from nmsim.workload.trace import Provenance, Trace

Run = Callable[..., Any]


@pytest.fixture
def trace() -> Trace:
    provenance = Provenance("shapes-only", "mlp", "none", "dense", {}, seed=0, step=0, loss=None, accuracy=None, versions={})
    return Trace("mlp", provenance, batch=4, dtype="fp16", gemms=tuple(linear_gemms("fc", 64, 128, 256, "fp16")))


@pytest.fixture
def folder(trace: Trace, tmp_path: Path) -> Path:
    return write_trace(trace, tmp_path / "mlp.nmtrace")


def test_check_of_a_sound_trace_says_so(nmsim: Run, folder: Path) -> None:
    assert nmsim("trace", "check", folder) == (0, f"{folder}: ok, 3 GEMM entries, 0 masks, shapes-only\n", "")
    assert json.loads(nmsim("trace", "check", folder, "--json").out) == {"trace": str(folder), "ok": True, "findings": []}


def test_check_of_a_trace_that_lies_fails_with_code_1_and_names_the_entry(nmsim: Run, folder: Path) -> None:
    manifest = folder / "manifest.json"
    data = json.loads(manifest.read_text())
    data["gemms"][0]["macs"] += 1
    manifest.write_text(json.dumps(data))
    ran = nmsim("trace", "check", folder)
    assert ran.code == 1
    assert "fc:forward" in ran.out
    assert ran.err == f"nmsim: check failed: {folder}: 1 finding(s)\n"
    as_json = nmsim("trace", "check", folder, "--json")
    assert (as_json.code, json.loads(as_json.out)["ok"]) == (1, False)


def test_a_trace_that_is_not_there_is_bad_input(nmsim: Run, tmp_path: Path) -> None:
    missing = tmp_path / "no.nmtrace"
    for command in ("check", "show"):
        ran = nmsim("trace", command, missing)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith(f"nmsim: error: {missing}: ")
        assert ran.err.count("\n") == 1


def test_show_prints_the_summary_and_json_is_the_summary(nmsim: Run, folder: Path, trace: Trace) -> None:
    summary = summarise_trace(trace)
    assert json.loads(nmsim("trace", "show", folder, "--json").out) == json.loads(json.dumps(summary))
    shown = nmsim("trace", "show", folder)
    assert (shown.code, shown.err) == (0, "")
    assert "  kind: shapes-only\n" in shown.out
    assert f"    macs: {64 * 128 * 256:,}\n" in shown.out
    assert "None" not in shown.out
