"""A product of single kept elements on the CUDA cores: its flops and the bytes that it cannot avoid.

Each kept weight costs 2 flops a token at the FP32 rate, or the product takes the time of its operands' bytes: no gather, no index
arithmetic and no imbalance is charged. So no kernel that multiplies and adds in FP32 is faster, which is how cuSPARSE computes with
FP16 operands (its sparse compute types are FP32 and FP64: nvmath.sparse.ComputeType, docs.nvidia.com/cuda/nvmath-python). Packed FP16
arithmetic, with sums of FP16, is not modelled: it would be up to four times as fast on an A100 (78 TFLOP/s against 19.5, A100 whitepaper).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from nmsim.units import element_bits
from nmsim.workload.gemm import Gemm


@dataclass(frozen=True)
class CudaCoreProduct:
    """What one launch reads, writes and computes."""

    name: str
    bytes_read: int
    bytes_written: int
    flops: int


def on_cuda_cores(gemm: Gemm, density: float, *, index_bits: int, name: str) -> CudaCoreProduct:
    """Kept weights (or, in backward_weight, kept gradients of them) times tokens; the other operand and the output are dense.

    A convolution reads each pixel of its tensors once, however many taps meet it.
    """
    bits = element_bits(gemm.dtype)
    flops = 2 * round(gemm.macs * density)
    outputs, reduction = weight_shape(gemm)
    sparse_bytes = round(outputs * reduction * gemm.l * density) * (bits + index_bits) // 8
    # A pointwise convolution with a stride meets fewer pixels than there are.
    dense_a = min(prod(gemm.a.shape), gemm.m * gemm.k * gemm.l) * bits // 8
    if gemm.phase == "backward_weight":
        dense_b = min(prod(gemm.b.shape), gemm.k * gemm.n * gemm.l) * bits // 8
        return CudaCoreProduct(name, dense_a + dense_b, sparse_bytes, flops)
    return CudaCoreProduct(name, dense_a + sparse_bytes, gemm.m * gemm.n * gemm.l * element_bits(gemm.out_dtype) // 8, flops)


def weight_shape(gemm: Gemm) -> tuple[int, int]:
    """(outputs, reduction of the forward product) of the layer that `gemm` belongs to; of a convolution, of one of its groups."""
    if gemm.conv is not None:
        conv = gemm.conv
        return conv.out_channels // conv.groups, conv.kernel_h * conv.kernel_w * conv.in_channels // conv.groups
    return {"forward": (gemm.n, gemm.k), "backward_data": (gemm.k, gemm.n), "backward_weight": (gemm.m, gemm.n)}[gemm.phase]
