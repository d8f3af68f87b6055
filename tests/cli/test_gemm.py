"""`nmsim gemm` and `nmsim mma`: stable keys, the same figures as the Python verb, one line for whatever is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmsim.api import simulate_gemm
from nmsim.rules.stalls import BOUNDS, STALL_NAMES
from nmsim.version import MODEL_VERSION

Run = Callable[..., Any]
SHAPE = ("--m", 256, "--n", 128, "--k", 512)

GEMM_KEYS = {
    "cycles",
    "compute_cycles",
    "clock_mhz",
    "time_us",
    "energy_j",
    "power_w",
    "executed_tflops",
    "dense_equivalent_tflops",
    "speedup_vs_dense",
    "kernel",
    "native_pattern",
    "cta_tile",
    "waves",
    "stall_cycles",
    "bytes",
    "bound",
    "engine",
    "model_version",
}
"""What the documentation promises; there may be more."""


def gemm_json(nmsim: Run, *arguments: object) -> dict[str, Any]:
    ran = nmsim("gemm", *arguments, "--json")
    assert ran.code == 0, ran.err
    data: dict[str, Any] = json.loads(ran.out)
    return data


@pytest.mark.parametrize("pattern", [(), ("--pattern", "2:4")])
def test_json_has_the_documented_keys_and_the_figures_of_the_python_verb(pattern: tuple[str, ...], nmsim: Run, ampere: Path) -> None:
    data = gemm_json(nmsim, ampere, *SHAPE, *pattern)
    assert set(data) >= GEMM_KEYS
    assert set(data["stall_cycles"]) == set(STALL_NAMES)
    assert set(data["bytes"]) == {"dram", "l2", "shared"}
    assert data["bound"] in BOUNDS
    assert data["model_version"] == MODEL_VERSION
    assert not [key for key in data if "wall" in key or "seconds" in key]
    result = simulate_gemm(ampere, m=256, n=128, k=512, pattern=pattern[1] if pattern else None)
    assert data == json.loads(json.dumps(result.to_json()))


def test_the_same_command_prints_the_same_bytes(nmsim: Run, ampere: Path) -> None:
    assert nmsim("gemm", ampere, *SHAPE, "--json").out == nmsim("gemm", ampere, *SHAPE, "--json").out


def test_options_reach_the_simulation(nmsim: Run, ampere: Path) -> None:
    plain = gemm_json(nmsim, ampere, *SHAPE)
    assert gemm_json(nmsim, ampere, *SHAPE, "--l2", "warm")["cycles"] < plain["cycles"]
    assert gemm_json(nmsim, ampere, *SHAPE, "--l", 4)["bytes"]["l2"] > 3 * plain["bytes"]["l2"]
    assert gemm_json(nmsim, ampere, *SHAPE, "--out-dtype", "fp32")["bytes"]["l2"] > plain["bytes"]["l2"]
    assert "_s8_" in gemm_json(nmsim, ampere, *SHAPE, "--dtype", "int8")["kernel"]
    assert gemm_json(nmsim, ampere, *SHAPE, "--engine", "simpy")["cycles"] == plain["cycles"]
    assert gemm_json(nmsim, ampere, *SHAPE, "--set", "clock.boost_mhz=705")["clock_mhz"] == 705
    assert gemm_json(nmsim, ampere, *SHAPE, "--pattern", "2:4", "--sparse-operand", "a")["native_pattern"] == "2:4"


def test_text_names_the_kernel_its_bound_and_its_speed_up(nmsim: Run, ampere: Path) -> None:
    ran = nmsim("gemm", ampere, *SHAPE, "--pattern", "2:4")
    assert ran.code == 0
    for words in ("256 x 128 x 512 fp16, 2:4", "x over dense", "s16832spgemm_2:4_f16_", "TFLOP/s dense-equivalent", "stalls", "MB"):
        assert words in ran.out
    assert "\x1b" not in ran.out


def test_text_says_which_pattern_ran_where_it_is_another(nmsim: Run, ampere: Path, arch_configs: Path) -> None:
    assert "fp16, 1:4 run as 2:4" in nmsim("gemm", ampere, *SHAPE, "--pattern", "1:4").out
    assert "fp16, 2:4 run as dense" in nmsim("gemm", arch_configs / "volta.yaml", *SHAPE, "--pattern", "2:4").out
    assert "run as" not in nmsim("gemm", ampere, *SHAPE, "--pattern", "2:4").out


def test_a_slower_sparse_gemm_says_so_in_one_line(nmsim: Run, ampere: Path) -> None:
    ran = nmsim("gemm", ampere, "--m", 64, "--n", 64, "--k", 64, "--pattern", "2:4")
    assert [line for line in ran.out.splitlines() if line.startswith("2:4 is slower here")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--m", 0, "--n", 1, "--k", 1), "--m: must be between 1 and"),
        (("--m", 10**18, "--n", 1, "--k", 1), "--m: must be between 1 and"),
        (("--m", -5, "--n", 1, "--k", 1), "--m: must be between 1 and"),
        (("--m", 10**6, "--n", 10**6, "--k", 10**7), "GiB of DRAM"),
        (("--m", "many", "--n", 1, "--k", 1), "Invalid value for '--m'"),
        (("--m", 64, "--n", 64), "Missing option '--k'"),
        ((*SHAPE, "--l", 0), "--l: must be between 1 and"),
        ((*SHAPE, "--pattern", "4:2"), "an N:M pattern keeps"),
        ((*SHAPE, "--pattern", "two of four"), "not an N:M pattern"),
        ((*SHAPE, "--dtype", "fp99"), "--dtype"),
        ((*SHAPE, "--out-dtype", "fp99"), "--out-dtype"),
        ((*SHAPE, "--sparse-operand", "c"), "--sparse-operand"),
        ((*SHAPE, "--keep-n", 64), "--keep-n: says how B is pruned tile-wise, and it is not; give --tile-wise too"),
        ((*SHAPE, "--keep-k", 64), "--keep-k: says how B is pruned tile-wise"),
        ((*SHAPE, "--tile", 64), "--tile: says how B is pruned tile-wise"),
        ((*SHAPE, "--streams"), "--streams: says how B is pruned tile-wise"),
        ((*SHAPE, "--tile-wise", "--tile", 0), "a tile is at least one column wide"),
        ((*SHAPE, "--tile-wise", "--sparse-operand", "a"), "--sparse-operand: tile-wise sparsity is of B"),
        ((*SHAPE, "--l2", "hot"), "--l2: no such L2 state"),
        ((*SHAPE, "--engine", "verilog"), "--engine: no such engine"),
        ((*SHAPE, "--set", "sm.cores=4"), "--set sm.cores=4"),
        ((*SHAPE, "--set", "sm.count=0"), "--set sm.count=0"),
        ((*SHAPE, "--set", "sm.count"), "--set sm.count"),
        ((*SHAPE, "--frobnicate"), "No such option"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_code_2(arguments: tuple[object, ...], words: str, nmsim: Run, ampere: Path) -> None:
    ran = nmsim("gemm", ampere, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1
    assert ran.err.startswith("nmsim: error: ")


def test_a_missing_or_wrong_machine_is_one_line(nmsim: Run, tmp_path: Path) -> None:
    missing = nmsim("gemm", tmp_path / "none.yaml", *SHAPE)
    assert (missing.code, missing.out, len(missing.err.splitlines())) == (2, "", 1)
    assert "no such file" in missing.err
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("schema: nmsim-arch/1\nkind: gpu\nname: [\n")
    broken = nmsim("gemm", wrong, *SHAPE)
    assert (broken.code, broken.out, len(broken.err.splitlines())) == (2, "", 1)
    assert "wrong.yaml" in broken.err


MMA_KEYS = {"shape", "dtype", "acc", "pattern", "warps", "ilp"} | {
    "latency_cycles",
    "iteration_cycles",
    "throughput_fma_per_cycle_per_sm",
}


def test_mma_measures_one_instruction(nmsim: Run, ampere: Path) -> None:
    dense = json.loads(nmsim("mma", ampere, "--shape", "m16n8k16", "--warps", 8, "--ilp", 4, "--json").out)
    sparse = json.loads(nmsim("mma", ampere, "--shape", "m16n8k32", "--sparse", "--warps", 8, "--ilp", 4, "--json").out)
    assert set(dense) == MMA_KEYS
    assert dense["throughput_fma_per_cycle_per_sm"] == pytest.approx(1024, rel=0.01)
    assert sparse["throughput_fma_per_cycle_per_sm"] == pytest.approx(2 * dense["throughput_fma_per_cycle_per_sm"], rel=0.01)
    assert dense["latency_cycles"] == 25
    tf32 = nmsim("mma", ampere, "--shape", "m16n8k16", "--sparse", "--dtype", "tf32")
    assert "m16n8k16 tf32 1:2: latency 25 cycles" in tf32.out
    narrow = nmsim("mma", ampere, "--shape", "m16n8k16", "--acc", "fp16")
    assert "m16n8k16 fp16 dense into fp16: latency 24 cycles" in narrow.out


def test_mma_asks_which_pattern_where_a_machine_has_several(nmsim: Run, ampere: Path, tmp_path: Path) -> None:
    machine = tmp_path / "two.yaml"
    text = ampere.read_text()
    row = "{dtype: fp16, pattern: 1:4, shape: [16, 8, 32], issue_interval_cycles: 4, latency_cycles: 20, sources: {'*': assumption}}"
    machine.write_text(text.replace("  mma:\n", f"  mma:\n    - {row.replace('1:4', chr(34) + '1:4' + chr(34))}\n", 1))
    ran = nmsim("mma", machine, "--shape", "m16n8k32", "--sparse")
    assert ran.code == 2
    assert "has sparse instructions of this shape for fp16 with 1:4, 2:4; name one with --pattern" in ran.err
    assert "fp16 1:4: latency 20 cycles" in nmsim("mma", machine, "--shape", "m16n8k32", "--pattern", "1:4").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--shape", "16x8x16"), "--shape: not an instruction shape"),
        (("--shape", "m16n8k99"), "has no such instruction"),
        (("--shape", "m16n8k16", "--dtype", "fp99"), "has no such instruction"),
        (("--shape", "m16n8k16", "--warps", 0), "an SM runs 1 to 64 warps"),
        (
            ("--shape", "m16n8k64", "--sparse"),
            "has no sparse instruction of this shape for fp16, got 'm16n8k64'; for fp16 it has m16n8k16, m16n8k32",
        ),
        (("--shape", "m16n8k64", "--acc", "fp8"), "has no such instruction"),
        ((), "Missing option '--shape'"),
    ],
)
def test_an_instruction_that_is_not_there_is_one_line_and_code_2(
    arguments: tuple[object, ...], words: str, nmsim: Run, ampere: Path
) -> None:
    ran = nmsim("mma", ampere, *arguments)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert words in ran.err


def test_a_kernel_can_be_forced(nmsim: Run, ampere: Path) -> None:
    options = ("--cta", "64x64x64", "--warp", "32x32", "--stages", 1, "--layout", "linear", "--copy", "sync", "--fragments", "reloaded")
    slow = gemm_json(nmsim, ampere, *SHAPE, *options, "--registers", 72)
    assert slow["kernel"] == "s16816gemm_f16_64x64_64x1_linear_sync_reloaded"
    assert (slow["cta_tile"], slow["occupancy"]) == ([64, 64, 64], 7)
    sparse = gemm_json(nmsim, ampere, *SHAPE, "--pattern", "2:4", "--cta", "64x32x64")
    assert sparse["kernel"] == "s16832spgemm_2:4_f16_64x32_64x2"
    assert slow["cycles"] > 2 * gemm_json(nmsim, ampere, *SHAPE, "--cta", "64x64x64")["cycles"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--layout", "linear"), "--layout: says how a kernel of your own is built, and there is none; give its --cta too"),
        (("--cta", "64x64"), "--cta: is not of the form MxNxK, got '64x64'; write for example 64x64x64"),
        (("--cta", "64x64x4"), "--cta: has rows of less than the 16 bytes that a copy moves"),
        (("--cta", "64x64x64", "--warp", "32x31"), "--warp: does not divide the tile 64x64 into whole warps"),
        (("--cta", "64x64x64", "--layout", "folded"), "--layout: input should be 'swizzled', 'padded', 'linear' or 'permuted'"),
        (("--cta", "64x64x64", "--stages", 0), "--stages: input should be greater than or equal to 1"),
        (("--cta", "256x256x256"), "no kernel of NVIDIA A100 SXM4 80GB fits an SM"),
    ],
)
def test_a_kernel_that_cannot_be_is_refused(options: tuple[object, ...], words: str, nmsim: Run, ampere: Path) -> None:
    ran = nmsim("gemm", ampere, *SHAPE, *options)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert words in ran.err
