"""Tile-wise plans as gathered products: the MACs of what is kept, in all three phases, and where they come from and go."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.mapping.lower import lower_dense
from nmsim.mapping.problem import Problem
from nmsim.mapping.tile_wise import even_plan, lower_tile_vector_wise, lower_tile_wise, tiles_of
from nmsim.sparsity.encoding import group_code
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.tile_wise import kept_macs
from nmsim.workload.catalogue import conv_gemms, linear_gemms
from nmsim.workload.gemm import PHASES, ConvGeometry, Gemm
from nmsim.workload.trace import TileWisePlan

PlanOf = Callable[..., TileWisePlan]


def executed_macs(problem: Problem) -> int:
    """MACs before tile padding."""
    return sum(group.m * group.n * group.k for group in problem.groups) * problem.batch


def kept(plan: TileWisePlan) -> int:
    """Sum over tiles of kept columns x kept rows, counted from the plan's arrays alone."""
    columns, total = int(plan.columns.sum()), 0
    for tile, rows in enumerate(plan.rows):
        total += min(plan.tile_width, columns - tile * plan.tile_width) * int(rows.sum())
    return total


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_each_phase_of_a_linear_layer_executes_the_kept_weights_times_the_tokens(data: st.DataObject, plan_of: PlanOf) -> None:
    tokens, inputs, width = data.draw(st.integers(1, 64)), data.draw(st.integers(1, 80)), data.draw(st.integers(1, 16))
    kept_columns = data.draw(st.integers(1, 60))
    outputs = kept_columns + data.draw(st.integers(0, 20))
    tiles = -(-kept_columns // width)
    rows = data.draw(st.lists(st.integers(1, inputs), min_size=tiles, max_size=tiles))
    plan = plan_of(outputs, inputs, width, kept_columns, rows)
    assert kept(plan) == kept_macs(plan.columns, plan.rows, width)
    for gemm in linear_gemms("fc", tokens, inputs, outputs, "fp16"):
        problem = lower_tile_wise(gemm, plan)
        assert executed_macs(problem) == kept(plan) * tokens
        assert problem.dense_equivalent_macs == gemm.macs


def test_a_plan_that_keeps_everything_executes_the_dense_product(plan_of: PlanOf) -> None:
    for gemm in linear_gemms("fc", 48, 40, 64, "fp16"):
        assert executed_macs(lower_tile_wise(gemm, plan_of(64, 40, 16, 64, [40] * 4))) == executed_macs(lower_dense(gemm))


CONVOLUTIONS = [
    ConvGeometry(2, 8, 8, 12, 40, 3, 3, pad_h=1, pad_w=1),
    ConvGeometry(2, 8, 8, 12, 40, 3, 3, 2, 2, 1, 1),
    ConvGeometry(1, 9, 7, 12, 40, 1, 1, 2, 2),
    ConvGeometry(1, 9, 9, 12, 40, 5, 3, 3, 2, 2, 1),
]


def of_phase(conv: ConvGeometry, phase: str) -> Gemm:
    return next(gemm for gemm in conv_gemms("conv", conv, "fp16") if gemm.phase == phase)


@pytest.mark.parametrize("conv", CONVOLUTIONS)
def test_a_convolution_executes_the_kept_weights_times_the_pixels(conv: ConvGeometry, plan_of: PlanOf) -> None:
    """In backward_data each weight meets the input pixels that its tap reaches, and kept rows count in whole channels."""
    taps = conv.kernel_h * conv.kernel_w
    plan = plan_of(40, 12 * taps, 16, 36, [12 * taps, 5 * taps, 7 * taps])
    pixels = conv.batch * conv.out_height * conv.out_width
    for phase in ("forward", "backward_weight"):
        assert executed_macs(lower_tile_wise(of_phase(conv, phase), plan)) == kept(plan) * pixels
    dense = executed_macs_of_dense_residues(conv)
    assert executed_macs(lower_tile_wise(of_phase(conv, "backward_data"), plan)) * 40 * 12 * taps == dense * kept(plan)


def executed_macs_of_dense_residues(conv: ConvGeometry) -> int:
    from nmsim.mapping.convolution import lower_convolution

    return executed_macs(lower_convolution(of_phase(conv, "backward_data"), None))


@pytest.mark.parametrize("conv", CONVOLUTIONS)
def test_kept_rows_that_are_no_whole_channels_round_up_by_less_than_one_channel_a_tile(conv: ConvGeometry, plan_of: PlanOf) -> None:
    taps = conv.kernel_h * conv.kernel_w
    exact = plan_of(40, 12 * taps, 16, 36, [5 * taps, 5 * taps, 5 * taps])
    ragged = plan_of(40, 12 * taps, 16, 36, [4 * taps + 1, 5 * taps, 4 * taps + 1])
    gemm = of_phase(conv, "backward_data")
    assert executed_macs(lower_tile_wise(gemm, ragged)) == executed_macs(lower_tile_wise(gemm, exact))


def test_gathered_rows_are_those_of_the_plan(plan_of: PlanOf) -> None:
    plan = plan_of(40, 30, 16, 36, [9, 30, 1])
    for (width, rows), group in zip(tiles_of(plan), lower_tile_wise(linear_gemms("fc", 8, 30, 40, "fp16")[0], plan).groups, strict=True):
        gathered = group.operands[0].gather
        assert gathered is not None
        assert gathered.tolist() == rows.tolist()
        assert (group.n, group.k) == (width, len(rows))
    assert [width for width, _ in tiles_of(plan)] == [16, 16, 4]


def adding(gemms: list[Gemm], plan: TileWisePlan) -> dict[str, list[bool]]:
    return {gemm.phase: [group.accumulate for group in lower_tile_wise(gemm, plan).groups] for gemm in gemms}


def test_only_backward_data_adds_to_what_other_tiles_wrote(plan_of: PlanOf) -> None:
    """Tiles share rows of W, hence columns of dX, which none of them writes first; their columns of Y and of dW are their own."""
    linear = adding(linear_gemms("fc", 8, 30, 40, "fp16"), plan_of(40, 30, 16, 36, [9, 30, 1]))
    assert linear == {"forward": [False] * 3, "backward_data": [True] * 3, "backward_weight": [False] * 3}
    strided = adding(conv_gemms("conv", CONVOLUTIONS[1], "fp16"), plan_of(40, 108, 16, 20, [9, 108]))
    assert strided == {"forward": [False] * 2, "backward_data": [True] * 8, "backward_weight": [False] * 2}
    alone = adding(linear_gemms("fc", 8, 30, 16, "fp16"), plan_of(16, 30, 16, 16, [9]))
    assert alone["backward_data"] == [False]  # nobody else writes its rows


def test_tile_vector_wise_keeps_n_of_m_of_each_tiles_rows(plan_of: PlanOf) -> None:
    plan = plan_of(40, 30, 16, 36, [8, 30, 4])
    forward, backward_data, _ = linear_gemms("fc", 8, 30, 40, "fp16")
    pattern = NMPattern(2, 4)
    problem = lower_tile_vector_wise(forward, plan, pattern, group_code(pattern))
    stored = {tensor.name: tensor.rows * tensor.pitch_bytes for tensor in problem.tensors}
    assert [stored[f"W{tile}"] for tile in range(3)] == [16 * 4 * 2, 16 * 16 * 2, 4 * 2 * 2]  # half of the rows, a tail group whole
    assert [(group.m, group.n, group.k) for group in problem.groups] == [(16, 8, 8), (16, 8, 30), (4, 8, 4)]
    assert problem.dense_equivalent_macs == forward.macs
    with pytest.raises(ValueError, match="only a linear forward"):
        lower_tile_vector_wise(backward_data, plan, pattern, group_code(pattern))


def test_an_even_plan_keeps_what_it_is_asked_to_keep() -> None:
    plan = even_plan(100, 60, 16, 40, 25)
    assert (int(plan.columns.sum()), plan.rows.sum(axis=1).tolist()) == (40, [25, 25, 25])
    assert len({tuple(rows) for rows in plan.rows}) == 3  # the tiles gather different rows


@pytest.mark.parametrize("phase", PHASES)
def test_a_tile_without_a_row_launches_nothing(phase: str) -> None:
    rows = np.zeros((2, 30), dtype=np.bool_)
    rows[1, :7] = True
    plan = TileWisePlan(16, np.ones(32, dtype=np.bool_), rows)
    gemm = next(gemm for gemm in linear_gemms("fc", 8, 30, 32, "fp16") if gemm.phase == phase)
    assert executed_macs(lower_tile_wise(gemm, plan)) == 8 * 16 * 7
