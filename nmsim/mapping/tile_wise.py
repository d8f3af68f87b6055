"""Tile-wise sparsity as gathered dense tiles on unmodified tensor cores (Guo et al., SC20).

A tile keeps n_j output columns and k_j reduction rows of W[K, N]. Each tile is a group of one launch (equal CTAs batched,
as the authors batch equal tiles): `forward` multiplies X with the tile's k_j gathered rows, `backward_data` reuses the tile with
n_j as the reduction and adds to the rows it keeps, `backward_weight` computes only the kept sub-block.

Modelled: kept sizes of every tile, load imbalance, gathered look-ups. Tiles that share rows of dX add to it by reductions (as
red.global.add does: the L2 adds, so that none is lost and their order is that of arrival); each costs the read and the write of
what it adds to. dX is zeroed before, by a pass of its own in a step (`nmsim.run.step`).
Not modelled: rounding that depends on the order of the additions; reading the lists of kept rows. Activations are taken as kept
transposed by their producer (so that a gathered row is contiguous), outputs as packed; a convolution's kept (r, s, c) rows as spread
evenly over its taps, in backward_data rounded up to whole channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nmsim.mapping.lower import row_bytes
from nmsim.mapping.problem import Group, Problem, Tensor, View
from nmsim.mapping.taps import gradient_under_taps, input_pixels, input_under_taps, pixel_kind, pixels_read, residues
from nmsim.rules import box
from nmsim.sparsity.encoding import GroupCode
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import element_bits
from nmsim.workload.gemm import ConvGeometry, Gemm
from nmsim.workload.trace import TileWisePlan


def lower_tile_wise(gemm: Gemm, plan: TileWisePlan) -> Problem:
    """The GEMM of a layer pruned tile-wise; dense-equivalent MACs stay those of the whole GEMM."""
    if gemm.conv is not None:
        tensors, groups = _convolution(gemm, gemm.conv, plan)
    elif gemm.phase == "forward":
        tensors, groups = _forward(gemm, plan)
    elif gemm.phase == "backward_data":
        tensors, groups = _backward_data(gemm, plan)
    else:
        tensors, groups = _backward_weight(gemm, plan)
    return Problem(gemm.id, gemm.dtype, None, tuple(tensors), tuple(groups), 1, gemm.macs)


def lower_tile_vector_wise(gemm: Gemm, plan: TileWisePlan, native: NMPattern, code: GroupCode) -> Problem:
    """TVW (Guo et al., arXiv 2402.10876): the tiles of a linear `forward` product, N:M along their kept rows, as compressed operand A.

    ValueError for another product: in those the reduction does not run along the kept rows of W.
    """
    if gemm.phase != "forward" or gemm.conv is not None:
        raise ValueError("only a linear forward product has N:M tiles along its reduction")
    bits, out_bits = element_bits(gemm.dtype), element_bits(gemm.out_dtype)
    tokens, kept, keep_codes = gemm.m, int(plan.columns.sum()), (code.per_group, native.m)
    tensors = [Tensor("X", gemm.k, row_bytes(tokens, bits)), Tensor("D", tokens, row_bytes(kept, out_bits))]
    groups = []
    for index, (width, rows) in enumerate(tiles_of(plan)):
        values = Tensor(f"W{index}", width, row_bytes(native.compressed_k(len(rows)), bits))
        metadata = Tensor(f"E{index}", width, row_bytes(-(-len(rows) // native.m) * code.per_group, code.bits))
        tensors += [values, metadata]
        view_w = View(values.name, box.ROWS, 0, bits, (native.n, native.m))
        view_e = View(metadata.name, box.ROWS, 0, code.bits, keep_codes)
        view_x = View("X", box.GATHER_K, 1, bits, gather=rows)
        view_d = View("D", box.ROWS, 1, out_bits, fields={box.BYTE_OFFSET: row_bytes(index * plan.tile_width, out_bits)})
        groups.append(Group(width, tokens, len(rows), (view_w, view_x, view_e), view_d))
    return Problem(gemm.id, gemm.dtype, native, tuple(tensors), tuple(groups), 1, gemm.macs, code=code)


def even_plan(k: int, n: int, tile_width: int, keep_n: int, keep_k: int) -> TileWisePlan:
    """A plan for a weight W[k, n] that keeps `keep_n` columns and, in every tile of them, `keep_k` rows, evenly spread and staggered."""
    tiles = -(-keep_n // tile_width)
    columns, rows = np.zeros(n, dtype=np.bool_), np.zeros((tiles, k), dtype=np.bool_)
    columns[np.arange(keep_n) * n // keep_n] = True
    for tile in range(tiles):
        rows[tile, (np.arange(keep_k) * k // keep_k + tile) % k] = True
    return TileWisePlan(tile_width, columns, rows)


def thinned(plan: TileWisePlan, share: float) -> TileWisePlan:
    """The plan with `share` of each tile's kept rows, evenly spread among them, and at least one: to the nearest row."""
    rows = np.zeros_like(plan.rows)
    for tile, kept in enumerate(map(np.flatnonzero, plan.rows)):
        count = max(1, round(share * len(kept))) if len(kept) else 0
        rows[tile, kept[np.arange(count) * len(kept) // max(1, count)]] = True
    return TileWisePlan(plan.tile_width, plan.columns, rows)


def tiles_of(plan: TileWisePlan) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """(kept columns n_j, indices of the kept rows) of each tile that keeps anything."""
    kept = int(plan.columns.sum())
    for tile, rows in enumerate(plan.rows):
        width = min(plan.tile_width, kept - tile * plan.tile_width)
        indices = np.flatnonzero(rows).astype(np.int64)
        if width > 0 and len(indices):
            yield width, indices


def _forward(gemm: Gemm, plan: TileWisePlan) -> tuple[list[Tensor], list[Group]]:
    bits, out_bits = element_bits(gemm.dtype), element_bits(gemm.out_dtype)
    tokens, kept = gemm.m, int(plan.columns.sum())
    tensors = [Tensor("X", gemm.k, row_bytes(tokens, bits)), Tensor("D", tokens, row_bytes(kept, out_bits))]
    groups = []
    for index, (width, rows) in enumerate(tiles_of(plan)):
        weight = Tensor(f"W{index}", width, row_bytes(len(rows), bits))
        tensors.append(weight)
        view_x = View("X", box.GATHER_K, 0, bits, gather=rows)
        view_w = View(weight.name, box.ROWS, 1, bits)
        view_d = View("D", box.ROWS, 0, out_bits, fields={box.BYTE_OFFSET: row_bytes(index * plan.tile_width, out_bits)})
        groups.append(Group(tokens, width, len(rows), (view_x, view_w), view_d))
    return tensors, groups


def _backward_data(gemm: Gemm, plan: TileWisePlan) -> tuple[list[Tensor], list[Group]]:
    bits, out_bits = element_bits(gemm.dtype), element_bits(gemm.out_dtype)
    tokens, kept = gemm.m, int(plan.columns.sum())
    shared = sum(1 for _ in tiles_of(plan)) > 1
    tensors = [Tensor("dY", tokens, row_bytes(kept, bits)), Tensor("D", gemm.n, row_bytes(tokens, out_bits))]
    groups = []
    for index, (width, rows) in enumerate(tiles_of(plan)):
        weight = Tensor(f"W{index}", width, row_bytes(len(rows), bits))
        tensors.append(weight)
        view_dy = View("dY", box.ROWS, 0, bits, fields={box.BYTE_OFFSET: row_bytes(index * plan.tile_width, bits)})
        view_w = View(weight.name, box.COLUMNS, 1, bits)
        view_d = View("D", box.GATHER_X, 1, out_bits, gather=rows)
        groups.append(Group(tokens, len(rows), width, (view_dy, view_w), view_d, accumulate=shared))
    return tensors, groups


def _backward_weight(gemm: Gemm, plan: TileWisePlan) -> tuple[list[Tensor], list[Group]]:
    bits, out_bits = element_bits(gemm.dtype), element_bits(gemm.out_dtype)
    tokens, kept = gemm.k, int(plan.columns.sum())
    tensors = [Tensor("dY", tokens, row_bytes(kept, bits)), Tensor("X", gemm.n, row_bytes(tokens, bits))]
    groups = []
    for index, (width, rows) in enumerate(tiles_of(plan)):
        gradient = Tensor(f"D{index}", width, row_bytes(len(rows), out_bits))
        tensors.append(gradient)
        view_dy = View("dY", box.COLUMNS, 0, bits, fields={box.BYTE_OFFSET: row_bytes(index * plan.tile_width, bits)})
        view_x = View("X", box.GATHER_X, 1, bits, gather=rows)
        groups.append(Group(width, len(rows), tokens, (view_dy, view_x), View(gradient.name, box.ROWS, 0, out_bits)))
    return tensors, groups


def _convolution(gemm: Gemm, whole: ConvGeometry, plan: TileWisePlan) -> tuple[list[Tensor], list[Group]]:
    conv = whole if gemm.phase == "backward_data" else pixels_read(whole)
    bits, out_bits = element_bits(gemm.dtype), element_bits(gemm.out_dtype)
    taps = conv.kernel_h * conv.kernel_w
    pixels_in, pixels_out = conv.batch * conv.height * conv.width, conv.batch * conv.out_height * conv.out_width
    kept = int(plan.columns.sum())
    source = Tensor("X", pixels_in, row_bytes(conv.in_channels, bits))
    gradient = Tensor("dY", pixels_out, row_bytes(kept, bits))
    tensors: list[Tensor] = {
        "forward": [source, Tensor("D", pixels_out, row_bytes(kept, out_bits))],
        "backward_data": [gradient, Tensor("D", pixels_in, row_bytes(conv.in_channels, out_bits))],
        "backward_weight": [gradient, source],
    }[gemm.phase]
    groups: list[Group] = []
    shared = sum(1 for _ in tiles_of(plan)) > 1
    for index, (width, rows) in enumerate(tiles_of(plan)):
        channels, offset = -(-len(rows) // taps), index * plan.tile_width
        under_taps = input_under_taps(conv, channels, bits)
        if gemm.phase == "forward":
            weight = Tensor(f"W{index}", width, row_bytes(len(rows), bits))
            view_x = View("X", pixel_kind(box.PIXELS_X, under_taps, taps), 0, bits, fields=under_taps)
            view_d = View("D", box.ROWS, 0, out_bits, fields={box.BYTE_OFFSET: row_bytes(offset, out_bits)})
            tensors.append(weight)
            groups.append(Group(pixels_out, width, len(rows), (view_x, View(weight.name, box.ROWS, 1, bits)), view_d))
        elif gemm.phase == "backward_data":
            of_tile = residue_products(gemm, conv, index, width, channels, (row_bytes(offset, bits), 0), shared=shared)
            tensors += [weight for weight, _ in of_tile]
            groups += [group for _, group in of_tile]
        else:
            weight = Tensor(f"D{index}", width, row_bytes(len(rows), out_bits))
            view_dy = View("dY", box.COLUMNS, 0, bits, fields={box.BYTE_OFFSET: row_bytes(offset, bits)})
            view_x = View("X", pixel_kind(box.PIXELS_K, under_taps, taps), 1, bits, fields=under_taps)
            tensors.append(weight)
            groups.append(Group(width, len(rows), pixels_out, (view_dy, view_x), View(weight.name, box.ROWS, 0, out_bits)))
    return tensors, groups


def residue_products(
    gemm: Gemm, conv: ConvGeometry, tile: int, width: int, channels: int, byte_offsets: tuple[int, int], *, shared: bool
) -> list[tuple[Tensor, Group]]:
    """One tile's weight and product for each residue of the stride: `width` columns of dY under its taps, into `channels` of dX.

    `byte_offsets` are where the tile's part begins in a pixel of dY and in one of dX; `shared`: other tiles add to the same channels.
    """
    bits, out_bits = element_bits(gemm.dtype), element_bits(gemm.out_dtype)
    found: list[tuple[Tensor, Group]] = []
    for residue in residues(conv):
        k = residue.taps * width
        weight = Tensor(f"W{tile}.{len(found)}", channels, row_bytes(k, bits))
        fields = gradient_under_taps(conv, residue, width, bits) | {box.BYTE_OFFSET: byte_offsets[0]}
        view_dy = View("dY", pixel_kind(box.PIXELS_X, fields, residue.taps), 0, bits, fields=fields)
        operands = (view_dy, View(weight.name, box.ROWS, 1, bits))
        written = input_pixels(conv, residue, channels, out_bits) | {box.BYTE_OFFSET: byte_offsets[1]}
        view_d = View("D", pixel_kind(box.PIXELS_X, written), 0, out_bits, fields=written)
        pixels = conv.batch * residue.rows * residue.columns
        found.append((weight, Group(pixels, channels, k, operands, view_d, accumulate=shared)))
    return found
