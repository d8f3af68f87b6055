"""The geometry of a convolution as fields of `nmsim.rules.box`: which stored pixel an output pixel reads under a filter tap.

`backward_data` of a strided convolution falls apart into residues: the input rows h = h' * stride + residue of one residue
class are reached by the same taps, so that each class is a convolution of stride 1 over dY with those taps alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import gcd
from typing import NamedTuple

from nmsim.mapping.lower import row_bytes
from nmsim.rules import box
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.gemm import ConvGeometry

_NO_TAPS = 1 << 40
"""More channels than any row holds: every channel then belongs to tap 0, which is how an output is written."""


class Residue(NamedTuple):
    """One residue class of the input pixels along both axes, and the taps that reach it."""

    taps_h: int
    taps_w: int
    rows: int
    """Input rows of one image in the class."""
    columns: int
    shift_h: int
    """Output row that input row h' = 0 of the class gets from the first of its taps."""
    shift_w: int
    residue_h: int
    residue_w: int

    @property
    def taps(self) -> int:
        """Taps of the filter that reach the class."""
        return self.taps_h * self.taps_w


def pixel_kind(kind: int, fields: Mapping[int, int], taps: int = 1) -> int:
    """PIXELS_X or PIXELS_K, or the plain kind with the same boxes where output pixel p reads input pixel p through its one tap.

    So a pointwise convolution is simulated as the linear layer that it is, without working pixels out.
    """
    same_grid = fields[box.OUT_W] == fields[box.IN_W] and fields[box.OUT_PIXELS] == fields[box.IN_PIXELS]
    stays = (fields[box.STRIDE_H], fields[box.STRIDE_W], fields[box.PAD_H], fields[box.PAD_W]) == (1, 1, 0, 0)
    if taps > 1 or not (same_grid and stays):
        return kind
    return box.ROWS if kind == box.PIXELS_X else box.COLUMNS


def padded_channels(channels: int, native: NMPattern | None) -> int:
    """Channels of one tap in a product whose weight is compressed: no group of M straddles two taps, so each tap's tail is padded."""
    return channels if native is None else -(-channels // native.m) * native.m


def pixels_read(conv: ConvGeometry) -> ConvGeometry:
    """The convolution over the pixels it reads: a pointwise one with a stride is one of stride 1 over those it does not skip.

    A filter with several taps reads (nearly) every pixel through one of them, and stays as it is.
    """
    pointwise = conv.kernel_h == conv.kernel_w == 1 and conv.pad_h == conv.pad_w == 0
    if not pointwise or conv.stride_h * conv.stride_w == 1:
        return conv
    return replace(conv, height=conv.out_height, width=conv.out_width, stride_h=1, stride_w=1)


def input_under_taps(conv: ConvGeometry, channels: int, bits: int) -> dict[int, int]:
    """X under the filter, on the grid of output pixels; `channels` of one convolution group are reduced over at each tap."""
    return {
        box.CHANNELS: channels,
        box.TAPS_W: conv.kernel_w,
        box.OUT_W: conv.out_width,
        box.OUT_PIXELS: conv.out_height * conv.out_width,
        box.IN_W: conv.width,
        box.IN_PIXELS: conv.height * conv.width,
        box.STRIDE_H: conv.stride_h,
        box.STRIDE_W: conv.stride_w,
        box.PAD_H: conv.pad_h,
        box.PAD_W: conv.pad_w,
        box.DILATION_H: conv.dilation_h,
        box.DILATION_W: conv.dilation_w,
        box.BYTES_PER_BATCH: row_bytes(channels, bits),
    }


def gradient_under_taps(conv: ConvGeometry, residue: Residue, channels: int, bits: int) -> dict[int, int]:
    """dY under the taps of one residue, on the grid of its input pixels: the filter is turned around, so that p falls as the tap rises."""
    return {
        box.CHANNELS: channels,
        box.TAPS_W: residue.taps_w,
        box.OUT_W: residue.columns,
        box.OUT_PIXELS: residue.rows * residue.columns,
        box.IN_W: conv.out_width,
        box.IN_PIXELS: conv.out_height * conv.out_width,
        box.STRIDE_H: 1,
        box.STRIDE_W: 1,
        box.PAD_H: -residue.shift_h,
        box.PAD_W: -residue.shift_w,
        box.DILATION_H: -(conv.dilation_h // gcd(conv.dilation_h, conv.stride_h)),
        box.DILATION_W: -(conv.dilation_w // gcd(conv.dilation_w, conv.stride_w)),
        box.BYTES_PER_BATCH: row_bytes(channels, bits),
    }


def input_pixels(conv: ConvGeometry, residue: Residue, channels: int, bits: int) -> dict[int, int]:
    """dX at the pixels of one residue, a stride apart; `channels` are those of one convolution group."""
    return {
        box.CHANNELS: _NO_TAPS,
        box.TAPS_W: 1,
        box.OUT_W: residue.columns,
        box.OUT_PIXELS: residue.rows * residue.columns,
        box.IN_W: conv.width,
        box.IN_PIXELS: conv.height * conv.width,
        box.STRIDE_H: conv.stride_h,
        box.STRIDE_W: conv.stride_w,
        box.PAD_H: -residue.residue_h,
        box.PAD_W: -residue.residue_w,
        box.BYTES_PER_BATCH: row_bytes(channels, bits),
    }


def residues(conv: ConvGeometry) -> list[Residue]:
    """The residue classes that have work, row residues first.

    Input row h = h' * stride + residue gets output row p = h' + shift - j * dilation / gcd(dilation, stride) for the j-th of
    its taps. Pixels of a class without a tap have a gradient of zero: they cost no product, and nobody here writes the zeros.
    """
    found = []
    for residue_h in range(conv.stride_h):
        along_h = _along(residue_h, conv.height, conv.kernel_h, conv.stride_h, conv.pad_h, conv.dilation_h)
        for residue_w in range(conv.stride_w):
            along_w = _along(residue_w, conv.width, conv.kernel_w, conv.stride_w, conv.pad_w, conv.dilation_w)
            if along_h and along_w:
                found.append(Residue(along_h[0], along_w[0], along_h[1], along_w[1], along_h[2], along_w[2], residue_h, residue_w))
    return found


def _along(residue: int, size: int, kernel: int, stride: int, pad: int, dilation: int) -> tuple[int, int, int] | None:
    """(taps, positions, shift) of one residue along one axis, None where nothing reaches it."""
    positions = -(-(size - residue) // stride)
    taps = [tap for tap in range(kernel) if (residue + pad - tap * dilation) % stride == 0]
    if not taps or positions <= 0:
        return None
    return len(taps), positions, (residue + pad - taps[0] * dilation) // stride
