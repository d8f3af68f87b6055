"""Implicit GEMMs: their sizes, the products they execute and the bytes they store, against counts by hand and by loops."""

from dataclasses import replace
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.mapping.convolution import lower_convolution
from nmsim.mapping.problem import Problem
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.catalogue import conv_gemms
from nmsim.workload.gemm import PHASES, ConvGeometry, Gemm

TWO_FOUR = NMPattern(2, 4)
PATTERNS = st.sampled_from([TWO_FOUR, NMPattern(1, 2), NMPattern(1, 4), NMPattern(2, 8)])


def gemm_of(conv: ConvGeometry, phase: str) -> Gemm:
    return next(gemm for gemm in conv_gemms("conv", conv, "fp16") if gemm.phase == phase)


def executed_macs(problem: Problem) -> int:
    """MACs before tile padding."""
    return sum(group.m * group.n * group.k for group in problem.groups) * problem.batch


def contributions(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """(input position, tap) pairs along one axis for which a whole output position exists, be it in range or in the padding."""
    return sum((h + pad - tap * dilation) % stride == 0 for h in range(size) for tap in range(kernel))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_forward_and_backward_weight_execute_the_hand_count(data: st.DataObject, convolutions: st.SearchStrategy[ConvGeometry]) -> None:
    conv = data.draw(convolutions)
    for phase in ("forward", "backward_weight"):
        gemm = gemm_of(conv, phase)
        assert executed_macs(lower_convolution(gemm, None)) == gemm.macs == gemm.m * gemm.n * gemm.k * gemm.l


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_backward_data_executes_each_input_pixel_with_each_tap_that_reaches_it(
    data: st.DataObject, convolutions: st.SearchStrategy[ConvGeometry]
) -> None:
    conv = data.draw(convolutions)
    gemm = gemm_of(conv, "backward_data")
    pairs = prod(
        contributions(*axis)
        for axis in (
            (conv.height, conv.kernel_h, conv.stride_h, conv.pad_h, conv.dilation_h),
            (conv.width, conv.kernel_w, conv.stride_w, conv.pad_w, conv.dilation_w),
        )
    )
    channel_pairs = conv.in_channels * conv.out_channels // conv.groups
    problem = lower_convolution(gemm, None)
    assert executed_macs(problem) == conv.batch * pairs * channel_pairs
    assert problem.dense_equivalent_macs == gemm.macs


def test_the_residues_of_a_padded_strided_convolution_execute_its_forward_count() -> None:
    """3x3, stride 2, padding 1 on an even size: 9 taps over 4 residues, one quarter of the pixels each."""
    conv = ConvGeometry(2, 8, 8, 16, 32, 3, 3, 2, 2, 1, 1)
    gemm = gemm_of(conv, "backward_data")
    problem = lower_convolution(gemm, None)
    assert sorted(group.k for group in problem.groups) == [32, 64, 64, 128]
    assert executed_macs(problem) == gemm.macs == gemm_of(conv, "forward").macs
    assert gemm.m * gemm.n * gemm.k == 4 * gemm.macs  # what one GEMM over dX, zeros of the stride included, would run
    assert "4 residue GEMMs" in problem.notes[0]


def test_a_strided_1x1_convolution_runs_only_the_residue_that_has_a_tap() -> None:
    conv = ConvGeometry(1, 8, 8, 16, 32, 1, 1, 2, 2)
    (group,) = lower_convolution(gemm_of(conv, "backward_data"), None).groups
    assert (group.m, group.n, group.k) == (16, 16, 32)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), pattern=PATTERNS)
def test_a_sparse_reduction_pads_each_tap_to_whole_groups(
    data: st.DataObject, pattern: NMPattern, convolutions: st.SearchStrategy[ConvGeometry]
) -> None:
    """K compressed is taps x ceil(channels / M) x N: no group straddles two taps."""
    conv = data.draw(convolutions)
    for phase, channels in (("forward", conv.in_channels), ("backward_data", conv.out_channels)):
        groups_of_m = -(-channels // conv.groups // pattern.m)
        dense = lower_convolution(gemm_of(conv, phase), None)
        sparse = lower_convolution(gemm_of(conv, phase), pattern)
        for before, after in zip(dense.groups, sparse.groups, strict=True):
            taps = before.k // (channels // conv.groups)
            assert pattern.compressed_k(after.k) == taps * groups_of_m * pattern.n
            assert (after.m, after.n) == (before.n, before.m)  # the compressed weight is operand A


@settings(max_examples=100, deadline=None)
@given(data=st.data(), pattern=PATTERNS)
def test_a_compressed_weight_is_stored_once_with_its_metadata(
    data: st.DataObject, pattern: NMPattern, convolutions: st.SearchStrategy[ConvGeometry]
) -> None:
    conv = data.draw(convolutions)
    gemm = gemm_of(conv, "forward")
    tensors = {tensor.name: tensor for tensor in lower_convolution(gemm, pattern).tensors}
    kept = conv.kernel_h * conv.kernel_w * -(-conv.in_channels // conv.groups // pattern.m) * pattern.n
    assert tensors["A"].rows == tensors["E"].rows == conv.out_channels
    assert tensors["A"].pitch_bytes == 2 * kept
    assert tensors["E"].pitch_bytes == -(-kept * (pattern.m - 1).bit_length() // 8)


@pytest.mark.parametrize("channels", [8, 64])
def test_whole_groups_pad_nothing(channels: int) -> None:
    conv = ConvGeometry(2, 9, 9, channels, 16, 3, 3, pad_h=1, pad_w=1)
    gemm = gemm_of(conv, "forward")
    dense, sparse = lower_convolution(gemm, None), lower_convolution(gemm, TWO_FOUR)
    assert sparse.groups[0].k == dense.groups[0].k == gemm.k
    assert {t.name: t for t in sparse.tensors}["X"] == {t.name: t for t in dense.tensors}["X"]


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_the_dense_operands_are_stored_once_whatever_the_taps_read_twice(
    data: st.DataObject, convolutions: st.SearchStrategy[ConvGeometry]
) -> None:
    conv = data.draw(convolutions)
    inputs = 2 * conv.batch * conv.height * conv.width * conv.in_channels
    outputs = 2 * conv.batch * conv.out_height * conv.out_width * conv.out_channels
    weights = 2 * conv.out_channels * conv.kernel_h * conv.kernel_w * conv.in_channels // conv.groups
    pointwise = (conv.kernel_h, conv.kernel_w, conv.pad_h, conv.pad_w) == (1, 1, 0, 0)
    read = 2 * conv.batch * conv.out_height * conv.out_width * conv.in_channels if pointwise else inputs
    for phase in ("forward", "backward_weight"):
        problem = lower_convolution(gemm_of(conv, phase), None)
        assert sum(tensor.rows * tensor.pitch_bytes for tensor in problem.tensors) == read + outputs + weights
    problem = lower_convolution(gemm_of(conv, "backward_data"), None)
    stored = {tensor.name: tensor.rows * tensor.pitch_bytes for tensor in problem.tensors}
    assert (stored.pop("X"), stored.pop("D")) == (outputs, inputs)
    assert sum(stored.values()) <= weights  # each tap of the filter belongs to one residue, or to none that is there


def test_a_pointwise_stride_reads_a_quarter_of_the_pixels() -> None:
    conv = ConvGeometry(2, 8, 8, 16, 32, 1, 1, 2, 2)
    for phase in ("forward", "backward_weight"):
        problem = lower_convolution(gemm_of(conv, phase), None)
        assert {tensor.name: tensor.rows for tensor in problem.tensors}["X"] == 2 * 4 * 4
        assert executed_macs(problem) == gemm_of(conv, phase).macs


def test_a_gradient_that_is_sparse_along_pixels_is_compressed_in_backward_weight() -> None:
    conv = ConvGeometry(2, 6, 6, 8, 16, 3, 3, pad_h=1, pad_w=1, groups=2)
    gemm = gemm_of(conv, "backward_weight")
    problem = lower_convolution(gemm, TWO_FOUR)
    (group,) = problem.groups
    assert (group.m, group.n, group.k) == (gemm.m, gemm.n, gemm.k)
    tensors = {tensor.name: tensor for tensor in problem.tensors}
    assert (tensors["A"].rows, tensors["A"].pitch_bytes) == (16, gemm.k // 2 * 2)
    assert [view.tensor for view in group.operands] == ["A", "X", "E"]
    assert executed_macs(problem) == gemm.macs


@pytest.mark.parametrize("phase", PHASES)
def test_convolution_groups_are_products_of_one_batch(phase: str) -> None:
    whole = ConvGeometry(2, 7, 7, 8, 12, 3, 3, pad_h=1, pad_w=1)
    gemm = gemm_of(replace(whole, groups=4), phase)
    problem = lower_convolution(gemm, None)
    assert problem.batch == gemm.l == 4
    assert executed_macs(problem) == gemm_of(whole, phase).macs // 4
