"""The scripts that measure a user's GPU, as far as that goes without one: their files, their sampling, and that their CUDA compiles."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from nmsim.errors import InputError
from nmsim.validation.gemm_rows import read_gemm_rows
from nmsim.validation.measured import find_arch

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "hardware"


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The scripts as modules, as they see each other when one is run."""
    sys.path.insert(0, str(SCRIPTS))
    names = ("rows", "board", "kernels", "instructions")
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(SCRIPTS))
        for name in names:
            sys.modules.pop(name, None)


def test_what_gemms_py_writes_is_what_validate_reads(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    rows = scripts["rows"]
    shared = {
        "m": 64,
        "n": 128,
        "k": 256,
        "dtype": "fp16",
        "out_dtype": "fp16",
        "pattern": "2:4",
        "l2": "warm",
        "gpu": "NVIDIA A100-SXM4-80GB",
    }
    board = {"clock_mhz": 1410, "power_w": 312.5, "sparse_clock_mhz": None, "sparse_power_w": None}
    about = {"tags": "own", "source": "benchmarks/hardware/gemms.py, torch 2", "status": "measured", "note": ""}
    measured = rows.GemmRow(id="a", arch="ampere.yaml", dense_us=12.5, sparse_us=8.25, compress_us=3.0, **shared, **board, **about)
    dense_only = rows.GemmRow(id="b", arch="ampere.yaml", dense_us=12.5, sparse_us=None, compress_us=None, **shared, **board, **about)
    file = tmp_path / "my_gpu.csv"
    rows.write_rows(file, [measured, dense_only])
    first, second = read_gemm_rows(file)
    assert (first.id, first.arch, first.m, first.n, first.k, first.pattern) == ("a", "ampere.yaml", 64, 128, 256, "2:4")
    assert (first.dense_us, first.sparse_us, first.l2) == (12.5, 8.25, "warm")
    assert (second.dense_us, second.sparse_us) == (12.5, None)


def test_a_card_that_no_shipped_file_describes_has_to_be_named(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    rows = scripts["rows"]
    assert {file for _, file in rows.MACHINES} <= {path.name for path in (SCRIPTS.parents[1] / "arch_configs").glob("*.yaml")}
    known = {"NVIDIA A100-SXM4-80GB": "ampere.yaml", "NVIDIA A100 80GB PCIe": "ampere_pcie.yaml", "NVIDIA H100 PCIe": "hopper_pcie.yaml"}
    known |= {"NVIDIA H100 80GB HBM3": "hopper.yaml", "NVIDIA GeForce RTX 4090": "ada.yaml", "Tesla V100-SXM2-32GB": "volta.yaml"}
    assert {gpu: rows.machine_of(gpu) for gpu in known} == known
    assert rows.machine_of("NVIDIA GeForce RTX 3060") == ""
    for machine in known.values():
        find_arch(machine)
    file = tmp_path / "my_gpu.csv"
    file.write_text("id,arch,m,n,k,dense_us,sparse_us\na,,64,64,64,5,\n")
    with pytest.raises(InputError, match="arch: is empty"):
        read_gemm_rows(file)


def test_the_board_is_sampled_while_something_runs_and_settled_values_count(scripts: dict[str, ModuleType]) -> None:
    sampled = ("600, 80.0", "[N/A], 1", "1400, 300.0", "1380, 310.0", "1390, 305.5", "1390, 305.5")
    lines = "; ".join(f"print({line!r}, flush=True)" for line in sampled)
    with scripts["board"].BoardSampler(command=(sys.executable, "-c", lines)) as board:
        board._process.wait()
    assert (board.clock_mhz, board.power_w) == (1390, 305.5)
    with scripts["board"].BoardSampler(command=("no-such-program",)) as absent:
        pass
    assert (absent.clock_mhz, absent.power_w) == (None, None)


def test_each_instruction_is_timed_at_one_warp_and_at_eight(scripts: dict[str, ModuleType]) -> None:
    hopper = list(scripts["instructions"].points("sm_90a"))
    ampere = list(scripts["instructions"].points("sm_80"))
    assert {instruction.name for instruction, _, _ in ampere} == {"mma.sync.m16n8k16.f32.f16", "mma.sp.m16n8k32.f32.f16"}
    assert len({instruction.name for instruction, _, _ in hopper}) == 8
    for instruction, warps, chains in hopper:
        assert warps % instruction.warps_together == 0
        text = scripts["kernels"].source(instruction, warps, chains)
        assert instruction.name.split(".")[0] in text
        assert f"<<<1, {32 * warps}>>>" in text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="2026-11-21: compiling needs a CUDA toolkit, which is no requirement")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
def test_every_program_compiles(architecture: str, scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    once = {instruction.name: (instruction, warps, chains) for instruction, warps, chains in scripts["instructions"].points(architecture)}
    for instruction, warps, chains in once.values():
        assert scripts["instructions"].build(instruction, warps, chains, architecture, tmp_path).exists()
