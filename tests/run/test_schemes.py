"""Which GEMMs of a recipe run sparse is decided by the masks, and said in words."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from nmsim.arch.spec import GpuSpec, MmaSpec
from nmsim.run.schemes import Lowered, lower, tile_wise_density
from nmsim.sparsity.mask import nm_mask
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.catalogue import WeightStructure, WeightStructures, attention_gemms, conv_gemms, linear_gemms
from nmsim.workload.gemm import PHASES, ConvGeometry, Gemm
from nmsim.workload.trace import Trace

TWO_FOUR = NMPattern(2, 4)
TRANSPOSABLE = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], dtype=np.bool_)
"""Two of four along either axis."""

MakeTrace = Callable[..., Trace]
Structures = Callable[..., WeightStructures]


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape)


def traced(spec: GpuSpec, trace: Trace) -> dict[str, Lowered]:
    return {gemm.id: lower(spec, trace, gemm, "traced") for gemm in trace.gemms}


def layer(mask: np.ndarray, structures: Structures, pattern: NMPattern = TWO_FOUR, module: str = "fc", dtype: str = "fp16") -> list[Gemm]:
    outputs, inputs = mask.shape
    return linear_gemms(module, 64, inputs, outputs, dtype, weight_structure=structures(pattern, 1, module))


def test_sr_ste_accelerates_forward_alone_and_says_why(spec: GpuSpec, make_trace: MakeTrace, structures: Structures) -> None:
    mask = nm_mask(weights(48, 64), TWO_FOUR, 1)
    found = traced(spec, make_trace(layer(mask, structures), {"fc": mask}))
    assert {name: one.ran_sparse for name, one in found.items()} == {
        "fc:forward": True,
        "fc:backward_data": False,
        "fc:backward_weight": False,
    }
    assert found["fc:forward"].native == "2:4"
    assert "all 768 groups of W along inputs (k) obey 2:4" in found["fc:forward"].reason
    assert "groups of W run along inputs (n); this GEMM reduces over outputs (k)" in found["fc:backward_data"].reason
    assert found["fc:backward_weight"].reason == "no operand is sparse: backward_weight has no weight in it"


def test_one_broken_group_makes_its_gemm_dense_and_is_named(spec: GpuSpec, make_trace: MakeTrace, structures: Structures) -> None:
    good, broken = nm_mask(weights(48, 64), TWO_FOUR, 1), nm_mask(weights(48, 64), TWO_FOUR, 1)
    broken[5, 4 * 7 : 4 * 8] = [True, True, False, True]
    gemms = layer(good, structures, module="first") + layer(broken, structures, module="second")
    found = traced(spec, make_trace(gemms, {"first": good, "second": broken}))
    assert found["first:forward"].ran_sparse
    assert not found["second:forward"].ran_sparse
    assert found["second:forward"].reason == "group 7 of row 5 keeps 3 of 4: broken 2:4"
    assert found["second:forward"].key == lower(spec, make_trace(gemms, {}), gemms[3], "dense").key


def test_a_check_made_at_recording_stands_for_a_mask_that_was_left_out(
    spec: GpuSpec, make_trace: MakeTrace, structures: Structures
) -> None:
    mask = nm_mask(weights(48, 64), TWO_FOUR, 1)
    gemms = layer(mask, structures)
    kept = traced(spec, make_trace(gemms, {"fc": mask}, payload=False))
    assert [kept[f"fc:{phase}"].ran_sparse for phase in PHASES] == [True, False, False]
    assert "when recorded" in kept["fc:forward"].reason
    mask[0, :4] = True
    broken = traced(spec, make_trace(gemms, {"fc": mask}, payload=False))
    assert not broken["fc:forward"].ran_sparse
    assert "1 of 768 groups" in broken["fc:forward"].reason


def test_a_transposable_mask_accelerates_two_of_three(spec: GpuSpec, make_trace: MakeTrace, structures: Structures) -> None:
    mask = np.tile(TRANSPOSABLE, (12, 16))
    found = traced(spec, make_trace(layer(mask, structures), {"fc": mask}))
    assert [found[f"fc:{phase}"].ran_sparse for phase in PHASES] == [True, True, False]


def test_two_masks_of_one_weight_accelerate_two_of_three(spec: GpuSpec, make_trace: MakeTrace) -> None:
    """Bidirectional: each phase multiplies by a mask of its own."""
    masks = {"fc.forward": nm_mask(weights(48, 64), TWO_FOUR, 1), "fc.backward": nm_mask(weights(48, 64), TWO_FOUR, 0)}
    both: WeightStructures = {
        "forward": WeightStructure(TWO_FOUR, 1, "fc.forward"),
        "backward_data": WeightStructure(TWO_FOUR, 0, "fc.backward"),
    }
    found = traced(spec, make_trace(linear_gemms("fc", 64, 64, 48, "fp16", weight_structure=both), masks))
    assert [found[f"fc:{phase}"].ran_sparse for phase in PHASES] == [True, True, False]


def with_sparse_gradient(gemm: Gemm, key: str) -> Gemm:
    return replace(gemm, a=replace(gemm.a, structure="nm", pattern=TWO_FOUR, group_axis=0, mask=key))


def test_a_gradient_that_is_sparse_along_tokens_accelerates_backward_weight(spec: GpuSpec, make_trace: MakeTrace) -> None:
    mask = nm_mask(weights(64, 48), TWO_FOUR, 0)
    forward, backward_data, backward_weight = linear_gemms("fc", 64, 32, 48, "fp16")
    trace = make_trace([forward, backward_data, with_sparse_gradient(backward_weight, "fc.gradient")], {"fc.gradient": mask})
    found = traced(spec, trace)
    assert [found[f"fc:{phase}"].ran_sparse for phase in PHASES] == [False, False, True]
    assert "groups of dY along tokens (k) obey 2:4" in found["fc:backward_weight"].reason
    problem = found["fc:backward_weight"].problem
    assert [view.tensor for view in problem.groups[0].operands] == ["A", "B", "E"]
    assert problem.pattern == TWO_FOUR


def test_a_pattern_that_the_machine_lacks_runs_as_the_native_one_that_holds_it(
    spec: GpuSpec, make_trace: MakeTrace, structures: Structures
) -> None:
    one_four = NMPattern(1, 4)
    mask = nm_mask(weights(48, 64), one_four, 1)
    found = traced(spec, make_trace(layer(mask, structures, one_four), {"fc": mask}, one_four))["fc:forward"]
    assert (found.ran_sparse, found.native) == (True, "2:4")
    assert "1:4 runs as 2:4, the cheapest pattern" in found.reason


def test_a_pattern_that_nothing_native_holds_runs_dense(spec: GpuSpec, make_trace: MakeTrace, structures: Structures) -> None:
    three_four = NMPattern(3, 4)
    mask = nm_mask(weights(48, 64), three_four, 1)
    found = traced(spec, make_trace(layer(mask, structures, three_four), {"fc": mask}, three_four))["fc:forward"]
    assert not found.ran_sparse
    assert "none of which contains 3:4: runs dense" in found.reason


def test_a_type_without_a_sparse_instruction_runs_dense(spec: GpuSpec, make_trace: MakeTrace, structures: Structures) -> None:
    mask = nm_mask(weights(48, 64), TWO_FOUR, 1)
    found = traced(spec, make_trace(layer(mask, structures, dtype="int4"), {"fc": mask}))["fc:forward"]
    assert not found.ran_sparse
    assert "holds for int4 no sparse pattern: runs dense" in found.reason


@pytest.mark.parametrize(("inputs", "sparse"), [(1, False), (2, False), (3, True), (4, True), (5, True)])
def test_a_reduction_so_short_that_its_padding_saves_nothing_runs_dense(
    inputs: int, sparse: bool, spec: GpuSpec, make_trace: MakeTrace, structures: Structures
) -> None:
    """2:4 of two elements stores two; of three, two of the padded four."""
    mask = nm_mask(weights(48, inputs), TWO_FOUR, 1)
    found = traced(spec, make_trace(layer(mask, structures), {"fc": mask}))["fc:forward"]
    assert found.ran_sparse == sparse
    assert ("tail: " in found.reason) == (not sparse)


def test_the_tail_of_a_convolution_is_that_of_one_tap(spec: GpuSpec, make_trace: MakeTrace, structures: Structures) -> None:
    """18 = 9 taps x 2 channels is no short reduction, but no group spans two taps."""
    conv = ConvGeometry(2, 8, 8, 2, 16, 3, 3, pad_h=1, pad_w=1)
    mask = nm_mask(weights(16, 3, 3, 2), TWO_FOUR, 3)
    found = traced(spec, make_trace(conv_gemms("conv", conv, "fp16", weight_structure=structures(TWO_FOUR, 3, "conv")), {"conv": mask}))
    assert not found["conv:forward"].ran_sparse
    assert "tail: 2:4 of a reduction of 2 keeps 2, which saves nothing: runs dense" in found["conv:forward"].reason


def test_of_two_sparse_operands_the_cheaper_is_compressed_and_the_other_named(
    spec: GpuSpec, make_trace: MakeTrace, structures: Structures
) -> None:
    one_four = NMPattern(1, 4)
    sixteenth = MmaSpec(dtype="fp16", shape=(16, 8, 64), pattern="1:4", issue_interval_cycles=8.0, latency_cycles=25)
    richer = spec.model_copy(update={"tensor_core": spec.tensor_core.model_copy(update={"mma": (*spec.tensor_core.mma, sixteenth)})})
    masks = {"fc": nm_mask(weights(48, 64), TWO_FOUR, 1), "x": nm_mask(weights(64, 64), one_four, 1)}
    (gemm, *_) = layer(masks["fc"], structures)
    gemm = replace(gemm, a=replace(gemm.a, structure="nm", pattern=one_four, group_axis=1, mask="x"))
    found = traced(richer, make_trace([gemm], masks))["fc:forward"]
    assert found.native == "1:4"
    assert found.problem.groups[0].m == gemm.m  # X is operand A, no swap
    assert "operand b (weight) is 2:4 too, and one of two can be compressed" in found.reason


def test_attention_products_run_dense(spec: GpuSpec, make_trace: MakeTrace) -> None:
    found = traced(spec, make_trace(attention_gemms("attention", 4, 16, 16, 8, "fp16"), {}))
    assert {(one.ran_sparse, one.reason) for one in found.values()} == {(False, "attention product: neither operand is a weight")}


def test_a_convolution_compresses_its_weight_or_the_gradient_of_backward_weight_and_nothing_else(
    spec: GpuSpec, make_trace: MakeTrace, structures: Structures
) -> None:
    conv = ConvGeometry(2, 8, 8, 16, 32, 3, 3, pad_h=1, pad_w=1)
    masks = {
        "conv": nm_mask(weights(32, 3, 3, 16), TWO_FOUR, 3),
        "x": nm_mask(weights(128, 16), TWO_FOUR, 1),
        "dy": nm_mask(weights(128, 32), TWO_FOUR, 0),
    }
    forward, backward_data, backward_weight = conv_gemms("conv", conv, "fp16", weight_structure=structures(TWO_FOUR, 3, "conv"))
    sparse_x = replace(forward, id="x", a=replace(forward.a, structure="nm", pattern=TWO_FOUR, group_axis=1, mask="x"))
    sparse_x = replace(sparse_x, b=replace(sparse_x.b, structure="dense", pattern=None, group_axis=None, mask=None))
    found = traced(spec, make_trace([forward, backward_data, with_sparse_gradient(backward_weight, "dy"), sparse_x], masks))
    assert {name: one.ran_sparse for name, one in found.items()} == {
        "conv:forward": True,
        "conv:backward_data": False,
        "conv:backward_weight": True,
        "x": False,
    }
    assert found["conv:backward_weight"].problem.pattern == TWO_FOUR
    assert found["x"].problem.pattern is None
    assert "operand a (activation) is read tap by tap" in found["x"].reason


def test_equal_work_has_one_key_and_different_work_another(spec: GpuSpec, make_trace: MakeTrace, structures: Structures) -> None:
    mask = nm_mask(weights(64, 64), TWO_FOUR, 1)
    gemms = layer(mask, structures, module="a") + layer(mask, structures, module="b")
    trace = make_trace(gemms, {"a": mask, "b": mask})
    found = traced(spec, trace)
    assert found["a:forward"].key == found["b:forward"].key
    # A square layer's three GEMMs have one m, n, k; what differs is compression, and how the operands lie in memory.
    assert len({found[f"a:{phase}"].key for phase in PHASES}) == 3
    dense = {gemm.id: lower(spec, trace, gemm, "dense") for gemm in gemms}
    assert dense["a:forward"].key != found["a:forward"].key
    assert dense["a:backward_data"].key == found["a:backward_data"].key


def test_tile_wise_runs_the_layers_that_have_a_plan_and_leaves_the_others_dense(spec: GpuSpec, step: Trace) -> None:
    found = {gemm.id: lower(spec, step, gemm, "tile_wise") for gemm in step.gemms}
    sparse = {name for name, one in found.items() if one.ran_sparse}
    assert sparse == {f"{module}:{phase}" for module in ("up", "down") for phase in PHASES}
    assert "1/2 over the network" in found["up:forward"].reason
    assert found["head:forward"].reason == "not pruned tile-wise: no plan for this layer"
    assert found["up:forward"].native == "dense"


def test_the_tile_wise_baseline_has_the_traces_own_density_where_there_is_a_plan_for_it(step: Trace) -> None:
    plans = step.tile_wise["1/2"]
    assert tile_wise_density(step) == "1/2"
    assert tile_wise_density(replace(step, own_density="1/4")) == "1/2"
    assert tile_wise_density(replace(step, own_density="1/4", tile_wise={"1/2": plans, "1/4": plans})) == "1/4"
    assert tile_wise_density(replace(step, own_density=None)) == "1/2"
