"""Convolutions as implicit GEMMs: im2col is never stored, the taps read the same input bytes.

K runs over (R, S, C), channel fastest. `backward_data` of a strided convolution runs as stride_h x stride_w residue GEMMs
in one launch, each over the taps that reach its input pixels. Weights of `backward_data` are looked up as if stored
[C, R, S, O]: the same bytes, with their reduction contiguous.

A compressed weight keeps N of M channels inside each tap: where M does not divide the channels, each tap's last group is
padded, so that a sparse k is R*S*ceil(C/M)*N. The activations of such a product are taken as stored with as many channels.
The pixels that a pointwise convolution's stride skips are no part of the tensor that it reads.
"""

from __future__ import annotations

from dataclasses import replace

from nmsim.mapping.lower import compressed, row_bytes
from nmsim.mapping.problem import Group, Problem, Tensor, View
from nmsim.mapping.taps import gradient_under_taps, input_pixels, input_under_taps, padded_channels, pixel_kind, pixels_read, residues
from nmsim.rules import box
from nmsim.sparsity.encoding import GroupCode, group_code
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import element_bits
from nmsim.workload.gemm import ConvGeometry, Gemm


def lower_convolution(gemm: Gemm, native: NMPattern | None, code: GroupCode | None = None) -> Problem:
    """A convolution's GEMM; `native` compresses its weight, in backward_weight dY along the output pixels.

    `code` is how the machine writes the kept positions of a group down; the shortest index by default.
    """
    assert gemm.conv is not None
    if native is not None and code is None:
        code = group_code(native)
    lower = {"forward": _forward, "backward_data": _backward_data}.get(gemm.phase, _backward_weight)
    return replace(lower(gemm, gemm.conv, native, code), code=code)


def _forward(gemm: Gemm, whole: ConvGeometry, native: NMPattern | None, code: GroupCode | None) -> Problem:
    conv = pixels_read(whole)
    bits, out_bits = element_bits(gemm.dtype), element_bits(gemm.out_dtype)
    channels = padded_channels(conv.in_channels // conv.groups, native)
    tensor_x = Tensor("X", conv.batch * conv.height * conv.width, row_bytes(channels * conv.groups, bits))
    tensor_d = Tensor("D", conv.batch * conv.out_height * conv.out_width, row_bytes(conv.out_channels, out_bits))
    dimension = 0 if native is None else 1
    under_taps, taps = input_under_taps(conv, channels, bits), conv.kernel_h * conv.kernel_w
    view_x = View("X", pixel_kind(box.PIXELS_X, under_taps, taps), dimension, bits, fields=under_taps)
    view_d = View("D", box.ROWS, dimension, out_bits, fields={box.BYTES_PER_BATCH: row_bytes(gemm.n, out_bits)})
    weights, group = _product(gemm, native, code, gemm.m, taps * channels, view_x, view_d)
    return Problem(gemm.id, gemm.dtype, native, (tensor_x, tensor_d, *weights), (group,), gemm.l, gemm.macs)


def _backward_data(gemm: Gemm, conv: ConvGeometry, native: NMPattern | None, code: GroupCode | None) -> Problem:
    """dX from dY: the forward geometry turned around, one group per residue of the stride."""
    bits, out_bits = element_bits(gemm.dtype), element_bits(gemm.out_dtype)
    channels = padded_channels(conv.out_channels // conv.groups, native)
    tensor_dy = Tensor("X", conv.batch * conv.out_height * conv.out_width, row_bytes(channels * conv.groups, bits))
    tensor_d = Tensor("D", conv.batch * conv.height * conv.width, row_bytes(conv.in_channels, out_bits))
    dimension = 0 if native is None else 1
    tensors: list[Tensor] = [tensor_dy, tensor_d]
    groups: list[Group] = []
    for index, residue in enumerate(residues(conv)):
        under_taps, written = gradient_under_taps(conv, residue, channels, bits), input_pixels(conv, residue, gemm.n, out_bits)
        view_dy = View("X", pixel_kind(box.PIXELS_X, under_taps, residue.taps), dimension, bits, fields=under_taps)
        view_d = View("D", pixel_kind(box.PIXELS_X, written), dimension, out_bits, fields=written)
        pixels, k = conv.batch * residue.rows * residue.columns, residue.taps * channels
        weights, group = _product(gemm, native, code, pixels, k, view_dy, view_d, suffix=str(index))
        tensors.extend(weights)
        groups.append(group)
    return Problem(gemm.id, gemm.dtype, native, tuple(tensors), tuple(groups), gemm.l, gemm.macs, _residue_note(conv, groups))


def _backward_weight(gemm: Gemm, whole: ConvGeometry, native: NMPattern | None, code: GroupCode | None) -> Problem:
    conv = pixels_read(whole)
    bits, out_bits = element_bits(gemm.dtype), element_bits(gemm.out_dtype)
    tensor_x = Tensor("X", conv.batch * conv.height * conv.width, row_bytes(conv.in_channels, bits))
    tensor_d = Tensor("D", conv.out_channels, row_bytes(gemm.n, out_bits))
    under_taps = input_under_taps(conv, conv.in_channels // conv.groups, bits)
    view_x = View("X", pixel_kind(box.PIXELS_K, under_taps, conv.kernel_h * conv.kernel_w), 1, bits, fields=under_taps)
    view_d = View("D", box.ROWS, 0, out_bits, fields={box.ROWS_PER_BATCH: gemm.m})
    if native is None or code is None:
        gradients: tuple[Tensor, ...] = (Tensor("A", gemm.k, row_bytes(conv.out_channels, bits)),)
        view_a = View("A", box.COLUMNS, 0, bits, fields={box.BYTES_PER_BATCH: row_bytes(gemm.m, bits)})
        operands: tuple[View, ...] = (view_a, view_x)
    else:
        values, metadata, (view_a, view_e) = compressed(gemm.m, gemm.k, gemm.l, bits, native, code)
        gradients, operands = (values, metadata), (view_a, view_x, view_e)
    group = Group(gemm.m, gemm.n, gemm.k, operands, view_d)
    return Problem(gemm.id, gemm.dtype, native, (*gradients, tensor_x, tensor_d), (group,), gemm.l, gemm.macs)


def _product(
    gemm: Gemm, native: NMPattern | None, code: GroupCode | None, pixels: int, k: int, pixel_view: View, view_d: View, suffix: str = ""
) -> tuple[tuple[Tensor, ...], Group]:
    """Pixels x weight, or compressed weight x pixels, and the weight's tensors: each group's weight is stored for itself."""
    bits = element_bits(gemm.dtype)
    if native is None or code is None:
        weight = Tensor("W" + suffix, gemm.n * gemm.l, row_bytes(k, bits))
        view_w = View(weight.name, box.ROWS, 1, bits, fields={box.ROWS_PER_BATCH: gemm.n})
        return (weight,), Group(pixels, gemm.n, k, (pixel_view, view_w), view_d)
    values, metadata, (view_a, view_e) = compressed(gemm.n, k, gemm.l, bits, native, code)
    values, metadata = replace(values, name="A" + suffix), replace(metadata, name="E" + suffix)
    view_a, view_e = replace(view_a, tensor=values.name), replace(view_e, tensor=metadata.name)
    return (values, metadata), Group(gemm.n, pixels, k, (view_a, pixel_view, view_e), view_d)


def _residue_note(conv: ConvGeometry, groups: list[Group]) -> tuple[str, ...]:
    if conv.stride_h * conv.stride_w == 1:
        return ()
    return (f"runs as {len(groups)} residue GEMMs of the stride {conv.stride_h}x{conv.stride_w}",)
