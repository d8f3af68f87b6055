"""Other sparse formats as baselines: what they execute, on which units, and that none beats what it cannot beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.arch.spec import GpuSpec
from nmsim.mapping.problem import Problem
from nmsim.mapping.tile_wise import even_plan, thinned
from nmsim.result.rows import KernelRow, SimulationResult
from nmsim.run.choice import RunOptions, best_kernel
from nmsim.run.cuda_cores import on_cuda_cores
from nmsim.run.formats import FALLS_BACK, FORMATS, Formatted, drawn_blocks, lower_format
from nmsim.run.schemes import lower
from nmsim.run.trace import simulate_trace, trace_key
from nmsim.sparsity.tile_wise import mask_of_plan
from nmsim.workload.catalogue import conv_gemms, linear_gemms
from nmsim.workload.gemm import PHASES, ConvGeometry, Gemm
from nmsim.workload.trace import TileWisePlan, Trace
from nmsim.workload.validate import trace_findings

BIG = 1024


@pytest.fixture(scope="module")
def big(make_trace: Callable[..., Trace]) -> Trace:
    """One layer of 1024 x 1024 at half density, 2048 tokens, with tile-wise plans at 1/2 and (everything kept) 1, and one dense layer."""
    generator = np.random.default_rng(4)
    half = TileWisePlan(128, np.ones(BIG, dtype=np.bool_), generator.random((8, BIG)) < 0.5)
    whole = TileWisePlan(128, np.ones(BIG, dtype=np.bool_), np.ones((8, BIG), dtype=np.bool_))
    gemms = [*linear_gemms("fc", 2048, BIG, BIG, "fp16"), *linear_gemms("head", 128, 64, 64, "fp16")]
    return make_trace(gemms, {}, tile_wise={"1/2": {"fc": half}, "1": {"fc": whole}}, own_density="1/2")


@pytest.fixture(scope="module")
def result(big: Trace, spec: GpuSpec) -> SimulationResult:
    """On a board whose limit is out of reach, so that all schemes run at one clock."""
    unlimited = spec.model_copy(update={"power": spec.power.model_copy(update={"board_limit_w": 10_000.0})})
    return simulate_trace(unlimited, big, schemes=("dense", "tile_wise", *FORMATS))


def of_phase(gemms: Sequence[Gemm], phase: str) -> Gemm:
    return next(gemm for gemm in gemms if gemm.phase == phase)


def row(result: SimulationResult, scheme: str, phase: str, kind: str = "gemm") -> KernelRow:
    return next(one for one in result.rows if (one.scheme, one.phase, one.kind, one.module) == (scheme, phase, kind, "fc"))


@pytest.mark.parametrize("scheme", FORMATS)
def test_every_gemm_has_a_row_and_layers_that_are_not_pruned_run_dense(scheme: str, result: SimulationResult, big: Trace) -> None:
    rows = [one for one in result.rows if one.scheme == scheme and one.kind == "gemm"]
    assert [one.gemm_id for one in rows] == [gemm.id for gemm in big.gemms]
    dense = {one.gemm_id: one for one in result.rows if one.scheme == "dense"}
    for one in rows:
        if one.module == "head":
            assert "not pruned" in one.reason
        elif scheme not in FALLS_BACK:
            assert one.ran_sparse
        if not one.ran_sparse:
            assert one.cycles == dense[one.gemm_id].cycles


def product_us(result: SimulationResult, scheme: str, phase: str) -> float:
    """Of the pruned layer, all its kernels and passes."""
    return sum(one.time_us for one in result.rows if (one.scheme, one.phase, one.module) == (scheme, phase, "fc"))


@pytest.mark.parametrize("phase", PHASES)
def test_no_product_on_tensor_cores_is_slower_than_dense_with_all_its_passes(phase: str, result: SimulationResult) -> None:
    """Where it ran sparse it is as fast; where it did not, it is the dense one, and says how slow the format would have been."""
    dense = product_us(result, "dense", phase)
    for scheme in FALLS_BACK:
        found = row(result, scheme, phase)
        assert product_us(result, scheme, phase) <= dense
        assert found.ran_sparse or product_us(result, scheme, phase) == dense
        assert ("as long as dense here, so it runs dense" in found.reason) <= (not found.ran_sparse)
    assert not row(result, "tew", phase).ran_sparse
    assert float(row(result, "tew", phase).reason.split("this takes ")[1].split()[0]) > 1


def test_zeroing_and_launches_count_where_tiles_and_dense_are_compared(spec: GpuSpec, make_trace: Callable[..., Trace]) -> None:
    """Nearly all of W in tiles: cheaper than dense by less than zeroing dX takes, so that only a step of free launches runs them so."""
    rows = np.zeros((1, BIG), dtype=np.bool_)
    rows[:, : BIG // 2] = True
    plan = TileWisePlan(128, np.ones(128, dtype=np.bool_), rows)
    gemms = [gemm for gemm in linear_gemms("fc", 4096, BIG, 128, "fp16") if gemm.phase == "backward_data"]
    trace = make_trace(gemms, {}, tile_wise={"1/2": {"fc": plan}}, own_density="1/2")
    tiles = lower(spec, trace, gemms[0], "tile_wise")
    dense = lower(spec, trace, gemms[0], "dense")
    options = RunOptions()
    assert best_kernel(spec, tiles.problem, options).cycles < best_kernel(spec, dense.problem, options).cycles
    found = next(one for one in simulate_trace(spec, trace, schemes=("tile_wise",)).rows if one.scheme == "tile_wise")
    assert not found.ran_sparse
    assert found.reason.endswith("times as long as dense here, so it runs dense")
    assert {one.kernel for one in simulate_trace(spec, trace, schemes=("tile_wise",)).rows} & {"zero_dX"} == set()


@pytest.mark.parametrize("phase", PHASES)
def test_cuda_core_formats_take_their_flops_at_the_fp32_rate_and_are_far_slower_than_dense_tensor_cores(
    phase: str, result: SimulationResult, spec: GpuSpec
) -> None:
    """Half of 2048 x 1024 x 1024 MACs at 64 FMA a cycle and SM, where the tensor cores do 1024; a tenth more until operands are there.

    Fewer index bytes never cost time.
    """
    for scheme in ("vector_wise", "unstructured"):
        found = row(result, scheme, phase)
        flops = found.counters["cuda_core_flops"]
        assert flops == pytest.approx(2 * 2048 * BIG * BIG / 2, rel=0.01)
        least = flops / (2 * spec.sm.fp32_fma_per_cycle * spec.sm.count)
        assert least <= found.cycles < 1.1 * least
        assert found.counters["executed_macs"] == 0
        assert found.time_us > 3 * row(result, "dense", phase).time_us
    assert row(result, "vector_wise", phase).time_us <= row(result, "unstructured", phase).time_us


@pytest.mark.parametrize("phase", PHASES)
def test_the_bytes_of_a_convolution_on_cuda_cores_are_those_of_its_tensors(phase: str) -> None:
    """3 x 3 taps meet each pixel nine times and read it once; a pointwise stride skips three of four."""
    conv = ConvGeometry(8, 16, 16, 64, 128, 3, 3, 1, 1, 1, 1)
    found = on_cuda_cores(of_phase(conv_gemms("conv", conv, "fp16"), phase), 0.5, index_bits=32, name="unstructured")
    x, dy, weight = 8 * 16 * 16 * 64 * 2, 8 * 16 * 16 * 128 * 2, 128 * 9 * 64 // 2 * (2 + 4)
    moved = {"forward": (x + weight, dy), "backward_data": (dy + weight, x), "backward_weight": (dy + x, weight)}
    assert (found.bytes_read, found.bytes_written) == moved[phase]
    pointwise = of_phase(
        conv_gemms("conv", replace(conv, kernel_h=1, kernel_w=1, stride_h=2, stride_w=2, pad_h=0, pad_w=0), "fp16"), "forward"
    )
    assert on_cuda_cores(pointwise, 0.5, index_bits=0, name="unstructured").bytes_read == x // 4 + 128 * 64


@pytest.mark.parametrize("phase", ["forward", "backward_data"])
def test_blocks_execute_the_share_that_they_keep_and_are_slower_than_wide_tiles(phase: str, big: Trace, spec: GpuSpec) -> None:
    gemm = of_phase(big.gemms, phase)
    formatted = lower_format(spec, big, gemm, "block_sparse")
    assert formatted.tensor is not None
    run = best_kernel(spec, formatted.tensor.problem, RunOptions())
    assert run.counters.executed_macs == gemm.macs / 2
    assert "32 x 32 blocks at density 1/2, 50% of this layer kept" in formatted.reason
    assert run.cycles > best_kernel(spec, lower(spec, big, of_phase(big.gemms, "forward"), "tile_wise").problem, RunOptions()).cycles


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), density=st.floats(0.05, 1))
def test_drawn_blocks_keep_the_density_to_a_block_and_leave_no_row_of_them_empty(rows: int, columns: int, density: float) -> None:
    kept = drawn_blocks("fc", rows, columns, density)
    assert kept.shape == (rows, columns)
    assert kept.any(axis=1).all()
    assert kept.sum() == max(rows, round(density * rows * columns))
    assert (kept == drawn_blocks("fc", rows, columns, density)).all()


def macs(problem: Problem) -> int:
    """Before tile padding; of a compressed operand, those of its dense form."""
    return sum(group.m * group.n * group.k for group in problem.groups)


@pytest.mark.parametrize("density", ["1/2", "1/4"])
def test_all_formats_keep_the_same_share_in_forward(density: str, make_trace: Callable[..., Trace], spec: GpuSpec) -> None:
    """Counted as MACs before padding, half of those of a 2:4 operand; tiles to the nearest of their rows."""
    share = Fraction(density)
    plans = {str(one): {"fc": even_plan(BIG, BIG, 128, BIG, int(one * BIG))} for one in (share, 2 * share) if one < 1}
    gemm = linear_gemms("fc", 512, BIG, BIG, "fp16")[0]
    trace = make_trace([gemm], {}, tile_wise=plans, own_density=density)
    for scheme in ("tile_wise", *FORMATS):
        formatted = lower_format(spec, trace, gemm, scheme) if scheme != "tile_wise" else Formatted("", lower(spec, trace, gemm, scheme))
        kept = 0.0 if formatted.cuda is None else formatted.cuda.flops / 2
        if formatted.tensor is not None:
            problem = formatted.tensor.problem
            kept += macs(problem) * (1.0 if problem.pattern is None else float(problem.pattern.density))
        assert kept / gemm.macs == pytest.approx(float(share), abs=1 / BIG), scheme
        if scheme not in ("tile_wise", "vector_wise"):
            assert f"at density {density}" in formatted.reason


def test_tew_takes_tiles_of_so_much_less_as_it_restores(make_trace: Callable[..., Trace], spec: GpuSpec) -> None:
    """From the trace where it has them, and then of these rows; else by thinning its own, evenly and each tile alike."""
    gemm = linear_gemms("fc", 512, BIG, BIG, "fp16")[0]
    half, less = even_plan(BIG, BIG, 128, BIG, 512), even_plan(BIG, BIG, 128, BIG, 460)
    with_less = make_trace([gemm], {}, tile_wise={"1/2": {"fc": half}, "9/20": {"fc": less}}, own_density="1/2")
    alone = make_trace([gemm], {}, tile_wise={"1/2": {"fc": half}}, own_density="1/2")
    found = [lower_format(spec, trace, gemm, "tew") for trace in (with_less, alone)]
    for formatted, rows in zip(found, (460, round(0.9 * 512)), strict=True):
        assert formatted.tensor is not None
        assert {group.k for group in formatted.tensor.problem.groups} == {rows}
    assert "10% fewer rows each" in found[1].reason
    assert "fewer" not in found[0].reason


@settings(max_examples=40, deadline=None)
@given(kept=st.lists(st.integers(0, 200), min_size=1, max_size=6), share=st.floats(0, 1))
def test_a_thinned_plan_keeps_a_share_of_each_tile_evenly(kept: list[int], share: float) -> None:
    rows = np.zeros((len(kept), 200), dtype=np.bool_)
    for tile, count in enumerate(kept):
        rows[tile, np.random.default_rng(tile).choice(200, count, replace=False)] = True
    plan = TileWisePlan(16, np.ones(16 * len(kept), dtype=np.bool_), rows)
    thin = thinned(plan, share)
    assert not (thin.rows & ~rows).any()
    for before, after in zip(rows, thin.rows, strict=True):
        assert after.sum() == (max(1, round(share * before.sum())) if before.any() else 0)
        places = np.flatnonzero(after[before])  # among the kept rows, gaps differ by one
        assert len(places) < 2 or np.ptp(np.diff(places)) <= 1


def test_at_half_density_tvw_is_two_of_four_in_whole_tiles(result: SimulationResult) -> None:
    """All rows and columns: the compressed product in forward, the dense one elsewhere, though the trace has half-full tiles."""
    forward = row(result, "tvw", "forward")
    assert forward.native_pattern == "2:4"
    assert forward.counters["executed_macs"] == 2048 * BIG * BIG / 2
    assert "at density 1/2 over the network: whole tiles" in forward.reason
    for phase in ("backward_data", "backward_weight"):
        assert row(result, "tvw", phase).cycles == row(result, "dense", phase).cycles
        assert "does not run along this reduction" in row(result, "tvw", phase).reason


def test_tvw_without_tiles_of_twice_the_density_says_what_it_keeps(make_trace: Callable[..., Trace], spec: GpuSpec) -> None:
    gemm = linear_gemms("fc", 512, BIG, BIG, "fp16")[0]
    trace = make_trace([gemm], {}, tile_wise={"1/4": {"fc": even_plan(BIG, BIG, 128, BIG, 256)}}, own_density="1/4")
    reason = lower_format(spec, trace, gemm, "tvw").reason
    assert "at density 1/8 over the network: 8 tiles of 128 at 1/4, for the trace has none at 1/2, 2:4 along their rows" in reason
    denser = make_trace([gemm], {}, tile_wise={"3/4": {"fc": even_plan(BIG, BIG, 128, BIG, 768)}}, own_density="3/4")
    assert "at density 1/2 over the network: whole tiles" in lower_format(spec, denser, gemm, "tvw").reason


def test_plans_that_a_baseline_reads_are_part_of_a_traces_key(make_trace: Callable[..., Trace]) -> None:
    gemm = linear_gemms("fc", 512, BIG, BIG, "fp16")[0]
    own, others = {"1/4": {"fc": even_plan(BIG, BIG, 128, BIG, 256)}}, [even_plan(BIG, BIG, 128, BIG, rows) for rows in (512, 500)]
    keys = {
        density: {trace_key(make_trace([gemm], {}, tile_wise=own | {density: {"fc": plan}}, own_density="1/4")) for plan in others}
        for density in ("1/2", "1/5", "1/8")
    }
    assert {density: len(found) for density, found in keys.items()} == {"1/2": 2, "1/5": 2, "1/8": 1}


def test_dx_is_zeroed_where_tiles_add_to_it_and_nowhere_else(result: SimulationResult) -> None:
    zeroed = {one.scheme for one in result.rows if one.kernel == "zero_dX"}
    assert zeroed == {scheme for scheme in ("tile_wise", "tew") if row(result, scheme, "backward_data").ran_sparse}


def test_a_layer_trained_with_tew_runs_its_tiles_and_its_own_remainder_as_traced(
    big: Trace, spec: GpuSpec, make_trace: Callable[..., Trace]
) -> None:
    """Of a mask that keeps 51 % where its tiles keep 48 %, 3 % run on the CUDA cores; a mask within its tiles leaves nothing."""
    plan = big.tile_wise["1/2"]["fc"]
    tiles = mask_of_plan(plan.columns, plan.rows, plan.tile_width).T
    outside = np.flatnonzero(~tiles.ravel())
    mask = tiles.copy()
    mask.ravel()[np.random.default_rng(0).choice(outside, round(0.03 * tiles.size), replace=False)] = True

    def traced(kept: np.ndarray | None) -> SimulationResult:
        key = None if kept is None else "fc.weight"
        gemms = [
            replace(gemm, b=replace(gemm.b, structure="tile_wise", mask=key)) if gemm.module == "fc" and gemm.b.role == "weight" else gemm
            for gemm in big.gemms
        ]
        masks = {} if kept is None else {"fc.weight": kept}
        trace = make_trace(gemms, masks, tile_wise=big.tile_wise, own_density="1/2")
        assert list(trace_findings(trace)) == []
        return simulate_trace(spec, trace, schemes=("traced", "tile_wise"))

    with_elements, without = traced(mask), traced(None)
    for phase in ("forward", "backward_data", "backward_weight"):
        rows = [one for one in with_elements.rows if (one.scheme, one.phase, one.module) == ("traced", phase, "fc")]
        remainder = next(one for one in rows if one.kernel == "tew_remainder")
        assert remainder.counters["cuda_core_flops"] == pytest.approx(0.03 * 2 * 2048 * BIG * BIG, rel=0.01)
        tiles_alone = [one for one in without.rows if (one.scheme, one.phase, one.module) == ("traced", phase, "fc")]
        assert sum(one.cycles for one in rows) == pytest.approx(sum(one.cycles for one in tiles_alone) + remainder.cycles)
        # Tiles that add to dX need it zeroed, whether they are the baseline's or the trained ones.
        assert any(one.kernel == "zero_dX" for one in tiles_alone) == (phase == "backward_data")


def test_a_convolution_has_blocks_too(spec: GpuSpec, make_trace: Callable[..., Trace]) -> None:
    conv = ConvGeometry(2, 8, 8, 64, 128, 3, 3, 1, 1, 1, 1)
    gemms = list(conv_gemms("conv", conv, "fp16"))
    plan = TileWisePlan(128, np.ones(128, dtype=np.bool_), np.ones((1, 576), dtype=np.bool_))
    trace = make_trace(gemms, {}, tile_wise={"1/2": {"conv": plan}}, own_density="1/2")
    for gemm in gemms:
        for scheme in FORMATS:
            formatted = lower_format(spec, trace, gemm, scheme)
            assert formatted.tensor is not None or formatted.cuda is not None
            assert formatted.reason
