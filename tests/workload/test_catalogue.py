"""The hand count against loops that do nothing but count."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.catalogue import WeightStructure, attention_gemms, conv_gemms, linear_gemms
from nmsim.workload.fields import Place
from nmsim.workload.gemm import ConvGeometry, Gemm
from nmsim.workload.trace import Provenance, Trace
from nmsim.workload.validate import gemm_findings

SHAPES_ONLY = Trace("shapes", Provenance("shapes-only", "", "", "", {}, 0, 0, None, None, {}), 1, "fp16", ())


@st.composite
def geometries(draw: st.DrawFn) -> ConvGeometry:
    """Convolutions that fit: the widest dilated kernel spans 5 elements."""
    groups = draw(st.integers(1, 3))
    return ConvGeometry(
        batch=draw(st.integers(1, 2)),
        height=draw(st.integers(5, 9)),
        width=draw(st.integers(5, 9)),
        in_channels=groups * draw(st.integers(1, 3)),
        out_channels=groups * draw(st.integers(1, 3)),
        kernel_h=draw(st.integers(1, 3)),
        kernel_w=draw(st.integers(1, 3)),
        stride_h=draw(st.integers(1, 3)),
        stride_w=draw(st.integers(1, 3)),
        pad_h=draw(st.integers(0, 2)),
        pad_w=draw(st.integers(0, 2)),
        dilation_h=draw(st.integers(1, 2)),
        dilation_w=draw(st.integers(1, 2)),
        groups=groups,
    )


def output_positions(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """Places at which the dilated kernel fits into the padded line, found by sliding it."""
    reach = dilation * (kernel - 1) + 1
    return sum(1 for start in range(0, size + 2 * pad, stride) if start + reach <= size + 2 * pad)


def findings(gemm: Gemm) -> list[str]:
    return [str(finding) for finding in gemm_findings(gemm, SHAPES_ONLY, Place(None, gemm.id))]


def test_the_three_gemms_of_a_linear_layer_do_the_same_number_of_macs() -> None:
    gemms = linear_gemms("fc", tokens=5, inputs=3, outputs=7, dtype="fp16")
    assert [gemm.phase for gemm in gemms] == ["forward", "backward_data", "backward_weight"]
    assert [(gemm.m, gemm.n, gemm.k) for gemm in gemms] == [(5, 7, 3), (5, 3, 7), (7, 3, 5)]
    assert {gemm.macs for gemm in gemms} == {sum(1 for _ in product(range(5), range(3), range(7)))}


def test_a_first_layer_needs_no_gradient_of_its_input() -> None:
    assert [gemm.phase for gemm in linear_gemms("fc", 5, 3, 7, "fp16", first=True)] == ["forward", "backward_weight"]


def test_tokens_are_never_a_dimension_of_the_weight() -> None:
    for gemm in linear_gemms("fc", 5, 3, 7, "fp16"):
        for operand in (gemm.a, gemm.b):
            if operand.role == "weight":
                assert gemm.batch_axis not in operand.axes
            else:
                assert operand.shape[operand.axes.index(gemm.batch_axis)] == 5


@settings(max_examples=60, deadline=None)
@given(geometries())
def test_a_convolution_counts_what_a_sliding_kernel_multiplies(geometry: ConvGeometry) -> None:
    g = geometry
    rows = output_positions(g.height, g.kernel_h, g.stride_h, g.pad_h, g.dilation_h)
    columns = output_positions(g.width, g.kernel_w, g.stride_w, g.pad_w, g.dilation_w)
    macs = g.batch * rows * columns * g.out_channels * g.kernel_h * g.kernel_w * (g.in_channels // g.groups)
    forward, backward_data, backward_weight = conv_gemms("conv", geometry, "fp16")
    assert forward.macs == backward_data.macs == backward_weight.macs == macs
    assert backward_data.m * backward_data.n * backward_data.l == g.batch * g.height * g.width * g.in_channels


@settings(max_examples=60, deadline=None)
@given(geometries())
def test_the_reader_accepts_every_convolution_of_the_catalogue(geometry: ConvGeometry) -> None:
    assert [findings(gemm) for gemm in conv_gemms("conv", geometry, "fp16")] == [[], [], []]


@pytest.mark.parametrize("value_dim", [6, 10])
def test_attention_is_two_forward_products_and_two_gradients_each(value_dim: int) -> None:
    gemms = attention_gemms("attention", 8, queries=5, keys=7, head_dim=6, dtype="fp16", value_dim=value_dim)
    assert [gemm.phase for gemm in gemms] == ["forward", "backward_data", "backward_data"] * 2
    assert [gemm.macs for gemm in gemms] == [8 * 5 * 7 * 6] * 3 + [8 * 5 * 7 * value_dim] * 3
    assert [findings(gemm) for gemm in gemms] == [[]] * 6
    assert not any(operand.role == "weight" for gemm in gemms for operand in (gemm.a, gemm.b))
    assert len({gemm.id for gemm in gemms}) == 6


def test_an_attention_gradient_has_the_shape_of_the_tensor_it_is_the_gradient_of() -> None:
    gemms = {gemm.id.split(":", 1)[1]: gemm for gemm in attention_gemms("a", 8, 5, 7, 6, "fp16", value_dim=10)}
    results = {name: (gemm.m, gemm.n) for name, gemm in gemms.items()}
    assert results["scores:backward_data:query"] == (5, 6)
    assert results["scores:backward_data:key"] == (7, 6)
    assert results["context:backward_data:scores"] == results["scores:forward"] == (5, 7)
    assert results["context:backward_data:value"] == (7, 10)


def test_weight_structure_reaches_only_the_phase_it_names() -> None:
    structure = WeightStructure(NMPattern(2, 4), 1, "fc.weight")
    forward, backward_data, backward_weight = linear_gemms("fc", 4, 8, 8, "fp16", weight_structure={"forward": structure})
    assert (forward.b.structure, forward.b.pattern, forward.b.group_axis, forward.b.mask) == ("nm", NMPattern(2, 4), 1, "fc.weight")
    assert backward_data.b.structure == backward_weight.a.structure == backward_weight.b.structure == "dense"


def test_groups_usable_in_a_phase_lie_along_its_reduction() -> None:
    forward, backward_data, _ = linear_gemms("fc", 4, 8, 12, "fp16")
    assert (forward.b.shape[forward.b.reduction_axis], backward_data.b.shape[backward_data.b.reduction_axis]) == (8, 12)
    forward, backward_data, _ = conv_gemms("conv", ConvGeometry(1, 6, 6, 8, 12, 3, 3), "fp16")
    assert (forward.b.shape[forward.b.reduction_axis], backward_data.b.shape[backward_data.b.reduction_axis]) == (8, 12)
    assert prod(forward.b.shape) == 12 * 9 * 8
