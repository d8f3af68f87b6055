"""`nmsim simulate`: one object or an array, phases that sum to totals, results kept for a report, one line for what is wrong."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmsim.result.rows import PHASES
from nmsim.rules.stalls import BOUNDS, STALL_NAMES
from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.mask import nm_mask
from nmsim.sparsity.packing import mask_digest
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.catalogue import WeightStructure, linear_gemms
from nmsim.workload.gemm import GroupCheck, MaskRecord
from nmsim.workload.store import write_trace
from nmsim.workload.trace import Operator, Provenance, SparsifyPass, TileWisePlan, Trace

Run = Callable[..., Any]
TWO_FOUR = NMPattern(2, 4)

ROW_KEYS = {
    "gemm_id",
    "module",
    "phase",
    "scheme",
    "m",
    "n",
    "k",
    "l",
    "ran_sparse",
    "reason",
    "kernel",
    "native_pattern",
    "cycles",
    "time_us",
    "energy_j",
    "bound",
    "stall_cycles",
}


def small_trace(name: str) -> Trace:
    """One pruned layer with SR-STE's mask, an operator, a pass, a tile-wise plan."""
    generator = np.random.default_rng(11)
    mask = nm_mask(generator.normal(size=(256, 128)), TWO_FOUR, 1)
    checks = {}
    for axis in (0, 1):
        report = check_groups(mask, TWO_FOUR, axis)
        checks[axis] = GroupCheck(TWO_FOUR, report.groups, report.violations)
    record = MaskRecord(mask.shape, int(mask.sum()) / mask.size, mask_digest(mask), True, checks)
    structure = WeightStructure(TWO_FOUR, 1, "fc")
    plan = TileWisePlan(128, np.ones(256, dtype=np.bool_), generator.random((2, 128)) < 0.5)
    return Trace(
        name=name,
        provenance=Provenance("trained", "one-layer", "none", "sr-ste", {}, 0, 1, 0.5, None, {}),
        batch=8,
        dtype="fp16",
        gemms=tuple(linear_gemms("fc", 512, 128, 256, "fp16", weight_structure={"forward": structure, "backward_data": structure})),
        operators=(Operator("relu", "relu", "forward", 262144, 262144, 131072, 1, True),),
        passes=(SparsifyPass("search", "mask_search", "fc", 65536, 4096, 100_000),),
        masks={"fc": record},
        payloads={"fc": mask},
        tile_wise={"1/2": {"fc": plan}},
        own_density="1/2",
    )


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trace(small_trace("first"), tmp_path_factory.mktemp("traces") / "first.nmtrace")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trace(small_trace("second"), tmp_path_factory.mktemp("traces") / "second.nmtrace")


def simulated(nmsim: Run, *arguments: object) -> Any:
    ran = nmsim("simulate", *arguments, "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def test_json_of_one_trace_is_one_object_with_the_documented_keys(nmsim: Run, ampere: Path, trace: Path) -> None:
    data = simulated(nmsim, ampere, trace)
    assert set(data) >= {"arch", "trace", "rows", "phases", "total"}
    assert data["trace"] == "first"
    assert list(data["total"]) == ["traced", "dense", "tile_wise"]
    for row in data["rows"]:
        assert set(row) >= ROW_KEYS
        assert row["phase"] in PHASES
        assert row["bound"] in BOUNDS
        assert set(row["stall_cycles"]) == set(STALL_NAMES)
    assert {(part["phase"], part["scheme"]) for part in data["phases"]} == {(phase, scheme) for phase in PHASES for scheme in data["total"]}
    for scheme, total in data["total"].items():
        assert set(total) >= {"cycles", "time_us", "energy_j", "speedup_vs_dense", "speedup_vs_tile_wise"}
        for name in ("cycles", "time_us", "energy_j"):
            parts = [part[name] for part in data["phases"] if part["scheme"] == scheme]
            members = [row[name] for row in data["rows"] if row["scheme"] == scheme]
            assert math.fsum(parts) == pytest.approx(total[name])
            assert math.fsum(members) == pytest.approx(total[name])
    ran = {(row["phase"], row["ran_sparse"]) for row in data["rows"] if row["scheme"] == "traced" and row["gemm_id"].startswith("fc:")}
    assert ran == {("forward", True), ("backward_data", False), ("backward_weight", False)}


def test_json_of_several_traces_is_an_array_in_their_order(nmsim: Run, ampere: Path, trace: Path, other: Path) -> None:
    both = simulated(nmsim, ampere, trace, other, "--baseline", "dense")
    assert [one["trace"] for one in both] == ["first", "second"]
    assert both[0]["total"] == both[1]["total"]


def test_baselines_are_those_asked_for(nmsim: Run, ampere: Path, trace: Path) -> None:
    assert list(simulated(nmsim, ampere, trace, "--baseline", "dense")["total"]) == ["traced", "dense"]
    assert list(simulated(nmsim, ampere, trace, "--baseline", "tile-wise")["total"]) == ["traced", "tile_wise"]
    only = simulated(nmsim, ampere, trace, "--baseline", "tile-wise")["total"]["traced"]
    assert only["speedup_vs_dense"] is None
    assert only["speedup_vs_tile_wise"] > 0


def test_options_reach_the_simulation(nmsim: Run, ampere: Path, trace: Path) -> None:
    plain = simulated(nmsim, ampere, trace, "--baseline", "dense")
    larger = simulated(nmsim, ampere, trace, "--baseline", "dense", "--batch", 64)
    assert {row["m"] for row in larger["rows"] if row["phase"] == "forward"} == {8 * 512}
    assert larger["total"]["traced"]["time_us"] > plain["total"]["traced"]["time_us"]
    warm = simulated(nmsim, ampere, trace, "--baseline", "dense", "--l2", "warm")
    assert warm["total"]["traced"]["time_us"] < plain["total"]["traced"]["time_us"]
    slower = simulated(nmsim, ampere, trace, "--baseline", "dense", "--set", "launch.kernel_us=100")
    assert slower["total"]["dense"]["time_us"] > 4 * 100
    one_four = simulated(nmsim, ampere, trace, "--baseline", "dense", "--pattern", "1:4")
    assert any("1:4 runs as 2:4" in row["reason"] for row in one_four["rows"])
    as_int8 = simulated(nmsim, ampere, trace, "--baseline", "dense", "--dtype", "int8")
    assert any("_s8_" in row["kernel"] for row in as_int8["rows"])
    slow_engine = simulated(nmsim, ampere, trace, "--baseline", "dense", "--engine", "simpy")
    assert slow_engine["total"] == plain["total"]


def test_text_shows_each_phase_and_each_gemm_with_its_reason(nmsim: Run, ampere: Path, trace: Path) -> None:
    ran = nmsim("simulate", ampere, trace)
    assert ran.code == 0
    shown = " ".join(ran.out.split())
    for words in (*PHASES, "total", "traced", "dense", "tile_wise", "no operand is sparse", "launch-bound"):
        assert words in shown, words
    assert "\x1b" not in ran.out


def test_results_are_kept_where_asked(nmsim: Run, ampere: Path, trace: Path, tmp_path: Path) -> None:
    ran = nmsim("simulate", ampere, trace, "--baseline", "dense", "--out", tmp_path / "results")
    assert ran.code == 0
    assert "nmsim report" in ran.out
    assert list((tmp_path / "results").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--baseline", "sparse"), "--baseline: no such scheme"),
        (("--pattern", "2/4"), "not an N:M pattern"),
        (("--dtype", "fp99"), "fp99"),
        (("--batch", 0), "batch"),
        (("--l2", "hot"), "--l2: no such L2 state"),
        (("--engine", "verilog"), "--engine: no such engine"),
        (("--set", "sm.count=none"), "--set sm.count=none"),
    ],
)
def test_bad_options_are_one_line_on_stderr_and_code_2(
    options: tuple[object, ...], words: str, nmsim: Run, ampere: Path, trace: Path
) -> None:
    ran = nmsim("simulate", ampere, trace, *options)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert words in ran.err


def test_missing_and_broken_traces_are_one_line_and_code_2(nmsim: Run, ampere: Path, trace: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.nmtrace"
    broken.mkdir()
    (broken / "manifest.json").write_text("{")
    for path in (tmp_path / "none.nmtrace", broken, ampere):
        ran = nmsim("simulate", ampere, path)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
        assert path.name in ran.err
    assert nmsim("simulate", tmp_path / "none.yaml", trace).code == 2
    assert nmsim("simulate", ampere).code == 2
