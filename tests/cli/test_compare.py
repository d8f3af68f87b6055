"""`nmsim compare`: what changed, by how much, by which stall; as tables that fit and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmsim.workload.store import write_trace
from tests.sweep.conftest import recorded

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trace(recorded("layer", "sr-ste", "2:4", outputs=512), tmp_path_factory.mktemp("traces") / "layer.nmtrace")


@pytest.fixture
def folders(nmsim: Run, ampere: Path, trace: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The layer on a machine of two SMs, and with a slower memory."""
    places = tmp_path / "fast", tmp_path / "slow"
    for place, bandwidth in zip(places, ("2039", "100"), strict=True):
        options = ("--set", "sm.count=2", "--set", f"dram.bandwidth_gb_per_s={bandwidth}", "--out", place)
        assert nmsim("simulate", ampere, trace, *options).code == 0
    return places


def test_a_slower_memory_is_slower_by_the_stalls_of_memory(nmsim: Run, folders: tuple[Path, Path]) -> None:
    ran = nmsim("compare", *folders, "--json")
    assert ran.code == 0, ran.err
    data = json.loads(ran.out)
    assert set(data) == {"a", "b", "changed", "pairs", "only_in_a", "only_in_b"}
    (pair,) = data["pairs"]
    assert pair["inputs_changed"] == ["machine"]
    for change in pair["schemes"].values():
        assert change["speedup"] < 1
        parts = change["parts_us"]
        assert sum(parts.values()) == pytest.approx(change["time_us"]["b"] - change["time_us"]["a"])
        memory = sum(delta for name, delta in parts.items() if name.startswith(("dram", "l2", "noc")) or name == "epilogue")
        assert memory > 0.5 * sum(parts.values())
        assert parts["launch"] == pytest.approx(0)


def test_text_names_schemes_phases_kernels_and_reasons(nmsim: Run, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmsim.cli.tables.PIPED_WIDTH", 80)
    ran = nmsim("compare", *folders)
    assert ran.code == 0
    for words in ("machine", "traced", "tile-wise", "forward", "backward_weight", "fc:forward", "dram_", "speed-up"):
        assert words in ran.out
    tables = [line for line in ran.out.splitlines() if not line.startswith(("A  ", "B  "))]
    assert max(map(len, tables)) <= 80
    assert "\x1b" not in ran.out


def test_points_of_sweeps_are_paired(nmsim: Run, ampere: Path, trace: Path, tmp_path: Path) -> None:
    places = tmp_path / "a", tmp_path / "b"
    for place, count in zip(places, (2, 4), strict=True):
        axes = ("--set", f"sm.count={count}", "--batch", "8", "64", "--pattern", "2:4", "1:8")
        assert nmsim("sweep", "--arch", ampere, *axes, "--workload", trace, "--jobs", 0, "--out", place).code == 0
    data = json.loads(nmsim("compare", *places, "--json").out)
    assert data["changed"] == {"overrides": {"a": ["sm.count=2"], "b": ["sm.count=4"]}}
    assert [pair["name"] for pair in data["pairs"]] == ["2:4 batch 8", "2:4 batch 64", "1:8 batch 8", "1:8 batch 64"]
    text = nmsim("compare", *places).out
    assert "overrides: sm.count=2 -> sm.count=4" in text
    assert "4 of 4 points changed (traced)" in text


def test_bad_input_is_one_line_and_code_2(nmsim: Run, folders: tuple[Path, Path], tmp_path: Path) -> None:
    for arguments, words in (
        ((tmp_path / "none", folders[0]), "no such folder of results"),
        ((folders[0], tmp_path), "the folder holds no results"),
        ((*folders, "--scheme", "sparse"), "--scheme: not simulated in both folders, got 'sparse'; use one of traced, dense"),
        ((folders[0],), "Missing argument"),
    ):
        ran = nmsim("compare", *arguments)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
        assert words in ran.err
