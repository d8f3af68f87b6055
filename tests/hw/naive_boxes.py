"""Which bytes of a stored tensor a tile touches, for the time-stepped chip. Imports nothing of nmsim.

A descriptor is a mapping of names to integers; a box is (rows, first byte, last byte + 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

Descriptor = Mapping[str, int]
Box = tuple[Sequence[int], int, int]
ROWS, COLUMNS, PIXELS_X, PIXELS_K, GATHER_K, GATHER_X = range(6)


def kept(t: Descriptor, elements: int) -> int:
    """Elements stored of the first `elements` of a row: up to keep_n of each group of keep_m."""
    return sum(1 for index in range(elements) if index % t["keep_m"] < t["keep_n"])


def to_bytes(bits: int) -> int:
    return -(-bits // 8)


def bytes_of(t: Descriptor, x_length: int, k_length: int) -> int:
    """Bytes of an operand tile that travel: each compressed row by itself, a dense tile as a whole."""
    if t["keep_m"] > 1:
        return x_length * to_bytes(kept(t, k_length) * t["bits"])
    return to_bytes(x_length * k_length * t["bits"])


def box_of(t: Descriptor, gather: list[int], x0: int, x1: int, k0: int, k1: int, batch: int) -> Box:
    """Box that x in [x0, x1) and k in [k0, k1) touch in one element of the batch; never empty."""
    rows, elements = _ranges(t, gather, (x0, x1), (k0, k1))
    if t["kind"] == ROWS and t["keep_m"] > 1:
        first, last = to_bytes(kept(t, k0) * t["bits"]), to_bytes(kept(t, k1) * t["bits"])
    elif t["kind"] == ROWS:
        first, last = to_bytes(k0 * t["bits"]), to_bytes(k1 * t["bits"])
    else:
        first, last = elements[0] * t["bits"] // 8, to_bytes(elements[1] * t["bits"])
    row_shift = batch * t["rows_per_batch"] + t["row_offset"]
    byte_shift = batch * t["bytes_per_batch"] + t["byte_offset"]
    return [row + row_shift for row in rows], first + byte_shift, max(last, first + 1) + byte_shift


Range = tuple[int, int]


def _ranges(t: Descriptor, gather: list[int], x: Range, k: Range) -> tuple[Sequence[int], Range]:
    """Rows of the stored tensor, and elements along its rows."""
    kind = t["kind"]
    if kind in (PIXELS_X, PIXELS_K):
        pixels, channels = _pixels(t, *((x, k) if kind == PIXELS_X else (k, x)))
        return range(*pixels), channels
    if kind == COLUMNS:
        return range(*k), x
    if kind == ROWS:
        return range(*x), k
    by, along = (k, x) if kind == GATHER_K else (x, k)
    return gather[t["gather_start"] + by[0] : t["gather_start"] + by[1]], along


def _pixels(t: Descriptor, pixels: Range, columns: Range) -> tuple[Range, Range]:
    """Stored pixels from the leftmost that the first image row gives to the rightmost of the last; at least the nearest one."""
    taps = sorted({columns[0] // t["channels"], (columns[1] - 1) // t["channels"]})
    down = {tap // t["taps_w"] for tap in taps}
    across = {tap % t["taps_w"] for tap in taps} if len(down) == 1 else {0, t["taps_w"] - 1}
    low = min(_edge(t, pixels[0], tap, 0) for tap in product(down, across))
    high = max(_edge(t, pixels[1] - 1, tap, 1) for tap in product(down, across))
    if high <= low:
        low = min(low, t["row_count"] - 1)
        high = low + 1
    if len(taps) > 1:
        return (low, high), (0, t["channels"])
    return (low, high), (columns[0] % t["channels"], (columns[1] - 1) % t["channels"] + 1)


def _edge(t: Descriptor, pixel: int, tap: tuple[int, int], after: int) -> int:
    """The input pixel that an output pixel reads under a tap, or `after` that one, moved into its row and its image."""
    image, place = divmod(pixel, t["out_pixels"])
    out_h, out_w = divmod(place, t["out_w"])
    in_h = out_h * t["stride_h"] - t["pad_h"] + tap[0] * t["dilation_h"]
    in_w = out_w * t["stride_w"] - t["pad_w"] + tap[1] * t["dilation_w"]
    in_row = min(max(in_w + after, 0), t["in_w"])
    return image * t["in_pixels"] + min(max(in_h * t["in_w"] + in_row, 0), t["in_pixels"])


@dataclass(frozen=True)
class BlockPart:
    """An L2 block: its number, its place in the tensor, and where its pieces lie in memory."""

    block: int
    row: int
    column: int
    pieces: list[tuple[int, int]]


def blocks_of(t: Descriptor, box: Box, nbytes: int, interleave_shift: int) -> Iterator[tuple[BlockPart, int]]:
    """The blocks a box covers, row by row, each with its share of the bytes: even, the first ones a byte more."""
    height, width = 2 ** t["row_shift"], 2 ** t["width_shift"]
    covered = [row // height for row in box[0] if row < t["row_count"]]
    rows = range(covered[0], covered[-1] + 1) if t["row_shift"] else covered
    columns = range(box[1] // width, min((box[2] - 1) // width, t["block_columns"] - 1) + 1)
    count = len(rows) * len(columns)
    for place, (row, column) in enumerate(product(rows, columns)):
        share = nbytes // count + (place < nbytes % count)
        yield BlockPart(t["first_block"] + row * t["block_columns"] + column, row, column, _pieces(t, row, column, interleave_shift)), share


def _pieces(t: Descriptor, row: int, column: int, interleave_shift: int) -> list[tuple[int, int]]:
    """(address, bytes): a piece a row where several rows are wider than an interleave, else end to end, cut into interleaves."""
    interleave, pitch = 2**interleave_shift, t["pitch"]
    first_row = row * 2 ** t["row_shift"]
    rows = range(first_row, min(first_row + 2 ** t["row_shift"], t["row_count"]))
    offset = column * 2 ** t["width_shift"]
    length = min(2 ** t["width_shift"], pitch - offset)
    if pitch > interleave and t["row_shift"] > 0:
        return [(t["address"] + r * pitch + offset, length) for r in rows]
    start, size = t["address"] + first_row * pitch + offset, len(rows) * length
    return [(start + done, min(interleave, size - done)) for done in range(0, size, interleave)]
