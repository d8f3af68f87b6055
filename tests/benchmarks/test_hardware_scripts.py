"""The scripts that measure a user's GPU, as far as that goes without one: their files, their sampling, and that their CUDA compiles."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from nmsim.arch.load import load_gpu
from nmsim.errors import InputError
from nmsim.validation.gemm_rows import read_gemm_rows
from nmsim.validation.measured import Context, find_arch
from nmsim.validation.run import run_suites

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


GIB = 1 << 30
CARDS = {
    ("NVIDIA A100-SXM4-80GB", 108, 79.3): "ampere.yaml",
    ("NVIDIA A100 80GB PCIe", 108, 79.3): "ampere_pcie.yaml",
    ("NVIDIA H100 PCIe", 114, 79.2): "hopper_pcie.yaml",
    ("NVIDIA H100 80GB HBM3", 132, 79.2): "hopper.yaml",
    ("NVIDIA H200", 132, 139.8): "hopper_h200.yaml",
    ("NVIDIA GeForce RTX 4090", 128, 23.6): "ada.yaml",
    ("NVIDIA GeForce RTX 4070 Ti SUPER", 66, 15.7): "ada_4070_ti_super.yaml",
    ("Tesla V100-SXM2-32GB", 80, 31.7): "volta.yaml",
}
"""Name, SMs and GiB as a driver reports them."""
OTHERS = (
    ("NVIDIA GH200 480GB", 132, 94.5),
    ("NVIDIA H100 NVL", 132, 93.1),
    ("NVIDIA H200 NVL", 132, 139.8),
    ("NVIDIA A100-SXM4-40GB", 108, 39.4),
    ("NVIDIA A100-PCIE-40GB", 108, 39.4),
    ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", 42, 39.2),
    ("NVIDIA A100-SXM4-80GB", 42, 39.2),
    ("NVIDIA RTX A1000", 18, 7.7),
    ("NVIDIA GeForce RTX 4090 D", 114, 23.6),
    ("NVIDIA GeForce RTX 4090 Laptop GPU", 76, 15.6),
    ("Tesla V100-PCIE-32GB", 80, 31.7),
    ("Tesla V100-SXM2-16GB", 80, 15.7),
    ("NVIDIA GeForce RTX 3060", 28, 11.6),
)


def test_the_table_of_cards_is_that_of_the_shipped_machines(scripts: dict[str, ModuleType]) -> None:
    for _, sms, nominal, file in scripts["rows"].MACHINES:
        spec = load_gpu(find_arch(file))
        assert (spec.sm.count, spec.dram.capacity_gib) == (sms, nominal)


@pytest.mark.parametrize("card", [*CARDS, *OTHERS], ids=lambda card: f"{card[0]}, {card[1]} SMs")
def test_a_card_is_known_by_its_whole_name_its_sms_and_its_memory(card: tuple[str, int, float], scripts: dict[str, ModuleType]) -> None:
    name, sms, gib = card
    assert scripts["rows"].machine_of(name, sms, int(gib * GIB)) == CARDS.get(card, "")


def test_a_card_that_no_shipped_file_describes_has_to_be_named(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    file = tmp_path / "my_gpu.csv"
    said = scripts["rows"].what_to_do("NVIDIA H100 NVL", 132, int(93.1 * GIB), file)
    assert "'NVIDIA H100 NVL' with 132 SMs and 93.1 GiB" in said
    assert f"the column `arch` of {file}" in said
    file.write_text("id,arch,m,n,k,dense_us,sparse_us\na,,64,64,64,5,\n")
    with pytest.raises(InputError, match="arch: is empty"):
        read_gemm_rows(file)


def test_what_instructions_py_writes_is_what_validate_reads(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    instructions, file = scripts["instructions"], tmp_path / "my_instructions.csv"
    per_iteration = {"mma.sync": 1640, "mma.sp.m": 3280}
    rows = []
    for point in instructions.points("sm_80"):
        cycles = per_iteration[point.instruction.name[:8]] / 100 * scripts["kernels"].ITERATIONS
        answer = f"{cycles:.0f} 108 {int(79.3 * GIB)} NVIDIA A100-SXM4-80GB\n"
        rows.append(instructions.row_of(point, answer, 1410, 90.5, file))
    scripts["rows"].write_rows(file, rows)
    (report,) = run_suites(["tensor_core"], Context(data=file))
    found = {row.comparison.row: row.comparison for row in report.rows}
    assert len(found) == len(rows) == 14
    assert report.verdicts == ()
    latency = found["mma.sync.m16n8k16.f32.f16 latency 1 warps 1 chains"]
    assert (latency.quantity, latency.simulated) == ("latency", 25)
    assert latency.published == pytest.approx(16.4)
    rate = found["mma.sp.m16n8k32.f32.f16 throughput 8 warps 2 chains"]
    assert rate.published == pytest.approx(16 * 16 * 8 * 32 / 32.8, rel=1e-3)
    assert rate.published == pytest.approx(next(row.throughput_fma_per_cycle_per_sm for row in rows if row.id == rate.row), rel=1e-3)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("x,absent.yaml,m16n8k16,latency,1,1,20", "arch: no such architecture file"),
        ("x,ampere.yaml,16x8x16,latency,1,1,20", "shape: is not an instruction shape, got '16x8x16'; write for example m16n8k16"),
        ("x,ampere.yaml,m16n8k99,latency,1,1,20", "has no such instruction"),
        ("x,ampere.yaml,m16n8k16,speed,1,1,20", "measures: is nothing that an instruction has, got 'speed'; write latency or throughput"),
        ("x,ampere.yaml,m16n8k16,latency,1,1,", "iteration_cycles: is empty"),
        ("x,hopper.yaml,m64n256k16,throughput,6,1,20", "warps: 4 warps run this instruction together, got '6'; use a multiple of 4"),
        ("first,ampere.yaml,m16n8k16,latency,1,1,20", "id: is the id of an earlier line too"),
    ],
)
def test_a_wrong_instruction_row_is_named_with_its_line(line: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    header = "id,arch,shape,measures,warps,chains,iteration_cycles\n"
    file.write_text(f"{header}first,ampere.yaml,m16n8k16,latency,1,1,20\n{line}\n")
    with pytest.raises(InputError) as error:
        run_suites(["tensor_core"], Context(data=file))
    assert str(error.value).startswith(f"{file}:3: ")
    assert says in str(error.value)


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
    hopper, ampere = scripts["instructions"].points("sm_90a"), scripts["instructions"].points("sm_80")
    assert {point.instruction.name for point in ampere} == {"mma.sync.m16n8k16.f32.f16", "mma.sp.m16n8k32.f32.f16"}
    assert len({point.instruction.name for point in hopper}) == 8
    assert {point.instruction.name for point in scripts["instructions"].points("sm_120a")} == {point.instruction.name for point in ampere}
    for point in hopper:
        assert point.warps % point.instruction.warps_together == 0
        text = scripts["kernels"].source(point.instruction, point.warps, point.chains, point.measures)
        assert point.instruction.name.split(".")[0] in text
        assert f"<<<1, {32 * point.warps}>>>" in text
    for name in {point.instruction.name for point in hopper}:
        own = [point for point in hopper if point.instruction.name == name]
        assert {point.measures for point in own} == {"latency", "throughput"}
        assert max(point.warps for point in own) == 8


def test_a_latency_of_wgmma_waits_in_each_iteration_and_a_throughput_does_not(scripts: dict[str, ModuleType]) -> None:
    wait = "wgmma.wait_group.sync.aligned 0;"
    for instruction in scripts["kernels"].WGMMA:
        latency, throughput = (scripts["kernels"].source(instruction, 4, 1, measures) for measures in ("latency", "throughput"))
        assert (latency.count(wait), throughput.count(wait)) == (2, 1)
        loop = latency[latency.index("for (int iteration") : latency.index("const long long stop")]
        assert loop.index("commit_group") < loop.index(wait) < loop.index("\n    }\n")


def test_a_program_runs_long_enough_for_its_clock_to_be_sampled(scripts: dict[str, ModuleType]) -> None:
    assert scripts["kernels"].SECONDS >= 1
    text = scripts["kernels"].source(scripts["kernels"].MMA, 1, 1, "latency")
    assert f".count() < {scripts['kernels'].SECONDS});" in text


@pytest.mark.parametrize(
    ("architecture", "says"), [("sm_70", "none of the instructions"), ("ampere", "is no architecture"), ("sm_9", "is no")]
)
def test_an_architecture_without_the_instructions_is_refused(architecture: str, says: str, scripts: dict[str, ModuleType]) -> None:
    with pytest.raises(ValueError, match=says):
        scripts["instructions"].points(architecture)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="2026-11-21: compiling needs a CUDA toolkit, which is no requirement")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
def test_every_program_compiles(architecture: str, scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    once = {(point.instruction.name, point.measures): point for point in scripts["instructions"].points(architecture)}
    for point in once.values():
        assert scripts["instructions"].build(point, architecture, tmp_path).exists()
