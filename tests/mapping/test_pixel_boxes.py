"""The box of a convolution's k-tile against loops over the pixels that its taps really read."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.mapping.convolution import lower_convolution
from nmsim.mapping.layout import Layout
from nmsim.mapping.problem import Group, Problem, View
from nmsim.mapping.taps import Residue, pixels_read, residues
from nmsim.rules import box
from nmsim.workload.catalogue import conv_gemms
from nmsim.workload.gemm import ConvGeometry, Gemm

BYTES = 2
BLOCK_BYTES, INTERLEAVE_BYTES = 256, 64
Ranges = tuple[int, int, int, int]
Touched = set[tuple[int, int]]
"""(row of the stored tensor, first byte of an element in it)."""
ImageRows = set[int]
"""Rows of the images, end to end, that a tile looks at; those in the padding lie outside their image.

Of a tile that goes on into another image, also the last row of the one and the first of the other.
"""


def output_pixel(pixel: int, conv: ConvGeometry) -> tuple[int, int, int]:
    image, rest = divmod(pixel, conv.out_height * conv.out_width)
    return image, *divmod(rest, conv.out_width)


def read_by_filter(whole: ConvGeometry, pixels: range, elements: range, group: int) -> tuple[Touched, ImageRows]:
    """X at output pixels x filter elements (r, s, c), c fastest, of one convolution group."""
    conv = pixels_read(whole)  # rows are counted over the pixels that are stored: a pointwise stride skips the others
    channels, touched = conv.in_channels // conv.groups, set()
    rows = where_images_meet([output_pixel(pixel, conv)[0] for pixel in pixels], conv.height)
    for pixel in pixels:
        image, p, q = output_pixel(pixel, conv)
        for element in elements:
            tap, channel = divmod(element, channels)
            r, s = divmod(tap, conv.kernel_w)
            h = p * conv.stride_h + r * conv.dilation_h - conv.pad_h
            w = q * conv.stride_w + s * conv.dilation_w - conv.pad_w
            rows.add(image * conv.height + h)
            if 0 <= h < conv.height and 0 <= w < conv.width:
                row = (image * conv.height + h) * conv.width + w
                touched.add((row, BYTES * (group * channels + channel)))
    return touched, rows


def where_images_meet(images: list[int], height: int) -> ImageRows:
    first, last = min(images), max(images)
    return {image * height for image in range(first + 1, last + 1)} | {image * height - 1 for image in range(first + 1, last + 1)}


def input_pixels_of(conv: ConvGeometry, residue: Residue) -> list[tuple[int, int, int]]:
    """(image, h, w) of one residue class, image by image and row by row."""
    rows = range(residue.residue_h, conv.height, conv.stride_h)
    columns = range(residue.residue_w, conv.width, conv.stride_w)
    return [(image, h, w) for image in range(conv.batch) for h in rows for w in columns]


def reaching(residue: int, kernel: int, stride: int, pad: int, dilation: int) -> list[int]:
    """The taps r for which some output row p has p * stride + r * dilation - pad = an input row of this residue."""
    return [tap for tap in range(kernel) if (residue + pad - tap * dilation) % stride == 0]


def read_backwards(conv: ConvGeometry, residue: Residue, pixels: range, elements: range, group: int) -> tuple[Touched, ImageRows]:
    """dY at input pixels of a residue x its (r, s, o), o fastest."""
    filters, touched = conv.out_channels // conv.groups, set()
    along_h = reaching(residue.residue_h, conv.kernel_h, conv.stride_h, conv.pad_h, conv.dilation_h)
    along_w = reaching(residue.residue_w, conv.kernel_w, conv.stride_w, conv.pad_w, conv.dilation_w)
    places = input_pixels_of(conv, residue)
    rows = where_images_meet([places[pixel][0] for pixel in pixels], conv.out_height)
    for pixel in pixels:
        image, h, w = places[pixel]
        for element in elements:
            tap, channel = divmod(element, filters)
            r, s = along_h[tap // len(along_w)], along_w[tap % len(along_w)]
            p, q = (h + conv.pad_h - r * conv.dilation_h) // conv.stride_h, (w + conv.pad_w - s * conv.dilation_w) // conv.stride_w
            rows.add(image * conv.out_height + p)
            if 0 <= p < conv.out_height and 0 <= q < conv.out_width:
                row = (image * conv.out_height + p) * conv.out_width + q
                touched.add((row, BYTES * (group * filters + channel)))
    return touched, rows


def descriptor_of(problem: Problem, view: View) -> list[int]:
    layout = Layout(problem.tensors, BLOCK_BYTES, INTERLEAVE_BYTES)
    return [int(value) for value in layout.view(view)]


def tiles(group: Group, batch: int, tile: tuple[int, int], dimension: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(x0, x1, k0, k1, batch element) of every k-tile of an operand."""
    length = group.m if dimension == 0 else group.n
    for element in range(batch):
        for x0 in range(0, length, tile[0]):
            for k0 in range(0, group.k, tile[1]):
                yield x0, min(x0 + tile[0], length), k0, min(k0 + tile[1], group.k), element


def outside(touched: Touched, found: Ranges) -> Touched:
    row_lo, row_hi, byte_lo, byte_hi = found
    return {(row, byte) for row, byte in touched if not (row_lo <= row < row_hi and byte_lo <= byte and byte + BYTES <= byte_hi)}


def spilled(touched: Touched, found: Ranges, descriptor: list[int]) -> Touched:
    """Elements whose L2 block the box does not cover."""
    first_row, last_row, first_column, last_column = box.block_range(descriptor, [0], found)
    return {
        (row, byte)
        for row, byte in touched
        if not (
            first_row <= row >> descriptor[box.ROW_SHIFT] <= last_row
            and first_column <= byte >> descriptor[box.WIDTH_SHIFT]
            and (byte + BYTES - 1) >> descriptor[box.WIDTH_SHIFT] <= last_column
        )
    }


def gemm_of(conv: ConvGeometry, phase: str) -> Gemm:
    return next(gemm for gemm in conv_gemms("conv", conv, "fp16") if gemm.phase == phase)


def pixel_operand(group: Group) -> View:
    return next(view for view in group.operands if view.tensor == "X")


def assert_close_around(rows: ImageRows, found: Ranges, width: int, channels: int) -> None:
    """A box is no larger than the image rows from the first to the last that the tile looks at, all channels wide.

    That is the stated looseness: pixels that a stride skips, and those beside the tile in its first and last image row.
    """
    assert 1 <= found[1] - found[0] <= (max(rows) - min(rows) + 1) * width
    assert found[3] - found[2] <= channels * BYTES


@pytest.mark.parametrize("phase", ["forward", "backward_weight"])
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_box_holds_every_input_element_under_the_filter(
    phase: str, data: st.DataObject, convolutions: st.SearchStrategy[ConvGeometry]
) -> None:
    conv = data.draw(convolutions)
    tile = data.draw(st.tuples(st.integers(1, 24), st.integers(1, 24)))
    problem = lower_convolution(gemm_of(conv, phase), None)
    (group,) = problem.groups
    view = pixel_operand(group)
    descriptor = descriptor_of(problem, view)
    for x0, x1, k0, k1, element in tiles(group, problem.batch, tile, view.dimension):
        pixels, elements = (range(x0, x1), range(k0, k1)) if phase == "forward" else (range(k0, k1), range(x0, x1))
        touched, rows = read_by_filter(conv, pixels, elements, element)
        found = box.operand_box(descriptor, x0, x1, k0, k1, element)
        assert not outside(touched, found)
        assert not spilled(touched, found, descriptor)
        assert_close_around(rows, found, pixels_read(conv).width, conv.in_channels // conv.groups)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_box_holds_every_gradient_that_an_input_pixel_gets(data: st.DataObject, convolutions: st.SearchStrategy[ConvGeometry]) -> None:
    conv = data.draw(convolutions)
    tile = data.draw(st.tuples(st.integers(1, 24), st.integers(1, 24)))
    problem = lower_convolution(gemm_of(conv, "backward_data"), None)
    for residue, group in zip(residues(conv), problem.groups, strict=True):
        view = pixel_operand(group)
        descriptor = descriptor_of(problem, view)
        for x0, x1, k0, k1, element in tiles(group, problem.batch, tile, view.dimension):
            touched, rows = read_backwards(conv, residue, range(x0, x1), range(k0, k1), element)
            found = box.operand_box(descriptor, x0, x1, k0, k1, element)
            assert not outside(touched, found)
            assert not spilled(touched, found, descriptor)
            assert_close_around(rows, found, conv.out_width, conv.out_channels // conv.groups)
