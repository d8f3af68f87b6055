"""Convolutions as implicit GEMMs: im2col is never stored, the taps read the same input bytes.

K runs over (R, S, C), channel fastest. `backward_data` of a strided convolution runs as stride_h x stride_w residue GEMMs
in one launch, each over the taps that reach its output pixels. Weights of `backward_data` are looked up as if stored
[C, R, S, O]: the same bytes, with their reduction contiguous.
"""

from __future__ import annotations

from math import gcd

from nmsim.mapping.lower import compressed, row_bytes
from nmsim.mapping.problem import Group, Problem, Tensor, View
from nmsim.rules import box
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import element_bits
from nmsim.workload.gemm import ConvGeometry, Gemm


def lower_convolution(gemm: Gemm, native: NMPattern | None) -> Problem:
    """A convolution's GEMM; `native` compresses its weight (never in backward_weight, which has none)."""
    assert gemm.conv is not None
    if gemm.phase == "forward":
        return _forward(gemm, gemm.conv, native)
    if gemm.phase == "backward_data":
        return _backward_data(gemm, gemm.conv, native)
    return _backward_weight(gemm, gemm.conv)


def _forward(gemm: Gemm, conv: ConvGeometry, native: NMPattern | None) -> Problem:
    bits = element_bits(gemm.dtype)
    pixels = View(
        "X", box.PIXELS_X, 1 if native else 0, bits, fields=_taps(conv) | {box.BYTES_PER_BATCH: row_bytes(gemm.k // _tap_count(conv), bits)}
    )
    tensor_x = Tensor("X", conv.batch * conv.height * conv.width, row_bytes(conv.in_channels, bits))
    tensor_d, view_d = _pixel_output(gemm, conv.batch * conv.out_height * conv.out_width, conv.out_channels, bool(native))
    return _assemble(gemm, native, gemm.n, gemm.m, gemm.k, pixels, view_d, (tensor_x, tensor_d))


def _backward_data(gemm: Gemm, conv: ConvGeometry, native: NMPattern | None) -> Problem:
    """dX from dY: the forward geometry turned around, one group per residue of the stride."""
    bits = element_bits(gemm.dtype)
    out_channels = conv.out_channels // conv.groups
    tensor_dy = Tensor("X", conv.batch * conv.out_height * conv.out_width, row_bytes(conv.out_channels, bits))
    tensor_d, _ = _pixel_output(gemm, conv.batch * conv.height * conv.width, conv.in_channels, bool(native))
    tensors: list[Tensor] = [tensor_dy, tensor_d]
    groups: list[Group] = []
    for index, residue in enumerate(residues(conv)):
        taps_h, taps_w, rows, columns, shift_h, shift_w, residue_h, residue_w = residue
        m, k = conv.batch * rows * columns, taps_h * taps_w * out_channels
        fields = {
            box.CHANNELS: out_channels,
            box.TAPS_W: taps_w,
            box.OUT_W: columns,
            box.OUT_PIXELS: rows * columns,
            box.IN_W: conv.out_width,
            box.IN_PIXELS: conv.out_height * conv.out_width,
            box.STRIDE_H: 1,
            box.STRIDE_W: 1,
            box.PAD_H: -shift_h,
            box.PAD_W: -shift_w,
            box.DILATION_H: -(conv.dilation_h // gcd(conv.dilation_h, conv.stride_h)),
            box.DILATION_W: -(conv.dilation_w // gcd(conv.dilation_w, conv.stride_w)),
            box.BYTES_PER_BATCH: row_bytes(out_channels, bits),
        }
        scatter = {
            box.CHANNELS: 1 << 40,
            box.TAPS_W: 1,
            box.OUT_W: columns,
            box.OUT_PIXELS: rows * columns,
            box.IN_W: conv.width,
            box.IN_PIXELS: conv.height * conv.width,
            box.STRIDE_H: conv.stride_h,
            box.STRIDE_W: conv.stride_w,
            box.PAD_H: -residue_h,
            box.PAD_W: -residue_w,
            box.BYTES_PER_BATCH: row_bytes(gemm.n, element_bits(gemm.out_dtype)),
        }
        view_dy = View("X", box.PIXELS_X, 1 if native else 0, bits, fields=fields)
        view_d = View("D", box.PIXELS_X, 1 if native else 0, element_bits(gemm.out_dtype), fields=scatter)
        part = _assemble(gemm, native, gemm.n, m, k, view_dy, view_d, (), suffix=str(index))
        tensors.extend(part.tensors)
        groups.extend(part.groups)
    return Problem(
        gemm.id, gemm.dtype, native, tuple(tensors), tuple(groups), gemm.l, gemm.macs, _residue_note(conv, groups)
    )


def residues(conv: ConvGeometry) -> list[tuple[int, int, int, int, int, int, int, int]]:
    """(taps_h, taps_w, rows, columns, shift_h, shift_w, residue_h, residue_w) of each residue class that has work.

    Input row h = h' * stride + residue gets output row p = h' + shift - j * dilation / gcd(dilation, stride) for the j-th of
    its taps. Residues without a tap are zeros, written by nobody here.
    """
    found = []
    for residue_h in range(conv.stride_h):
        for residue_w in range(conv.stride_w):
            along_h = _residue(residue_h, conv.height, conv.kernel_h, conv.stride_h, conv.pad_h, conv.dilation_h)
            along_w = _residue(residue_w, conv.width, conv.kernel_w, conv.stride_w, conv.pad_w, conv.dilation_w)
            if along_h and along_w:
                found.append((along_h[0], along_w[0], along_h[1], along_w[1], along_h[2], along_w[2], residue_h, residue_w))
    return found


def _residue(residue: int, size: int, kernel: int, stride: int, pad: int, dilation: int) -> tuple[int, int, int] | None:
    """(taps, positions, shift) of one residue along one axis, None where nothing reaches it."""
    positions = -(-(size - residue) // stride)
    taps = [tap for tap in range(kernel) if (residue + pad - tap * dilation) % stride == 0]
    if not taps or positions <= 0:
        return None
    return len(taps), positions, (residue + pad - taps[0] * dilation) // stride


def _backward_weight(gemm: Gemm, conv: ConvGeometry) -> Problem:
    bits = element_bits(gemm.dtype)
    pixels = conv.batch * conv.out_height * conv.out_width
    channels = conv.in_channels // conv.groups
    tensor_a = Tensor("A", pixels, row_bytes(conv.out_channels, bits))
    tensor_b = Tensor("X", conv.batch * conv.height * conv.width, row_bytes(conv.in_channels, bits))
    tensor_d = Tensor("D", conv.out_channels, row_bytes(gemm.n, element_bits(gemm.out_dtype)))
    view_a = View("A", box.COLUMNS, 0, bits, fields={box.BYTES_PER_BATCH: row_bytes(gemm.m, bits)})
    view_b = View("X", box.PIXELS_K, 1, bits, fields=_taps(conv) | {box.BYTES_PER_BATCH: row_bytes(channels, bits)})
    view_d = View("D", box.ROWS, 0, element_bits(gemm.out_dtype), fields={box.ROWS_PER_BATCH: gemm.m})
    group = Group(gemm.m, gemm.n, gemm.k, (view_a, view_b), view_d)
    return Problem(gemm.id, gemm.dtype, None, (tensor_a, tensor_b, tensor_d), (group,), gemm.l, gemm.macs)


def _assemble(
    gemm: Gemm,
    native: NMPattern | None,
    channels_out: int,
    pixels: int,
    k: int,
    pixel_view: View,
    view_d: View,
    tensors: tuple[Tensor, ...],
    suffix: str = "",
) -> Problem:
    """Pixels x weight, or compressed weight x pixels: the weight of this group is stored for itself."""
    bits = element_bits(gemm.dtype)
    if native is None:
        weight = Tensor("W" + suffix, channels_out * gemm.l, row_bytes(k, bits))
        view_w = View(weight.name, box.ROWS, 1, bits, fields={box.ROWS_PER_BATCH: channels_out})
        group = Group(pixels, channels_out, k, (pixel_view, view_w), view_d)
        return Problem(gemm.id, gemm.dtype, None, (*tensors, weight), (group,), gemm.l, gemm.macs)
    values, metadata, (view_a, view_e) = compressed(channels_out, k, gemm.l, bits, native)
    named = (Tensor("A" + suffix, values.rows, values.pitch_bytes), Tensor("E" + suffix, metadata.rows, metadata.pitch_bytes))
    view_a = View(named[0].name, view_a.kind, 0, view_a.bits, view_a.keep, view_a.fields)
    view_e = View(named[1].name, view_e.kind, 0, view_e.bits, view_e.keep, view_e.fields)
    group = Group(channels_out, pixels, k, (view_a, pixel_view, view_e), view_d)
    return Problem(gemm.id, gemm.dtype, native, (*tensors, *named), (group,), gemm.l, gemm.macs)


def _pixel_output(gemm: Gemm, pixels: int, channels: int, swapped: bool) -> tuple[Tensor, View]:
    bits = element_bits(gemm.out_dtype)
    tensor = Tensor("D", pixels, row_bytes(channels, bits))
    return tensor, View("D", box.ROWS, 1 if swapped else 0, bits, fields={box.BYTES_PER_BATCH: row_bytes(gemm.n, bits)})


def _tap_count(conv: ConvGeometry) -> int:
    return conv.kernel_h * conv.kernel_w


def _taps(conv: ConvGeometry) -> dict[int, int]:
    """The fields of a view of the input under the taps of the filter."""
    return {
        box.CHANNELS: conv.in_channels // conv.groups,
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
    }


def _residue_note(conv: ConvGeometry, groups: list[Group]) -> tuple[str, ...]:
    if conv.stride_h * conv.stride_w == 1:
        return ()
    return (f"runs as {len(groups)} residue GEMMs of the stride {conv.stride_h}x{conv.stride_w}",)
