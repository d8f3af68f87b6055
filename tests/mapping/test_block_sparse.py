"""Blocks of 32 x 32 on dense tensor cores: an empty block is multiplied in no phase, and no CTA adds to what another wrote."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nmsim.arch.spec import GpuSpec
from nmsim.mapping.block_sparse import BLOCK, lower_block_sparse
from nmsim.mapping.candidates import build_plan, rank
from nmsim.mapping.convolution import lower_convolution
from nmsim.mapping.problem import Problem
from nmsim.workload.catalogue import conv_gemms, linear_gemms
from nmsim.workload.gemm import PHASES, ConvGeometry, Gemm


def macs(problem: Problem) -> int:
    """Before tile padding."""
    return sum(group.m * group.n * group.k for group in problem.groups)


def drawn(rows: int, columns: int, seed: int) -> NDArray[np.bool_]:
    blocks = np.random.default_rng(seed).random((rows, columns)) < 0.5
    blocks[np.arange(rows), np.arange(rows) % columns] = True
    return blocks


def elements(blocks: NDArray[np.bool_], outputs: int, inputs: int) -> NDArray[np.bool_]:
    return np.kron(blocks, np.ones((BLOCK, BLOCK), dtype=np.bool_))[:outputs, :inputs]


def of_phase(gemms: list[Gemm], phase: str) -> Gemm:
    return next(gemm for gemm in gemms if gemm.phase == phase)


@settings(max_examples=60, deadline=None)
@given(tokens=st.integers(1, 100), outputs=st.integers(1, 200), inputs=st.integers(1, 200), seed=st.integers(0, 99))
def test_each_phase_of_a_linear_layer_multiplies_the_kept_blocks_and_no_other(tokens: int, outputs: int, inputs: int, seed: int) -> None:
    blocks = drawn(-(-outputs // BLOCK), -(-inputs // BLOCK), seed)
    for gemm in linear_gemms("fc", tokens, inputs, outputs, "fp16"):
        problem = lower_block_sparse(gemm, blocks)
        assert macs(problem) == tokens * elements(blocks, outputs, inputs).sum()
        assert not any(group.accumulate for group in problem.groups)
        assert problem.dense_equivalent_macs == gemm.macs


@pytest.mark.parametrize("phase", PHASES)
def test_a_kernel_walks_over_one_column_of_blocks_and_executes_what_is_kept(phase: str, spec: GpuSpec) -> None:
    """1024 x 1024 blocks' worth of W and 2048 tokens: nothing is padded, so that half of the blocks are half of the MACs."""
    gemm, side = of_phase(linear_gemms("fc", 2048, 1024, 1024, "fp16"), phase), 1024 // BLOCK
    blocks = drawn(side, side, 3)
    own = [one for one in rank(spec, lower_block_sparse(gemm, blocks), keep=1000) if BLOCK in one.key.cta_tile[:2]]
    assert len({one.key.cta_tile for one in own}) == 2
    for candidate in own:
        plan = build_plan(spec, candidate)
        executed = plan.k_tiles * plan.executed_macs_per_k_tile
        if phase == "backward_weight":  # the inputs that 32 outputs keep are padded to a tile of 128 or 64
            assert gemm.macs * blocks.mean() <= executed < gemm.macs * (blocks.mean() + 128 / 1024)
        else:
            assert executed == gemm.macs * blocks.mean()
            assert candidate.key.cta_tile[1:] == (BLOCK, BLOCK)


CONVOLUTIONS = [
    ConvGeometry(2, 8, 8, 96, 128, 3, 3, pad_h=1, pad_w=1),
    ConvGeometry(2, 8, 8, 64, 96, 3, 3, 2, 2, 1, 1),
    ConvGeometry(1, 9, 7, 64, 64, 1, 1, 2, 2),
    ConvGeometry(1, 8, 8, 16, 48, 3, 3, pad_h=1, pad_w=1),
]


@pytest.mark.parametrize("conv", CONVOLUTIONS)
def test_a_convolution_multiplies_the_share_that_is_kept(conv: ConvGeometry) -> None:
    """Whole channels in backward_data: to half a channel of each tap and column of blocks."""
    gemms = list(conv_gemms("conv", conv, "fp16"))
    taps = conv.kernel_h * conv.kernel_w
    blocks = drawn(-(-conv.out_channels // BLOCK), -(-taps * conv.in_channels // BLOCK), 1)
    share = float(elements(blocks, conv.out_channels, taps * conv.in_channels).mean())
    for phase in ("forward", "backward_weight"):
        gemm = of_phase(gemms, phase)
        assert macs(lower_block_sparse(gemm, blocks)) == round(gemm.macs * share)
    gemm = of_phase(gemms, "backward_data")
    problem = lower_block_sparse(gemm, blocks)
    assert macs(problem) / macs(lower_convolution(gemm, None)) == pytest.approx(share, abs=0.5 / conv.out_channels)
    assert not any(group.accumulate for group in problem.groups)


@pytest.mark.parametrize("conv", CONVOLUTIONS)
def test_the_input_gradient_of_a_convolution_is_written_once(conv: ConvGeometry, spec: GpuSpec) -> None:
    """Every channel of dX, as the dense product writes it."""
    gemm = of_phase(list(conv_gemms("conv", conv, "fp16")), "backward_data")
    blocks = drawn(-(-conv.out_channels // BLOCK), -(-conv.kernel_h * conv.kernel_w * conv.in_channels // BLOCK), 1)
    written = [
        sum(group.m * group.n for group in problem.groups) for problem in (lower_block_sparse(gemm, blocks), lower_convolution(gemm, None))
    ]
    assert written[0] == written[1]
    build_plan(spec, rank(spec, lower_block_sparse(gemm, blocks))[0])
