"""Dispatched convolutions as implicit GEMMs: geometry, and the weight as the trace stores it, [O, R, S, C]."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nmsim.errors import InputError
from nmsim.workload.gemm import ConvGeometry


def conv_geometry(
    module: str,
    inputs: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    groups: int,
) -> ConvGeometry:
    """Geometry of a dispatched 1-D or 2-D convolution; a 1-D one has height 1. InputError for transposed and 3-D ones."""
    if transposed or weight.dim() not in (3, 4):
        kind = "transposed" if transposed else f"{weight.dim() - 2}-D"
        raise InputError(f"the recorder knows 1-D and 2-D convolutions, and this one is {kind}", path=module, fix="leave the module out")
    height, width = (1, inputs.shape[2]) if weight.dim() == 3 else (inputs.shape[2], inputs.shape[3])
    kernel_h, kernel_w = (1, weight.shape[2]) if weight.dim() == 3 else (weight.shape[2], weight.shape[3])
    stride_h, stride_w = _pair(stride, 1)
    pad_h, pad_w = _pair(padding, 0)
    dilation_h, dilation_w = _pair(dilation, 1)
    return ConvGeometry(
        batch=inputs.shape[0],
        height=height,
        width=width,
        in_channels=inputs.shape[1],
        out_channels=weight.shape[0],
        kernel_h=kernel_h,
        kernel_w=kernel_w,
        stride_h=stride_h,
        stride_w=stride_w,
        pad_h=pad_h,
        pad_w=pad_w,
        dilation_h=dilation_h,
        dilation_w=dilation_w,
        groups=groups,
    )


def stored_filters(weight: Tensor) -> Tensor:
    """[O, C, R, S] or [O, C, S] -> [O, R, S, C], a view."""
    return (weight.unsqueeze(2) if weight.dim() == 3 else weight).permute(0, 2, 3, 1)


def _pair(sizes: Sequence[int], first: int) -> tuple[int, int]:
    """(vertical, horizontal) of a size that a 1-D convolution gives once."""
    return (first, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])
