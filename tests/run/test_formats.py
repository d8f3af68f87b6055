"""Other sparse formats as baselines: what they execute, on which units, and that none beats what it cannot beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from nmsim.arch.spec import GpuSpec
from nmsim.result.rows import KernelRow, SimulationResult
from nmsim.run.formats import FORMATS, lower_format
from nmsim.run.trace import simulate_trace
from nmsim.sparsity.tile_wise import mask_of_plan
from nmsim.workload.catalogue import conv_gemms, linear_gemms
from nmsim.workload.gemm import ConvGeometry
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


def row(result: SimulationResult, scheme: str, phase: str, kind: str = "gemm") -> KernelRow:
    return next(one for one in result.rows if (one.scheme, one.phase, one.kind, one.module) == (scheme, phase, kind, "fc"))


@pytest.mark.parametrize("scheme", FORMATS)
def test_every_gemm_has_a_row_and_layers_that_are_not_pruned_run_dense(scheme: str, result: SimulationResult, big: Trace) -> None:
    rows = [one for one in result.rows if one.scheme == scheme and one.kind == "gemm"]
    assert [one.gemm_id for one in rows] == [gemm.id for gemm in big.gemms]
    dense = {one.gemm_id: one for one in result.rows if one.scheme == "dense"}
    for one in rows:
        if one.module == "head":
            assert not one.ran_sparse
            assert one.cycles == dense[one.gemm_id].cycles
        else:
            assert one.ran_sparse or (scheme, one.phase) == ("tvw", "backward_weight")


@pytest.mark.parametrize("phase", ["forward", "backward_data", "backward_weight"])
def test_cuda_core_formats_take_their_flops_at_the_fp32_rate_and_are_far_slower_than_dense_tensor_cores(
    phase: str, result: SimulationResult, spec: GpuSpec
) -> None:
    """Half of 2048 x 1024 x 1024 MACs at 64 FMA a cycle and SM, where the tensor cores do 1024."""
    for scheme in ("vector_wise", "unstructured"):
        found = row(result, scheme, phase)
        flops = found.counters["cuda_core_flops"]
        assert flops == pytest.approx(2 * 2048 * BIG * BIG / 2, rel=0.01)
        assert found.cycles >= flops / (2 * spec.sm.fp32_fma_per_cycle * spec.sm.count)
        assert found.counters["executed_macs"] == 0
        assert found.time_us > 3 * row(result, "dense", phase).time_us


@pytest.mark.parametrize("phase", ["forward", "backward_data", "backward_weight"])
def test_blocks_execute_about_their_share_and_fill_the_tensor_cores_worse_than_wide_tiles(phase: str, result: SimulationResult) -> None:
    """A tile of 32 columns is half of the narrowest CTA tile: as many MACs are executed as dense, though half are kept."""
    blocks, dense = row(result, "block_sparse", phase), row(result, "dense", phase)
    assert 0.9 < blocks.counters["executed_macs"] / dense.counters["executed_macs"] < 1.3
    assert blocks.counters["dense_equivalent_macs"] == dense.counters["dense_equivalent_macs"]
    assert blocks.time_us > row(result, "tile_wise", phase).time_us
    assert "32 x 32 blocks at density 0.5" in blocks.reason


def test_restored_elements_are_a_pass_of_their_own_that_tensor_cores_do_not_help(result: SimulationResult) -> None:
    for phase in ("forward", "backward_data", "backward_weight"):
        rows = [one for one in result.rows if (one.scheme, one.phase, one.module) == ("tew", phase, "fc")]
        remainder = next(one for one in rows if one.kernel == "tew_remainder")
        assert remainder.counters["cuda_core_flops"] == pytest.approx(0.05 * 2 * 2048 * BIG * BIG, rel=0.01)
        assert sum(one.time_us for one in rows) > row(result, "tile_wise", phase).time_us


def test_tiles_of_twice_the_density_are_compressed_in_forward_only(result: SimulationResult) -> None:
    assert row(result, "tvw", "forward").native_pattern == "2:4"
    assert row(result, "tvw", "forward").time_us < row(result, "dense", "forward").time_us
    assert row(result, "tvw", "backward_data").native_pattern == "dense"
    assert "does not run along this reduction" in row(result, "tvw", "backward_data").reason


def test_dx_is_zeroed_where_tiles_add_to_it_and_nowhere_else(result: SimulationResult) -> None:
    zeroed = {one.scheme for one in result.rows if one.kernel == "zero_dX"}
    assert zeroed == {"tew", "tvw"} | ({"tile_wise"} if row(result, "tile_wise", "backward_data").ran_sparse else set())


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
