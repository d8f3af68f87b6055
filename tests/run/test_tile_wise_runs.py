"""Tile-wise plans on the machine: what they save, and what unequal tiles cost."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.arch.spec import GpuSpec, TileSpec
from nmsim.errors import InputError
from nmsim.mapping.candidates import build_plan, rank
from nmsim.mapping.lower import lower_dense
from nmsim.mapping.tile_wise import lower_tile_wise
from nmsim.run.choice import RunOptions, best_kernel, run_at
from nmsim.run.kernel import KernelRun
from nmsim.run.single import what_if_gemm
from nmsim.run.tile_wise import TileWiseShape, simulate_tile_wise
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.catalogue import conv_gemms, linear_gemms
from nmsim.workload.gemm import PHASES, ConvGeometry, Gemm
from nmsim.workload.trace import TileWisePlan

OPTIONS = RunOptions()
WIDTH = 128


def plan_of(columns: int, rows: int, kept_columns: int, kept_rows: Sequence[int]) -> TileWisePlan:
    generator = np.random.default_rng(3)
    chosen_columns = np.zeros(columns, dtype=np.bool_)
    chosen_columns[generator.choice(columns, kept_columns, replace=False)] = True
    chosen_rows = np.zeros((len(kept_rows), rows), dtype=np.bool_)
    for tile, count in enumerate(kept_rows):
        chosen_rows[tile, generator.choice(rows, count, replace=False)] = True
    return TileWisePlan(WIDTH, chosen_columns, chosen_rows)


def of_phase(gemms: Sequence[Gemm], phase: str) -> Gemm:
    return next(gemm for gemm in gemms if gemm.phase == phase)


@pytest.mark.parametrize("phase", PHASES)
def test_a_plan_of_half_n_and_half_k_is_faster_than_dense_on_a_big_gemm(phase: str, spec: GpuSpec) -> None:
    """2048 x 2048 x 2048 with a quarter of its weights: at most half of the dense cycles, at least the quarter of its MACs.

    backward_data loses much of it: each of its eight tiles reads and writes half of dX.
    """
    gemm = of_phase(linear_gemms("fc", 2048, 2048, 2048, "fp16"), phase)
    quarter = lower_tile_wise(gemm, plan_of(2048, 2048, 1024, [1024] * 8))
    assert sum(group.m * group.n * group.k for group in quarter.groups) * 4 == gemm.macs
    dense, sparse = best_kernel(spec, lower_dense(gemm), OPTIONS), best_kernel(spec, quarter, OPTIONS)
    most = 1.0 if phase == "backward_data" else 0.5
    assert 0.25 * dense.cycles < sparse.cycles < most * dense.cycles
    assert sparse.counters.dense_equivalent_macs == gemm.macs


def one_wave(spec: GpuSpec) -> GpuSpec:
    """A library of one 128x128 tile, so that 9 x 12 output tiles are one CTA for each of 108 SMs."""
    tile = TileSpec(cta=(128, 128, 64), warp=(64, 64), stages=4)
    return spec.model_copy(update={"kernels": spec.kernels.model_copy(update={"tiles": (tile,), "max_split_k": 1})})


def run_rows(spec: GpuSpec, rows: Sequence[int]) -> KernelRun:
    machine = one_wave(spec)
    gemm = linear_gemms("fc", 9 * 128, 1024, 12 * 128, "fp16")[0]
    problem = lower_tile_wise(gemm, plan_of(12 * 128, 1024, 12 * 128, rows))
    plan = build_plan(machine, rank(machine, problem)[0])
    assert len(plan.ctas) == machine.sm.count
    return run_at(machine, plan, machine.clock.boost_mhz, OPTIONS)


@settings(max_examples=15, deadline=None)
@given(moved=st.lists(st.integers(-8, 8), min_size=6, max_size=6).filter(any))
def test_unequal_tiles_never_shorten_a_launch_of_one_wave_and_leave_sms_idle(moved: list[int], spec: GpuSpec) -> None:
    """1152 x 1536 x 1024 at half of its weights: rows moved from one tile to another keep the work and lengthen the longest."""
    shift = [delta * 32 for delta in moved]
    uneven = run_rows(spec, [512 + delta for delta in shift] + [512 - delta for delta in shift])
    even = run_rows(spec, [512] * 12)
    assert uneven.counters.executed_macs == even.counters.executed_macs
    assert uneven.cycles > even.cycles
    far = max(map(abs, moved)) >= 4  # a smaller shift is lost in the order in which operands arrive
    assert uneven.stall_cycles["imbalance"] > (1.0 if far else 0.9) * even.stall_cycles["imbalance"]


def test_the_time_of_one_wave_is_that_of_its_fullest_tile(spec: GpuSpec) -> None:
    """One tile of 12 with all 1024 rows, the others with what that leaves them: the time of an even plan that keeps everything."""
    longest = run_rows(spec, [1024] + [464] * 10 + [512 * 12 - 1024 - 4640])
    assert longest.cycles == pytest.approx(run_rows(spec, [1024] * 12).cycles, rel=0.1)
    assert longest.stall_cycles["imbalance"] > 0.3 * longest.cycles


@pytest.mark.parametrize("phase", PHASES)
def test_a_strided_convolution_runs_tile_wise_faster_than_dense(phase: str, spec: GpuSpec) -> None:
    from nmsim.mapping.convolution import lower_convolution

    conv = ConvGeometry(32, 28, 28, 256, 512, 3, 3, 2, 2, 1, 1)
    gemm = of_phase(conv_gemms("conv", conv, "fp16"), phase)
    plan = plan_of(512, 9 * 256, 256, [9 * 128] * 2)
    dense, sparse = (best_kernel(spec, problem, OPTIONS) for problem in (lower_convolution(gemm, None), lower_tile_wise(gemm, plan)))
    assert sparse.cycles < dense.cycles


def test_tile_vector_wise_halves_what_the_tensor_cores_do_and_is_faster_on_a_big_gemm(spec: GpuSpec) -> None:
    gemm = what_if_gemm(4096, 4096, 4096, 1, "fp16", "fp16")
    shape = TileWiseShape(128, 2048, 2048)
    tile_wise = simulate_tile_wise(spec, gemm, shape, None, OPTIONS)
    vector_wise = simulate_tile_wise(spec, gemm, shape, NMPattern(2, 4), OPTIONS)
    assert vector_wise.native_pattern == "2:4"
    assert vector_wise.busy_cycles == pytest.approx(tile_wise.busy_cycles / 2, rel=0.15)
    assert 1 < tile_wise.speedup_vs_dense < vector_wise.speedup_vs_dense < 8


@pytest.mark.parametrize("phase", ["forward", "backward_weight"])
def test_rows_that_lie_apart_are_read_like_rows_that_lie_together(phase: str, spec: GpuSpec) -> None:
    """One tile that keeps every eighth of X's rows, or the first eighth: the same bytes from DRAM, and about the same time.

    Not the very same time: rows that lie apart are on other channels. The rows themselves are a multiple of a DRAM interleave.
    """
    gemm, columns = of_phase(linear_gemms("fc", 4096, 1024, 128, "fp16"), phase), np.ones(128, dtype=np.bool_)
    apart, together = np.zeros((1, 1024), dtype=np.bool_), np.zeros((1, 1024), dtype=np.bool_)
    apart[0, ::8] = together[0, :128] = True
    runs = [best_kernel(spec, lower_tile_wise(gemm, TileWisePlan(WIDTH, columns, rows)), OPTIONS) for rows in (apart, together)]
    assert runs[0].counters.dram_read_bytes == runs[1].counters.dram_read_bytes
    assert runs[0].cycles == pytest.approx(runs[1].cycles, rel=0.1)


def test_a_launch_a_tile_costs_a_launch_a_tile(spec: GpuSpec) -> None:
    gemm = what_if_gemm(512, 512, 512, 1, "fp16", "fp16")
    one, many = (simulate_tile_wise(spec, gemm, TileWiseShape(128, 512, 256, streams=streams), None, OPTIONS) for streams in (False, True))
    assert many.launch_us == pytest.approx(one.launch_us + 3 * spec.launch.kernel_us)
    assert many.cycles == one.cycles
    waited_j = spec.power.static_w * 3 * spec.launch.kernel_us * 1e-6
    assert many.energy_j == pytest.approx(one.energy_j + waited_j)
    assert many.energy_by_unit_j["static"] == pytest.approx(spec.power.static_w * many.time_us * 1e-6)
    assert sum(many.energy_by_unit_j.values()) == pytest.approx(many.energy_j)
    assert many.power_w == pytest.approx(many.energy_j / many.time_us * 1e6)


@pytest.mark.parametrize(("shape", "path"), [((128, 0, 8), "--keep-n"), ((128, 8, 999), "--keep-k"), ((0, 8, 8), "--tile")])
def test_a_plan_that_cannot_be_is_named(shape: tuple[int, int, int], path: str, spec: GpuSpec) -> None:
    with pytest.raises(InputError, match=path):
        simulate_tile_wise(spec, what_if_gemm(64, 64, 64, 1, "fp16", "fp16"), TileWiseShape(*shape), None, OPTIONS)
