"""Boxes, blocks and chunks of stored tensors: what an access touches is covered, once, and nothing is stored twice."""

from dataclasses import replace
from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.mapping.convolution import lower_convolution
from nmsim.mapping.layout import Layout
from nmsim.mapping.problem import Group, Problem, Tensor, View
from nmsim.mapping.taps import pixels_read, residues
from nmsim.rules import box
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.catalogue import conv_gemms
from nmsim.workload.gemm import ConvGeometry

BYTES = 2
BLOCK_BYTES, INTERLEAVE_BYTES = 256, 64


def reaching(residue: int, kernel: int, stride: int, pad: int, dilation: int) -> list[int]:
    """The taps r for which some output row p has p * stride + r * dilation - pad = an input row of this residue."""
    return [tap for tap in range(kernel) if (residue + pad - tap * dilation) % stride == 0]


def descriptor_of(problem: Problem, view: View) -> list[int]:
    return [int(value) for value in Layout(problem.tensors, BLOCK_BYTES, INTERLEAVE_BYTES).view(view)]


def found_rows(problem: Problem, group: Group, pixel: int, element: int, batch: int) -> tuple[int, int, int, int]:
    """The box of one pixel under one filter element."""
    view = next(view for view in group.operands if view.tensor == "X")
    place = (pixel, pixel + 1, element, element + 1) if view.kind in (box.PIXELS_X, box.ROWS) else (element, element + 1, pixel, pixel + 1)
    return box.operand_box(descriptor_of(problem, view), *place, batch)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), phase=st.sampled_from(["forward", "backward_weight"]))
def test_an_output_pixel_reads_the_input_pixel_under_each_tap(
    data: st.DataObject, phase: str, convolutions: st.SearchStrategy[ConvGeometry]
) -> None:
    whole = data.draw(convolutions)
    problem = lower_convolution(next(gemm for gemm in conv_gemms("conv", whole, "fp16") if gemm.phase == phase), None)
    conv = pixels_read(whole)  # rows are counted over what is stored: a pointwise stride skips the other pixels
    channels = conv.in_channels // conv.groups
    image, p, q = (data.draw(st.integers(0, size - 1)) for size in (conv.batch, conv.out_height, conv.out_width))
    r, s, c = (data.draw(st.integers(0, size - 1)) for size in (conv.kernel_h, conv.kernel_w, channels))
    batch = data.draw(st.integers(0, conv.groups - 1))
    h, w = p * conv.stride_h + r * conv.dilation_h - conv.pad_h, q * conv.stride_w + s * conv.dilation_w - conv.pad_w
    if 0 <= h < conv.height and 0 <= w < conv.width:
        pixel, element = (image * conv.out_height + p) * conv.out_width + q, (r * conv.kernel_w + s) * channels + c
        row, byte = (image * conv.height + h) * conv.width + w, BYTES * (batch * channels + c)
        assert found_rows(problem, problem.groups[0], pixel, element, batch) == (row, row + 1, byte, byte + BYTES)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_an_input_pixel_gets_the_output_pixel_that_reads_it_under_each_tap(
    data: st.DataObject, convolutions: st.SearchStrategy[ConvGeometry]
) -> None:
    """The forward relation h = p * stride + r * dilation - pad, met the other way round."""
    conv = data.draw(convolutions)
    problem = lower_convolution(conv_gemms("conv", conv, "fp16")[1], None)
    filters = conv.out_channels // conv.groups
    image, p, q = (data.draw(st.integers(0, size - 1)) for size in (conv.batch, conv.out_height, conv.out_width))
    o, batch = data.draw(st.integers(0, filters - 1)), data.draw(st.integers(0, conv.groups - 1))
    row, byte = (image * conv.out_height + p) * conv.out_width + q, BYTES * (batch * filters + o)
    classes = {(one.residue_h, one.residue_w): (one, group) for one, group in zip(residues(conv), problem.groups, strict=True)}
    for r, s in product(range(conv.kernel_h), range(conv.kernel_w)):
        h, w = p * conv.stride_h + r * conv.dilation_h - conv.pad_h, q * conv.stride_w + s * conv.dilation_w - conv.pad_w
        if not (0 <= h < conv.height and 0 <= w < conv.width):
            continue
        residue, group = classes[h % conv.stride_h, w % conv.stride_w]
        along_h = reaching(residue.residue_h, conv.kernel_h, conv.stride_h, conv.pad_h, conv.dilation_h)
        along_w = reaching(residue.residue_w, conv.kernel_w, conv.stride_w, conv.pad_w, conv.dilation_w)
        pixel = (image * residue.rows + h // conv.stride_h) * residue.columns + w // conv.stride_w
        element = (along_h.index(r) * len(along_w) + along_w.index(s)) * filters + o
        assert found_rows(problem, group, pixel, element, batch) == (row, row + 1, byte, byte + BYTES)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), phase=st.sampled_from(["forward", "backward_weight"]), pattern=st.sampled_from([None, NMPattern(2, 4)]))
def test_the_products_of_a_convolution_write_each_byte_of_their_output_once(
    data: st.DataObject, phase: str, pattern: NMPattern | None, convolutions: st.SearchStrategy[ConvGeometry]
) -> None:
    gemm = next(gemm for gemm in conv_gemms("conv", data.draw(convolutions), "fp16") if gemm.phase == phase)
    problem = lower_convolution(gemm, pattern)
    stored = {tensor.name: np.zeros((tensor.rows, tensor.pitch_bytes), dtype=np.int64) for tensor in problem.tensors}["D"]
    for group in problem.groups:
        rows, columns = (group.m, group.n) if group.output.dimension == 0 else (group.n, group.m)
        for batch in range(problem.batch):
            row_lo, row_hi, byte_lo, byte_hi = box.operand_box(descriptor_of(problem, group.output), 0, rows, 0, columns, batch)
            stored[row_lo:row_hi, byte_lo:byte_hi] += 1
    assert (stored == 1).all()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_residues_write_each_input_pixel_once_and_miss_only_what_no_tap_reaches(
    data: st.DataObject, convolutions: st.SearchStrategy[ConvGeometry]
) -> None:
    conv = data.draw(convolutions)
    problem = lower_convolution(conv_gemms("conv", conv, "fp16")[1], None)
    written: list[int] = []
    for group in problem.groups:
        descriptor = descriptor_of(problem, group.output)
        for x in range(group.m):
            row_lo, row_hi, byte_lo, byte_hi = box.operand_box(descriptor, x, x + 1, 0, group.n, 0)
            assert (row_hi - row_lo, byte_lo, byte_hi) == (1, 0, BYTES * conv.in_channels // conv.groups)
            written.append(row_lo)
    assert len(written) == len(set(written))
    for row in set(range(conv.batch * conv.height * conv.width)) - set(written):
        h, w = divmod(row % (conv.height * conv.width), conv.width)
        along_h = reaching(h % conv.stride_h, conv.kernel_h, conv.stride_h, conv.pad_h, conv.dilation_h)
        along_w = reaching(w % conv.stride_w, conv.kernel_w, conv.stride_w, conv.pad_w, conv.dilation_w)
        assert not along_h or not along_w


def test_a_compressed_row_is_boxed_by_what_is_stored_of_it() -> None:
    """2:4 of 12 elements of 2 bytes stores 6: elements 4 to 8 are its third and fourth."""
    layout = Layout([Tensor("A", 8, 12)], BLOCK_BYTES, INTERLEAVE_BYTES)
    descriptor = [int(v) for v in layout.view(View("A", box.ROWS, 0, 16, keep=(2, 4), fields={box.ROWS_PER_BATCH: 4}))]
    assert box.operand_box(descriptor, 1, 3, 4, 8, 0) == (1, 3, 4, 8)
    assert box.operand_box(descriptor, 1, 3, 8, 12, 1) == (5, 7, 8, 12)
    assert box.operand_bytes(descriptor, 2, 4) == 2 * 2 * 2


def test_a_gathered_box_is_the_rows_of_its_list_and_no_other() -> None:
    rows = np.array([1, 4, 5, 9], dtype=np.int64)
    layout = Layout([Tensor("X", 10, 64)], BLOCK_BYTES, INTERLEAVE_BYTES, {"X"})
    layout.view(View("X", box.GATHER_K, 0, 16, gather=np.array([7], dtype=np.int64)))
    by_k = [int(v) for v in layout.view(View("X", box.GATHER_K, 0, 16, gather=rows))]
    by_x = [int(v) for v in layout.view(View("X", box.GATHER_X, 1, 16, gather=rows))]
    gather = layout.gather.tolist()
    of_k, of_x = box.operand_box(by_k, 2, 6, 1, 3, 0), box.operand_box(by_x, 0, 4, 8, 16, 0)
    assert (of_k[2:], of_x[2:]) == ((4, 12), (16, 32))
    for descriptor, found, expected in ((by_k, of_k, [4, 5]), (by_x, of_x, [1, 4, 5, 9])):
        first_row, last_row, _, _ = box.block_range(descriptor, gather, found)
        assert [box.block_row(descriptor, gather, row) for row in range(first_row, last_row + 1)] == expected
        assert descriptor[box.ROW_SHIFT] == 0
    assert box.operand_bytes(by_x, 4, 8) == 4 * 8 * BYTES  # the holes travel nowhere


@settings(max_examples=150, deadline=None)
@given(rows=st.integers(1, 70), pitch=st.integers(1, 400))
def test_the_chunks_of_all_blocks_are_the_bytes_of_the_tensor(rows: int, pitch: int) -> None:
    descriptor = [int(v) for v in Layout([Tensor("T", rows, pitch)], BLOCK_BYTES, INTERLEAVE_BYTES).tensor("T")]
    row_blocks = -(-rows >> descriptor[box.ROW_SHIFT])
    stored = np.zeros(rows * pitch, dtype=np.int64)
    for row_block in range(row_blocks):
        for column_block in range(descriptor[box.BLOCK_COLUMNS]):
            address, step, chunks, unit, size = box.block_chunks(descriptor, row_block, column_block, INTERLEAVE_BYTES.bit_length() - 1)
            assert unit <= INTERLEAVE_BYTES
            for chunk in range(chunks):
                nbytes = min(unit, size - chunk * unit)
                assert nbytes > 0
                stored[address + chunk * step : address + chunk * step + nbytes] += 1
    assert (stored == 1).all()


def test_tensors_share_no_block_and_no_address() -> None:
    tensors = [Tensor("A", 33, 100), Tensor("B", 7, 5000), Tensor("C", 1, 1)]
    layout = Layout(tensors, BLOCK_BYTES, INTERLEAVE_BYTES)
    addresses, blocks = 0, 0
    for tensor in tensors:
        descriptor = layout.tensor(tensor.name)
        assert descriptor[box.ADDRESS] >= addresses
        assert descriptor[box.FIRST_BLOCK] == blocks
        addresses = int(descriptor[box.ADDRESS]) + tensor.rows * tensor.pitch_bytes
        blocks += -(-tensor.rows >> int(descriptor[box.ROW_SHIFT])) * int(descriptor[box.BLOCK_COLUMNS])
    assert layout.blocks == blocks


def assert_worked_out_from_its_fixed_side(descriptor: list[int], x: tuple[int, int], k_ranges: list[tuple[int, int]], batch: int) -> int:
    """Walks along K as a CTA does; returns how many boxes shared the side of one before."""
    since, shared = 0, 0
    fixed = (0, 0, 0)
    for index, (k0, k1) in enumerate(k_ranges):
        expected = box.operand_box(descriptor, *x, k0, k1, batch)
        if index and box.shares_side(descriptor, since, k0, k1):
            shared += 1
            assert box.next_box(descriptor, fixed, k0, k1, batch) == expected
        else:
            fixed = box.fixed_side(descriptor, expected, k0)
            since = fixed[2]
    return shared


@settings(max_examples=200, deadline=None)
@given(data=st.data(), kind=st.sampled_from([box.ROWS, box.COLUMNS]))
def test_a_box_worked_out_from_its_fixed_side_is_the_box(data: st.DataObject, kind: int) -> None:
    fields = {name: data.draw(st.integers(0, 40)) for name in (box.ROWS_PER_BATCH, box.BYTES_PER_BATCH, box.ROW_OFFSET, box.BYTE_OFFSET)}
    keep = data.draw(st.sampled_from([(1, 1), (2, 4), (1, 2)])) if kind == box.ROWS else (1, 1)
    bits = data.draw(st.sampled_from([2, 4, 8, 16, 32]))
    view = View("T", kind, 0, bits, keep, fields)
    layout = Layout((Tensor("T", 2000, 512),), BLOCK_BYTES, INTERLEAVE_BYTES)
    descriptor = [int(value) for value in layout.view(view)]
    ranges = [(low, high + 1) for low, high in (sorted((data.draw(st.integers(0, 47)), data.draw(st.integers(0, 47)))) for _ in range(3))]
    assert assert_worked_out_from_its_fixed_side(descriptor, ranges[0], ranges[1:], data.draw(st.integers(0, 3))) == 1


@settings(max_examples=100, deadline=None)
@given(data=st.data(), phase=st.integers(0, 2), step=st.integers(1, 9))
def test_the_pixels_under_a_tap_are_worked_out_once(
    data: st.DataObject, phase: int, step: int, convolutions: st.SearchStrategy[ConvGeometry]
) -> None:
    """A CTA that walks along K in k-tiles of any length, each of which may span taps."""
    problem = lower_convolution(conv_gemms("conv", data.draw(convolutions), "fp16")[phase], None)
    for group in problem.groups:
        view = next(view for view in group.operands if view.tensor == "X")
        x_length = group.m if view.dimension == 0 else group.n
        x0 = data.draw(st.integers(0, x_length - 1))
        ranges = [(k0, min(group.k, k0 + step)) for k0 in range(0, group.k, step)]
        descriptor, batch = descriptor_of(problem, view), data.draw(st.integers(0, problem.batch - 1))
        shared = assert_worked_out_from_its_fixed_side(descriptor, (x0, min(x_length, x0 + 4)), ranges, batch)
        if view.kind == box.PIXELS_X:
            inside = [k0 // descriptor[box.CHANNELS] == (k1 - 1) // descriptor[box.CHANNELS] for k0, k1 in ranges]
            taps = [k0 // descriptor[box.CHANNELS] for k0, _ in ranges]
            assert shared == sum(inside[i] and taps[i] == taps[i - 1] for i in range(1, len(ranges)))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), phase=st.integers(0, 2), whole=st.booleans())
def test_a_plain_view_of_pixels_has_the_boxes_of_the_pixels_under_its_one_tap(
    data: st.DataObject, phase: int, whole: bool, convolutions: st.SearchStrategy[ConvGeometry]
) -> None:
    drawn = data.draw(convolutions)
    conv = replace(drawn, kernel_h=1, kernel_w=1, pad_h=0, pad_w=0, stride_h=1, stride_w=1) if whole else drawn
    problem = lower_convolution(conv_gemms("conv", conv, "fp16")[phase], None)
    for group in problem.groups:
        for view in (*group.operands, group.output):
            if box.OUT_W not in view.fields:
                continue
            assert not (whole and view.kind in (box.PIXELS_X, box.PIXELS_K))
            if view.kind in (box.ROWS, box.COLUMNS):
                pixels = descriptor_of(problem, replace(view, kind=box.PIXELS_X if view.kind == box.ROWS else box.PIXELS_K))
                x_length = group.m if view.dimension == 0 else group.n
                other = group.k if view in group.operands else group.n if view.dimension == 0 else group.m
                (x0, x1), (k0, k1) = (
                    sorted((data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1)))) for n in (x_length, other)
                )
                place = (x0, x1 + 1, k0, k1 + 1, data.draw(st.integers(0, problem.batch - 1)))
                assert box.operand_box(descriptor_of(problem, view), *place) == box.operand_box(pixels, *place)
