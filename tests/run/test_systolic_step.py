"""A training step on a systolic array: the same rules, im2col, and passes through DRAM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nmsim.arch.load import load_arch
from nmsim.arch.systolic import SystolicSpec
from nmsim.errors import InputError
from nmsim.result.rows import KernelRow, SimulationResult
from nmsim.run.systolic_step import as_products
from nmsim.run.systolic_trace import simulate_array_trace
from nmsim.sparsity.mask import nm_mask
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.catalogue import WeightStructure, WeightStructures, conv_gemms, linear_gemms
from nmsim.workload.gemm import ConvGeometry
from nmsim.workload.trace import Trace

ARCHS = Path(__file__).parents[2] / "arch_configs"
TWO_EIGHT = NMPattern(2, 8)


def array(name: str, *overrides: str) -> SystolicSpec:
    spec = load_arch(ARCHS / f"{name}.yaml", overrides)
    assert isinstance(spec, SystolicSpec)
    return spec


@pytest.fixture(scope="module")
def result(step: Trace) -> SimulationResult:
    return simulate_array_trace(array("systolic_32"), step)


def of(result: SimulationResult, scheme: str, kind: str = "gemm") -> list[KernelRow]:
    return [row for row in result.rows if row.scheme == scheme and row.kind == kind]


def test_every_gemm_operator_and_pass_has_a_row_and_every_cycle_a_name(result: SimulationResult, step: Trace) -> None:
    for scheme in ("traced", "dense"):
        assert [row.gemm_id for row in of(result, scheme)] == [gemm.id for gemm in step.gemms]
        assert [row.gemm_id for row in of(result, scheme, "operator")] == [one.id for one in step.operators]
    assert [row.gemm_id for row in of(result, "traced", "pass")] == [one.id for one in step.passes]
    for row in result.rows:
        assert row.busy_cycles + sum(row.stall_cycles.values()) == pytest.approx(row.cycles, abs=0.01)
    assert set(result.total) == {"traced", "dense"}
    assert sum(phase.time_us for phase in result.phases if phase.scheme == "traced") == pytest.approx(result.total["traced"].time_us)


def test_masks_decide_what_runs_sparse_as_on_a_gpu(result: SimulationResult) -> None:
    """The masks of the step have their groups along the inputs: forward only, and there half of the filter."""
    traced, dense = ({row.gemm_id: row for row in of(result, scheme)} for scheme in ("traced", "dense"))
    for gemm_id, row in traced.items():
        pruned = row.module in ("up", "down")
        assert row.ran_sparse == (pruned and row.phase == "forward")
        macs = row.counters["executed_macs"], dense[gemm_id].counters["executed_macs"]
        assert macs[0] == macs[1] / (2 if row.ran_sparse else 1)
        assert row.cycles <= dense[gemm_id].cycles
    assert "groups of W run along inputs" in traced["up:backward_data"].reason


def test_a_pass_goes_at_the_rate_of_dram_or_of_its_engine(step: Trace) -> None:
    """131072 + 16384 bytes every fourth step at 20 GB/s and 1 GHz, after a latency of 100; or 65536 elements at 4 a cycle."""
    only_dram = {row.gemm_id: row for row in of(simulate_array_trace(array("systolic_32"), step), "traced", "pass")}
    assert only_dram["search"].cycles == pytest.approx((100 + 147456 / 20) / 4)
    spec = array("sat", "clock_mhz=1000", "dram.bandwidth_gb_per_s=20", "dram.latency_ns=100", "engines.top_n_elements_per_cycle=4")
    slow = {row.gemm_id: row for row in of(simulate_array_trace(spec, step), "traced", "pass")}
    assert slow["search"].cycles == pytest.approx((100 + 65536 / 4) / 4)


def test_tile_wise_is_refused(step: Trace) -> None:
    with pytest.raises(InputError, match=r"--baseline: .*does not run this scheme, got 'tile_wise'"):
        simulate_array_trace(array("systolic_32"), step, schemes=("tile_wise",))


def test_a_strided_convolution_runs_its_own_macs_residue_by_residue() -> None:
    """Forward: every output under every tap. Backwards, each input pixel meets the taps that reach it: as many products."""
    conv = ConvGeometry(2, 8, 8, 12, 20, 2, 2, 2, 2)
    forward, backward_data, backward_weight = conv_gemms("conv", conv, "fp16")
    for gemm, parts in ((forward, 1), (backward_data, 4), (backward_weight, 1)):
        products = as_products(gemm, "b", None)
        assert len(products) == parts
        assert sum(part.m * part.n * part.k * part.l for part in products) == gemm.macs
        assert all(part.conv is None for part in products)


def test_a_compressed_tap_is_padded_and_a_sparse_a_runs_transposed() -> None:
    conv = ConvGeometry(1, 6, 6, 10, 16, 3, 3, 1, 1, 1, 1)
    forward = conv_gemms("conv", conv, "fp16")[0]
    (padded,) = as_products(forward, "b", NMPattern(2, 4))
    assert padded.k == 9 * 12  # ten channels of a tap are three groups of four
    backward_weight = linear_gemms("fc", 64, 32, 48, "fp16")[2]
    (swapped,) = as_products(backward_weight, "a", NMPattern(2, 4))
    assert (swapped.m, swapped.n, swapped.k) == (backward_weight.n, backward_weight.m, backward_weight.k)


def test_two_directions_of_2_of_8_come_close_to_twice_the_speed_on_sat(make_trace: Callable[..., Trace]) -> None:
    """BDWP: forward and backward_data at a quarter, backward_weight dense: 3 / (1/4 + 1/4 + 1) = 2 at best; 1.75 published on average."""
    weight = np.random.default_rng(2).normal(size=(1024, 1024))
    masks = {"in": nm_mask(weight, TWO_EIGHT, 1), "out": nm_mask(weight, TWO_EIGHT, 0)}
    structure: WeightStructures = {"forward": WeightStructure(TWO_EIGHT, 1, "in"), "backward_data": WeightStructure(TWO_EIGHT, 0, "out")}
    gemms = linear_gemms("fc", 2048, 1024, 1024, "fp16", weight_structure=structure)
    result = simulate_array_trace(array("sat"), make_trace(list(gemms), masks, TWO_EIGHT))
    assert [row.native_pattern for row in of(result, "traced")] == ["2:8", "2:8", "dense"]
    speedup = result.total["traced"].speedup_vs_dense
    assert speedup is not None
    assert 1.6 < speedup <= 2.0
