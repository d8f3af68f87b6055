"""Planned bytes against a walk over every k-tile of every CTA."""

from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.arch.spec import GpuSpec
from nmsim.mapping.candidates import Candidate, build_plan, rank
from nmsim.mapping.convolution import lower_convolution
from nmsim.mapping.lower import lower_dense, lower_nm
from nmsim.mapping.plan import BATCH, GROUP, K0, K1, M0, M1, N0, N1, SLICE, KernelPlan
from nmsim.mapping.problem import Problem
from nmsim.mapping.stream import plan_stream
from nmsim.mapping.tile_wise import lower_tile_wise
from nmsim.mapping.traffic import planned_read_bytes, planned_write_bytes
from nmsim.rules.box import DIMENSION, ROW_COUNT, ROW_SHIFT, block_range, block_row, operand_box, operand_bytes
from nmsim.rules.tile import side
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.catalogue import attention_gemms, conv_gemms, linear_gemms
from nmsim.workload.gemm import ConvGeometry

TWO_FOUR = NMPattern(2, 4)
FP16, FP32 = 2, 4


def walked(plan: KernelPlan, problem: Problem) -> tuple[int, int]:
    """(bytes read, bytes written): in-range elements x their size, k-tile by k-tile."""
    read = written = 0
    tile_k = plan.mainloop.cta_tile[2]
    for row in plan.ctas.tolist():
        group = problem.groups[row[GROUP]]
        rows, columns = row[M1] - row[M0], row[N1] - row[N0]
        for k0 in range(row[K0], row[K1], tile_k):
            length = min(row[K1], k0 + tile_k) - k0
            if problem.pattern is None:
                read += FP16 * length * (rows + columns)
            else:
                n, m = problem.pattern.n, problem.pattern.m
                kept = sum(min(n, min(m, length - start)) for start in range(0, length, m))
                read += rows * FP16 * kept + FP16 * length * columns + rows * ceil(kept * (problem.pattern.m - 1).bit_length() / 8)
        written += rows * columns * FP16
        if row[SLICE] > 0 or group.accumulate:
            read += rows * columns * FP16
    return read, written


def candidates(spec: GpuSpec, problem: Problem) -> list[Candidate]:
    """The best few, and the best that split K."""
    ranked = rank(spec, problem, keep=1000)
    return ranked[:2] + [candidate for candidate in ranked if candidate.split_k > 1][:2]


def assert_planned_as_walked(spec: GpuSpec, problem: Problem) -> None:
    for candidate in candidates(spec, problem):
        plan = build_plan(spec, candidate)
        assert (planned_read_bytes(plan), planned_write_bytes(plan)) == walked(plan, problem)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), pattern=st.sampled_from([None, TWO_FOUR]))
def test_the_bytes_of_a_linear_layer_are_those_of_its_in_range_elements(
    data: st.DataObject, pattern: NMPattern | None, spec: GpuSpec
) -> None:
    tokens, inputs, outputs = (data.draw(st.integers(1, 300)) for _ in range(3))
    for gemm in linear_gemms("fc", tokens, inputs, outputs, "fp16"):
        assert_planned_as_walked(spec, lower_dense(gemm) if pattern is None else lower_nm(gemm, "b", pattern))


@settings(max_examples=25, deadline=None)
@given(data=st.data(), pattern=st.sampled_from([None, TWO_FOUR]))
def test_the_bytes_of_a_convolution_are_those_of_its_in_range_elements(
    data: st.DataObject, pattern: NMPattern | None, convolutions: st.SearchStrategy[ConvGeometry], spec: GpuSpec
) -> None:
    for gemm in conv_gemms("conv", data.draw(convolutions), "fp16"):
        problem = lower_convolution(gemm, pattern)
        if problem.groups:
            assert_planned_as_walked(spec, problem)


def test_the_bytes_of_a_batch_are_those_of_its_products(spec: GpuSpec) -> None:
    for gemm in attention_gemms("attention", 5, 70, 130, 24, "fp16"):
        assert_planned_as_walked(spec, lower_dense(gemm))


def test_the_bytes_of_tile_wise_plans_include_what_is_added_to(spec: GpuSpec, plan_of) -> None:
    plan = plan_of(40, 90, 16, 36, [50, 90, 7])
    convolution = ConvGeometry(2, 5, 7, 10, 40, 3, 3, 2, 1, 1, 1)
    for gemm in (*linear_gemms("fc", 70, 90, 40, "fp16"), *conv_gemms("conv", convolution, "fp16")):
        assert_planned_as_walked(spec, lower_tile_wise(gemm, plan))


def test_a_split_reduction_that_adds_reads_the_output_in_every_slice(spec: GpuSpec, plan_of) -> None:
    """The first slice reads what other tiles wrote, the others the sums before them."""
    backward_data = linear_gemms("fc", 64, 200, 256, "fp16")[1]
    problem = lower_tile_wise(backward_data, plan_of(256, 200, 128, 256, [150, 90]))
    assert [group.accumulate for group in problem.groups] == [True, True]
    assert max(candidate.split_k for candidate in candidates(spec, problem)) > 1
    assert_planned_as_walked(spec, problem)


@pytest.mark.parametrize("phase", [0, 1, 2])
@pytest.mark.parametrize("pattern", [None, TWO_FOUR])
def test_every_tile_lies_inside_the_tensors_it_reads(phase: int, pattern: NMPattern | None, spec: GpuSpec, plan_of) -> None:
    """A box may reach into the padding of a convolution's row range, never past its tensor's blocks."""
    convolution = ConvGeometry(2, 9, 7, 20, 40, 3, 3, 2, 2, 1, 1, groups=2)
    problems = [
        lower_convolution(conv_gemms("conv", convolution, "fp16")[phase], pattern if phase < 2 else None),
        lower_tile_wise(
            conv_gemms("conv", ConvGeometry(2, 9, 7, 10, 40, 3, 3, 2, 2, 1, 1), "fp16")[phase], plan_of(40, 90, 16, 36, [50, 90, 7])
        ),
        lower_tile_wise(linear_gemms("fc", 70, 90, 40, "fp16")[phase], plan_of(40, 90, 16, 36, [50, 90, 7])),
    ]
    for problem in problems:
        for candidate in candidates(spec, problem):
            plan = build_plan(spec, candidate)
            gather, tile_k = plan.gather.tolist(), plan.mainloop.cta_tile[2]
            for row in plan.ctas.tolist():
                ranges = row[M0], row[M1], row[N0], row[N1]
                for descriptor in plan.operands[row[GROUP]].tolist():
                    x0, x1, _, _ = side(descriptor[DIMENSION], *ranges)
                    for k0 in range(row[K0], row[K1], tile_k):
                        found = operand_box(descriptor, x0, x1, k0, min(row[K1], k0 + tile_k), row[BATCH])
                        first_row, last_row, first_column, last_column = block_range(descriptor, gather, found)
                        assert 0 <= first_row <= last_row
                        assert 0 <= block_row(descriptor, gather, first_row) <= block_row(descriptor, gather, last_row)
                        assert block_row(descriptor, gather, last_row) << descriptor[ROW_SHIFT] < descriptor[ROW_COUNT]
                        assert 0 <= first_column <= last_column


@given(tokens=st.integers(64, 700), outputs=st.integers(64, 700))
@settings(max_examples=20, deadline=None)
def test_a_full_k_tile_is_what_the_mainloop_copies(tokens: int, outputs: int, spec: GpuSpec) -> None:
    """The SM level's copy writes and the chip level's operand bytes are the same bytes."""
    gemm = linear_gemms("fc", tokens, 1024, outputs, "fp16")[0]
    for problem in (lower_dense(gemm), lower_nm(gemm, "b", TWO_FOUR)):
        for candidate in rank(spec, problem, keep=1000):
            tile_m, tile_n, tile_k = candidate.key.cta_tile
            plan = build_plan(spec, candidate)
            sides = [tile_m if view.dimension == 0 else tile_n for view in problem.groups[0].operands]
            copied = sum(operand_bytes(one.tolist(), x, tile_k) for one, x in zip(plan.operands[0], sides, strict=True))
            assert copied == candidate.key.copy_bytes


@settings(max_examples=60, deadline=None)
@given(read=st.integers(0, 3_000_000), written=st.integers(0, 3_000_000), flops=st.integers(0, 10**7))
def test_a_pass_moves_its_bytes_in_whole_rows_and_does_its_arithmetic(read: int, written: int, flops: int, spec: GpuSpec) -> None:
    plan = plan_stream("pass", read, written, flops, spec.l2.block_bytes, spec.dram.interleave_bytes)
    ctas, row = len(plan.ctas), 256
    for planned, asked in ((planned_read_bytes(plan), read), (planned_write_bytes(plan), written)):
        whole_rows = max(1, -(-asked // row)) * row
        assert whole_rows <= planned <= max(whole_rows, ctas * row)  # fewer rows than CTAs: each CTA still reads one
    assert flops <= plan.k_tiles * plan.mainloop.stream_flops < flops + plan.k_tiles
