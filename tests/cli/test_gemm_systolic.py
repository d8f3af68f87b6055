"""`nmsim gemm` and its neighbours on a machine of kind systolic."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nmsim as package
from nmsim.errors import InputError
from nmsim.rules.stalls import BOUNDS, STALL_NAMES
from nmsim.run.single import GemmResult

Run = Callable[..., Any]


@pytest.fixture
def array(arch_configs: Path) -> Path:
    return arch_configs / "systolic_128.yaml"


def gemm(nmsim: Run, arch: Path, m: int, n: int, k: int, *more: str) -> dict[str, Any]:
    ran = nmsim("gemm", arch, "--m", m, "--n", n, "--k", k, "--json", *more)
    assert (ran.code, ran.err) == (0, "")
    result: dict[str, Any] = json.loads(ran.out)
    return result


def test_the_keys_are_those_of_a_gpu(nmsim: Run, array: Path) -> None:
    result = gemm(nmsim, array, 1024, 1024, 1024)
    assert set(result) == set(GemmResult.__dataclass_fields__)
    assert tuple(result["stall_cycles"]) == STALL_NAMES
    assert set(result["bytes"]) == {"dram", "l2", "shared"}
    assert result["bound"] in BOUNDS
    assert result["kernel"] == "systolic_ws"
    assert result["busy_cycles"] + sum(result["stall_cycles"].values()) == pytest.approx(result["cycles"])
    assert sum(result["energy_by_unit_j"].values()) == pytest.approx(result["energy_j"])
    assert result["power_w"] == pytest.approx(result["energy_j"] / result["time_us"] * 1e6)


@pytest.mark.parametrize(
    ("shape", "pattern", "cycles"),
    [
        ((1024, 1024, 1024), None, 89984),
        ((1024, 1024, 1024), "2:4", 44992),
        ((512, 512, 512), "2:16", 3576),
        ((4096, 768, 768), "2:4", 80604),
    ],
)
def test_without_overlap_compute_cycles_are_scale_sims(
    nmsim: Run, array: Path, shape: tuple[int, int, int], pattern: str | None, cycles: int
) -> None:
    more = ("--pattern", pattern) if pattern else ()
    result = gemm(nmsim, array, *shape, *more, "--set", "array.dataflow=ws", "--set", "array.overlap=none")
    assert result["compute_cycles"] == cycles
    assert result["cycles"] > cycles  # its DRAM is not free
    assert result["native_pattern"] == (pattern or "dense")


def test_each_dataflow_and_overlap_can_be_set(nmsim: Run, array: Path) -> None:
    for dataflow in ("ws", "is", "os"):
        times = []
        for overlap in ("none", "fold", "full"):
            result = gemm(nmsim, array, 1024, 512, 768, "--set", f"array.dataflow={dataflow}", "--set", f"array.overlap={overlap}")
            assert result["kernel"] == f"systolic_{dataflow}"
            assert result["cycles"] >= result["compute_cycles"] >= 1024 * 512 * 768 / 128**2
            times.append(result["compute_cycles"])
        assert times == sorted(times, reverse=True)


def test_a_pattern_the_array_lacks_runs_dense_and_says_so(nmsim: Run, array: Path) -> None:
    result = gemm(nmsim, array, 256, 256, 256, "--pattern", "2:4", "--set", "array.nm.enabled=false")
    assert (result["native_pattern"], result["speedup_vs_dense"]) == ("dense", 1.0)
    assert result["notes"] == ["Systolic array 128 x 128 has no N:M selectors: runs dense"]
    short = gemm(nmsim, array, 256, 256, 2, "--pattern", "2:4")
    assert short["notes"] == ["tail: 2:4 of a reduction of 2 keeps 2, which saves nothing: runs dense"]


def test_a_batch_is_its_members_one_after_another(nmsim: Run, array: Path) -> None:
    one, three = (gemm(nmsim, array, 256, 256, 256, "--l", batch, "--set", "array.overlap=none") for batch in ("1", "3"))
    assert three["compute_cycles"] == 3 * one["compute_cycles"]
    assert three["bytes"]["dram"] == 3 * one["bytes"]["dram"]


def test_the_text_names_folds_and_pes(nmsim: Run, array: Path) -> None:
    ran = nmsim("gemm", array, "--m", 1024, "--n", 1024, "--k", 1024)
    assert (ran.code, ran.err) == (0, "")
    assert "systolic_ws, 64 folds of 1024x128x128" in ran.out
    assert "PEs busy" in ran.out


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--sparse-operand", "a", "--pattern", "2:4"), "a systolic array compresses its filter, b, got 'a'; swap m and n"),
        (("--dtype", "int4"), "--dtype: Systolic array 128 x 128 has no such element type, got 'int4'; use one of bf16, fp16, int8"),
        (("--l2", "warm"), "--l2: Systolic array 128 x 128 is of kind systolic and has no L2 to be warm; leave it out"),
        (("--set", "array.dataflow=rs"), "array.dataflow: must be 'ws', 'os' or 'is', got 'rs'"),
        (("--set", "buffers.filter_bytes=1000"), "buffers.filter_bytes: has halves of 500 bytes, and a fold's stationary tile takes 8192"),
        (("--set", "array.rows=1", "--set", "array.columns=1", "--n", "16385"), "more than the 1,048,576 of one run"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_machine_is_one_sentence_and_code_2(nmsim: Run, array: Path, more: tuple[str, ...], sentence: str) -> None:
    ran = nmsim("gemm", array, "--m", 64, "--n", 64, "--k", 64, *more)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert sentence in ran.err


def test_what_works_on_tensor_cores_names_the_kind(nmsim: Run, array: Path, tmp_path: Path) -> None:
    ran = nmsim("mma", array, "--shape", "m16n8k16")
    assert (ran.code, ran.out) == (2, "")
    assert "a machine of kind gpu is needed, and Systolic array 128 x 128 is of kind systolic; `nmsim gemm` serves every kind" in ran.err
    ran = nmsim("simulate", array, tmp_path / "no.nmtrace")
    assert ran.code == 2
    assert "no.nmtrace" in ran.err
    with pytest.raises(InputError, match="microbench: a machine of kind gpu is needed"):
        package.microbench(array, shape=(16, 8, 16))


def test_arch_show_prints_the_clock_and_its_peaks(nmsim: Run, array: Path) -> None:
    out = nmsim("arch", "show", array).out
    assert "  clock_mhz = 700  (derived:" in out
    assert "dense_tflops = 22.9" in out
    assert json.loads(nmsim("arch", "show", array, "--json").out)["arch"]["kind"] == "systolic"


def test_the_same_question_has_the_same_answer(array: Path) -> None:
    first, second = (package.simulate_gemm(array, m=300, n=200, k=100, pattern="3:5") for _ in range(2))
    assert first == second
