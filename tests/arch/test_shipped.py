"""The shipped machines against what was published about them; tolerances are those of the publications."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nmsim.arch.check import check_arch
from nmsim.arch.coherence import shared_memory_needed
from nmsim.arch.load import load_arch, load_gpu
from nmsim.arch.spec import Block, GpuSpec
from nmsim.rules.fragments import instruction_of
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import element_bits

SHIPPED = sorted((Path(__file__).parents[2] / "arch_configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def a100(ampere: Path) -> GpuSpec:
    return load_gpu(ampere)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_machine_checks_without_a_finding(path: Path) -> None:
    assert [str(finding) for finding in check_arch(path)] == []


def every_block(block: Block) -> Iterator[Block]:
    yield block
    for _, value in block:
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Block):
                yield from every_block(part)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_source_says_what_kind_of_number_it_is(path: Path) -> None:
    kinds = ("datasheet", "measured", "derived", "fitted", "assumption")
    for block in every_block(load_arch(path)):
        for key, text in block.sources.items():
            assert any(kind in text for kind in kinds), f"{key}: {text}"


@pytest.mark.parametrize(
    ("dtype", "pattern", "tera_operations"),
    [("fp16", None, 312), ("bf16", None, 312), ("tf32", None, 156), ("int8", None, 624), ("int4", None, 1248),
     ("fp16", "2:4", 624), ("bf16", "2:4", 624), ("tf32", "1:2", 312), ("int8", "2:4", 1248)],
)  # fmt: skip
def test_the_a100_peaks_are_those_of_its_datasheet(a100: GpuSpec, dtype: str, pattern: str | None, tera_operations: float) -> None:
    macs = a100.peak_macs_per_cycle(dtype, None if pattern is None else NMPattern.parse(pattern))
    assert macs * 2 * a100.clock.boost_mhz * 1e-6 == pytest.approx(tera_operations, rel=0.002)


# Peak rates that the makers publish, in TFLOP/s or TOP/s, each at the clock it is given at.
@pytest.mark.parametrize(
    ("machine", "dtype", "pattern", "clock_mhz", "tera_operations"),
    [("volta", "fp16", None, 1530, 125), ("hopper", "fp16", None, 1830, 989.4), ("hopper", "fp16", "2:4", 1830, 1979),
     ("hopper", "int8", None, 1830, 1979), ("hopper", "fp8", "2:4", 1830, 3958), ("hopper", "tf32", None, 1830, 494.7),
     ("hopper_h200", "fp16", None, 1830, 989.4), ("hopper_pcie", "fp16", None, 1620, 756),
     ("ada", "fp16", None, 2520, 165.2), ("ada", "fp16", "2:4", 2520, 330.3), ("ada", "int8", None, 2520, 660.6),
     ("ada", "fp8", None, 2520, 330.3), ("ada", "int4", None, 2520, 1321.2), ("ada_4070_ti_super", "fp16", None, 2610, 88.2)],
)  # fmt: skip
def test_the_peaks_of_other_gpus_are_those_of_their_datasheets(
    machine: str, dtype: str, pattern: str | None, clock_mhz: int, tera_operations: float
) -> None:
    spec = load_gpu(SHIPPED[0].parent / f"{machine}.yaml")
    macs = spec.peak_macs_per_cycle(dtype, None if pattern is None else NMPattern.parse(pattern))
    assert macs * 2 * clock_mhz * 1e-6 == pytest.approx(tera_operations, rel=0.003)


def test_a_v100_has_no_sparse_instruction() -> None:
    assert not any(mma.nm for mma in load_gpu(SHIPPED[0].parent / "volta.yaml").tensor_core.mma)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_metadata_are_nine_sixteenths_with_the_values_in_every_type_but_int8(path: Path) -> None:
    """Of the dense operand: (16 + 2) / 32, (32 + 4) / 64, and (8 + 2) / 16, as CUTLASS stores them."""
    spec = load_arch(path)
    if not isinstance(spec, GpuSpec):
        return
    stored = {"fp16": NMPattern(2, 4), "bf16": NMPattern(2, 4), "tf32": NMPattern(1, 2), "int8": NMPattern(2, 4)}
    for mma in spec.tensor_core.mma:
        if mma.nm is not None and mma.nm == stored.get(mma.dtype):
            bits, group = element_bits(mma.dtype), mma.nm
            kept = group.n * bits + spec.metadata_code(mma.dtype, group).stored_bits(1)
            assert kept / (group.m * bits) == (0.625 if mma.dtype == "int8" else 0.5625)


def test_an_l2_of_hopper_gives_the_same_a_memory_controller_on_every_card(arch_configs: Path) -> None:
    """Ten controllers on the H100 and twelve on the H200, half a stack of memory each, whatever the slices are cut into."""
    h100, h200 = (load_gpu(arch_configs / f"hopper{name}.yaml").l2 for name in ("", "_h200"))
    assert h100.clock_mhz == h200.clock_mhz
    assert h200.bandwidth_gb_per_s / 12 == pytest.approx(h100.bandwidth_gb_per_s / 10, rel=1e-3)


def test_the_a100_runs_no_other_patterns(a100: GpuSpec) -> None:
    assert {(mma.dtype, mma.pattern) for mma in a100.tensor_core.mma if mma.nm} == {
        ("fp16", "2:4"), ("bf16", "2:4"), ("int8", "2:4"), ("tf32", "1:2")
    }  # fmt: skip


def test_accumulators_narrower_than_a_gemm_needs_are_no_kernel_s(a100: GpuSpec) -> None:
    assert {mma.accumulator for mma in a100.tensor_core.mma if mma not in a100.wide_mma} == {"fp16"}


# Measured throughput in dense-equivalent FMA per cycle per SM at 8 warps: the same tables.
MEASURED_THROUGHPUT = {
    ("dense", (16, 8, 16)): 1004.2,
    ("dense", (16, 8, 8)): 974.1,
    ("2:4", (16, 8, 32)): 1979.1,
    ("2:4", (16, 8, 16)): 1290.5,
}


def test_the_issue_intervals_allow_what_was_measured_and_little_more(a100: GpuSpec) -> None:
    for (pattern, shape), measured in MEASURED_THROUGHPUT.items():
        mma = next(m for m in a100.wide_mma if (m.dtype, m.pattern, m.shape) == ("fp16", pattern, shape))
        allowed = shape[0] * shape[1] * shape[2] / mma.issue_interval_cycles * a100.tensor_core.per_sm
        assert measured * 0.999 <= allowed <= measured * 1.06


def test_registers_limit_no_instruction_of_the_a100_but_the_short_ones_and_the_decoder_none(a100: GpuSpec) -> None:
    """Of the dense ones with half the k, the accumulators take more than half: m16n8k8 into FP32 takes 4.2 cycles for 4."""
    core = a100.tensor_core
    for mma in core.mma:
        one = instruction_of(mma, mma.dtype, accumulator_bytes=element_bits(mma.accumulator or mma.wide_accumulator) // 8)
        starved = one.register_bytes > core.register_read_bytes_per_cycle * mma.issue_interval_cycles
        assert starved == (mma.nm is None and mma.issue_interval_cycles == 4 and mma.accumulates_wide), mma
        assert one.codes <= core.decoder.codes_per_cycle * mma.issue_interval_cycles


def test_the_a100_l2_sustains_the_measured_bandwidth(a100: GpuSpec) -> None:
    assert 5350 <= a100.l2.bandwidth_gb_per_s <= 5415  # gpu-benches gpu-l2-cache/a100_80.txt, 2.5-25 MB, distinct blocks
    slices = a100.l2.partitions * a100.l2.slices_per_partition
    assert slices * a100.l2.bytes_per_cycle_per_slice == 5120  # whitepaper section 4.6.3
    assert a100.l2.capacity_bytes == slices * 512 * 1024


def test_idle_dram_latency_is_the_measured_one(a100: GpuSpec) -> None:
    dram, l2, gigahertz = a100.dram, a100.l2, a100.clock.boost_mhz / 1000
    bus_ns = dram.interleave_bytes / (dram.bandwidth_gb_per_s / dram.channels)
    hidden_ns = dram.precharge_ns + dram.row_to_column_ns + dram.cas_ns  # a bank opens its row while its channel refreshes
    refresh_ns = (dram.refresh_ns - hidden_ns) ** 2 / (2 * dram.refresh_interval_ns)  # at any time with equal chance
    closed_row = (dram.controller_ns + refresh_ns + dram.row_to_column_ns + dram.cas_ns + bus_ns) * gigahertz
    mean_hit = (l2.near_latency_cycles + l2.far_latency_cycles) / 2
    assert mean_hit + closed_row + dram.precharge_ns * gigahertz == pytest.approx(572, abs=1)  # gpu-benches, the row that was fitted
    assert l2.near_latency_cycles + closed_row == pytest.approx(474.9, rel=0.02)  # Luo, arXiv:2501.12084, table 4, not fitted
    assert l2.far_latency_cycles + closed_row == pytest.approx(622.7, rel=0.02)


def test_dram_bandwidth_is_pins_times_clock(a100: GpuSpec, arch_configs: Path) -> None:
    pcie = load_gpu(arch_configs / "ampere_pcie.yaml")
    assert a100.dram.bandwidth_gb_per_s == pytest.approx(5120 / 8 * 2 * 1.593, rel=0.001)
    assert pcie.dram.bandwidth_gb_per_s == pytest.approx(5120 / 8 * 2 * 1.512, rel=0.001)
    assert a100.dram.channels * 128 == 5120


def test_banks_can_hide_their_row_cycle_at_the_full_rate_of_a_channel(a100: GpuSpec) -> None:
    dram = a100.dram
    row_cycle_ns = dram.row_active_ns + dram.precharge_ns
    assert dram.banks * dram.row_bytes / row_cycle_ns > dram.bandwidth_gb_per_s / dram.channels


def test_every_tile_of_the_a100_fits_for_dense_fp16_and_leaves_a_thread_its_255_registers(a100: GpuSpec) -> None:
    for tile in a100.kernels.tiles:
        assert shared_memory_needed(tile) <= 163 * 1024
        assert tile.warp[0] * tile.warp[1] // 32 + a100.kernels.registers_per_thread <= 255


def all_in_pj_per_mac(spec: GpuSpec, pattern: NMPattern | None) -> float:
    """Dynamic energy of an executed FP16 MAC in a 256 x 128 tile of 64 x 64 warps: MAC, metadata, shared memory, L2 (DRAM left out)."""
    energy = spec.energy
    stored = 1.0 if pattern is None else 0.5625  # values and 2-bit metadata of operand A, as a share of the dense operand
    kept = 1.0 if pattern is None else float(pattern.density)
    shared = ((64 * stored + 64) / (64 * 64) + (256 * stored + 128) / (256 * 128)) * 2 / kept
    l2 = (256 * stored + 128) / (256 * 128) * 2 / kept
    metadata = 0.0 if pattern is None else energy.metadata_code_pj / 8
    return energy.mac_pj["fp16"] + metadata + shared * energy.shared_memory_pj_per_byte + l2 * energy.l2_pj_per_byte


# Watts of six GROMACS runs on an A100 over its clock in MHz: b1 f + c1 up to 810 MHz, a2 f^2 + b2 f + c2 above, as fitted to
# measurements in github.com/AyeshaAfzal91/PerfPerTCO @336900e Inputs/DVFS_PARAMS.js: (b1, c1, a2, b2, c2).
POWER_OVER_CLOCK = [
    (0.0477004, 61.8026, 3.027983e-4, -0.5243802, 329.55575),
    (0.0564527, 59.4918, 3.750555e-4, -0.6567727, 396.66120),
    (0.0633286, 59.6083, 3.867262e-4, -0.6693370, 403.80911),
    (0.0729665, 59.5659, 4.783219e-4, -0.8381549, 490.37616),
    (0.0783313, 59.5825, 4.965268e-4, -0.8724795, 511.21511),
    (0.0824236, 60.1770, 5.314858e-4, -0.9357046, 544.23473),
]


@pytest.mark.parametrize("curve", POWER_OVER_CLOCK)
def test_voltage_and_static_power_are_those_of_the_published_power_over_the_clock(a100: GpuSpec, curve: tuple[float, ...]) -> None:
    """What power is left above the static one, over what the line below 810 MHz has, is the square of the voltage's ratio."""
    b1, c1, a2, b2, c2 = curve
    assert a100.power.static_w == pytest.approx(c1, abs=2)
    for clock_mhz in (900, 1005, 1065, 1110, 1185, 1260, 1335, 1410):
        published = (a2 * clock_mhz**2 + b2 * clock_mhz + c2 - c1) / (b1 * clock_mhz)
        assert a100.power.switching_energy_ratio(clock_mhz) ** 0.5 == pytest.approx(published**0.5, rel=0.03)


@pytest.mark.parametrize(("pattern", "tflops"), [(None, 235), ("2:4", 375)])
def test_the_published_rates_of_the_pcie_card_take_most_of_its_power_and_no_more(
    arch_configs: Path, pattern: str | None, tflops: float
) -> None:
    """SlideSparse FP16, the best of M >= 8192 and of the dense squares, on a 300 W card; a sixth is left for DRAM and overheads."""
    pcie = load_gpu(arch_configs / "ampere_pcie.yaml")
    nm = None if pattern is None else NMPattern.parse(pattern)
    executed = tflops / 2 * (1 if nm is None else float(nm.density))
    watts = pcie.power.static_w + executed * all_in_pj_per_mac(pcie, nm)
    assert 0.8 * pcie.power.board_limit_w < watts < pcie.power.board_limit_w


def test_streaming_power_is_the_measured_one(a100: GpuSpec) -> None:
    """gpu-benches gpu-roofline/alex_a100_40.txt at 0.25 flop/B: 1372 GB/s and 224-239 W (fitted)."""
    energy, volts = a100.energy, a100.power.switching_energy_ratio(1410)
    on_chip = volts * (energy.shared_memory_pj_per_byte + energy.l2_pj_per_byte)
    dram = energy.dram_pj_per_byte + energy.dram_activate_pj / a100.dram.row_bytes
    watts = a100.power.static_w + 1.372 * (on_chip + dram) + 0.343 * volts * energy.cuda_core_flop_pj
    assert 224 <= watts <= 239
