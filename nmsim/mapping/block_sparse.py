"""Block sparsity on dense tensor cores: 32 x 32 blocks of W, of which the empty ones are skipped.

Modelled is a kernel that gives each CTA one column of blocks: 32 outputs (in `backward_data` 32 inputs) by 64 or 128 tokens, and a
list of the blocks that this column keeps, one of them a k-tile. So OpenAI's blocksparse is built (32 x 64 outputs, k-tiles of 32, four
warps: github.com/openai/blocksparse, hgemm_blocksparse_32x64x32 in src/blocksparse_hgemm_cn_op_gpu.cu) and Triton's (32 x 128,
triton/ops/blocksparse). Three stages are ours (assumption: OpenAI's has one, Triton's compiler chooses). Each product reads the blocks
along its own reduction, so that none adds to what another CTA wrote. In `backward_weight` a CTA computes 32 outputs by 64 or 128 of the
inputs that they keep.
Not modelled: reading the lists. Activations are taken as stored with tokens (or pixels' channels) contiguous, as for tile-wise; a
convolution's kept blocks as spread evenly over its taps, in `backward_data` in whole channels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nmsim.arch.spec import TileSpec
from nmsim.mapping.lower import row_bytes
from nmsim.mapping.problem import Group, Problem, Tensor
from nmsim.mapping.tile_wise import lower_tile_wise, residue_products
from nmsim.units import element_bits
from nmsim.workload.gemm import ConvGeometry, Gemm
from nmsim.workload.trace import TileWisePlan

BLOCK = 32
"""Side of a block: the block-wise baseline of Guo et al., SC20."""
STAGES = 3


def lower_block_sparse(gemm: Gemm, blocks: NDArray[np.bool_]) -> Problem:
    """The GEMM of a layer of which `blocks` are kept, bool [outputs / 32, inputs / 32], a convolution's inputs in (r, s, c) order."""
    if gemm.phase != "backward_data":
        outputs, inputs = (gemm.n, gemm.k) if gemm.phase == "forward" else (gemm.m, gemm.n)
        problem = lower_tile_wise(gemm, _plan(blocks, outputs, inputs))
    elif gemm.conv is None:  # the transposed blocks, as a forward product of W^T
        problem = lower_tile_wise(replace(gemm, phase="forward"), _plan(blocks.T, gemm.n, gemm.k))
    else:
        problem = _input_gradient(gemm, gemm.conv, blocks)
    return replace(problem, tiles=_tiles(gemm))


def _plan(blocks: NDArray[np.bool_], columns: int, rows: int) -> TileWisePlan:
    """A plan of tiles one block wide: the blocks [column blocks, row blocks] that each keeps."""
    kept = np.repeat(blocks, BLOCK, axis=1)[:, :rows]
    return TileWisePlan(BLOCK, np.ones(columns, dtype=np.bool_), np.ascontiguousarray(kept))


def _input_gradient(gemm: Gemm, conv: ConvGeometry, blocks: NDArray[np.bool_]) -> Problem:
    """dX of a convolution, 32 of its channels at a time, each from as many channels of dY as it keeps blocks of."""
    bits, out_bits = element_bits(gemm.dtype), element_bits(gemm.out_dtype)
    taps, outputs, inputs = conv.kernel_h * conv.kernel_w, conv.out_channels, conv.in_channels
    rows = np.repeat(blocks, BLOCK, axis=1)[:, : taps * inputs].reshape(len(blocks), taps, inputs)
    kept = np.repeat(rows, BLOCK, axis=0)[:outputs]
    pixels_out, pixels_in = conv.batch * conv.out_height * conv.out_width, conv.batch * conv.height * conv.width
    tensors = [Tensor("dY", pixels_out, row_bytes(outputs, bits)), Tensor("D", pixels_in, row_bytes(inputs, out_bits))]
    groups: list[Group] = []
    columns = -(-inputs // BLOCK)
    for column in range(columns):
        first, channels = column * BLOCK, min(BLOCK, inputs - column * BLOCK)
        width = max(1, round(outputs * float(kept[:, :, first : first + channels].mean())))
        read = (outputs - width) * column // max(1, columns - 1)  # columns keep different channels of dY: all of them are read
        places = row_bytes(read, bits), row_bytes(first, out_bits)
        for weight, group in residue_products(gemm, conv, column, width, channels, places, shared=False):
            tensors.append(weight)
            groups.append(group)
    return Problem(gemm.id, gemm.dtype, None, tuple(tensors), tuple(groups), 1, gemm.macs)


def _tiles(gemm: Gemm) -> tuple[TileSpec, ...]:
    """Kernel templates of four warps: 32 along the blocks' side of the product, a block a k-tile."""
    k_bytes = BLOCK * element_bits(gemm.dtype) // 8
    if gemm.phase == "backward_weight":
        shapes = ((BLOCK, 128), (32, 32)), ((BLOCK, 64), (16, 32))
    else:
        shapes = ((128, BLOCK), (32, 32)), ((64, BLOCK), (32, 16))
    return tuple(TileSpec(cta=(*cta, k_bytes), warp=warp, stages=STAGES) for cta, warp in shapes)
