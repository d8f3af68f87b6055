"""Which bytes of a stored tensor one k-tile of an operand touches, as a box of rows x bytes, and the L2 blocks it covers.

A tensor is described by a row of integers (the `Field` indices below), the same for every kernel, so that kernels with
other tiles hit the same blocks and the taps of a convolution hit the same input bytes. An operand tile is the product
of two index ranges: `x` (rows m or n of the GEMM) and `k` (its reduction); for an output, `x` and `k` are its two sides.

Modelled: both storage orders, compressed rows, convolution taps (with stride, dilation, padding), gathered rows, those of an operand
each looked up by itself.
Not modelled: holes inside a box (the skipped pixels of a stride, the rows of an output that a tile does not add to): a box is looked up
whole, while the bytes that travel to the SM are the useful ones.
"""

from __future__ import annotations

from nmsim.rules.jit import rule

ROWS, COLUMNS, PIXELS_X, PIXELS_K, GATHER_K, GATHER_X = 0, 1, 2, 3, 4, 5
"""Kinds: rows follow x and bytes follow k; the reverse; rows are input pixels of output pixels x under the taps of k;
rows are input pixels of output pixels k under the taps of x; rows are gather[k]; rows are gather[x]."""

(KIND, FIRST_BLOCK, ADDRESS, ROW_COUNT, PITCH, ROW_SHIFT, WIDTH_SHIFT, BLOCK_COLUMNS) = range(8)
(BITS, KEEP_N, KEEP_M, ROWS_PER_BATCH, BYTES_PER_BATCH, ROW_OFFSET, BYTE_OFFSET, GATHER_START) = range(8, 16)
(CHANNELS, TAPS_W, OUT_W, OUT_PIXELS, IN_W, IN_PIXELS, STRIDE_H, STRIDE_W) = range(16, 24)
(PAD_H, PAD_W, DILATION_H, DILATION_W, TENSOR, DIMENSION, SHARED_BY) = range(24, 31)
FIELDS = 31
"""Length of a descriptor. A block is 2**ROW_SHIFT rows of 2**WIDTH_SHIFT bytes (or of the whole pitch, where that is less): one row
where an operand's rows are gathered, so that none is fetched for its neighbour's sake."""


@rule
def stored_bytes(elements: int, bits: int, keep_n: int, keep_m: int) -> int:
    """Bytes of the first `elements` of a row of which keep_n of every keep_m are stored, rounded up to a byte."""
    if keep_m == 1:
        return (elements * bits + 7) >> 3
    kept = elements // keep_m * keep_n + min(elements % keep_m, keep_n)
    return (kept * bits + 7) >> 3


@rule
def pixel_box(p0: int, p1: int, c0: int, c1: int, t) -> tuple[int, int, int, int]:  # type: ignore[no-untyped-def]  # t: an int64 row or a list
    """Box of output pixels [p0, p1) under the filter elements [c0, c1), counted tap by tap with the channel fastest.

    From the first image row that the first output row reads to the last that the last one reads; where such a row lies
    inside the image, from the first pixel read of it and to the last. Padding is not stored, so what lies in it is clipped.
    """
    first_tap, last_tap = c0 // t[CHANNELS], (c1 - 1) // t[CHANNELS]
    first_h, last_h = first_tap // t[TAPS_W] * t[DILATION_H], last_tap // t[TAPS_W] * t[DILATION_H]
    first_w, last_w = first_tap % t[TAPS_W] * t[DILATION_W], last_tap % t[TAPS_W] * t[DILATION_W]
    if first_h != last_h:
        first_w, last_w = 0, (t[TAPS_W] - 1) * t[DILATION_W]
    first_image, last_image = p0 // t[OUT_PIXELS], (p1 - 1) // t[OUT_PIXELS]
    first, last = p0 % t[OUT_PIXELS], (p1 - 1) % t[OUT_PIXELS]
    top = first // t[OUT_W] * t[STRIDE_H] + min(first_h, last_h) - t[PAD_H]
    bottom = last // t[OUT_W] * t[STRIDE_H] + max(first_h, last_h) - t[PAD_H]
    left = first % t[OUT_W] * t[STRIDE_W] + min(first_w, last_w) - t[PAD_W]
    right = last % t[OUT_W] * t[STRIDE_W] + max(first_w, last_w) - t[PAD_W]
    start = top * t[IN_W] + min(max(left, 0), t[IN_W])
    stop = bottom * t[IN_W] + min(max(right + 1, 0), t[IN_W])
    row_lo = first_image * t[IN_PIXELS] + min(max(start, 0), t[IN_PIXELS])
    row_hi = last_image * t[IN_PIXELS] + min(max(stop, 0), t[IN_PIXELS])
    if row_hi <= row_lo:  # the whole tile lies in the padding: it still looks at the nearest row
        row_lo = min(row_lo, t[ROW_COUNT] - 1)
        row_hi = row_lo + 1
    if first_tap == last_tap:
        lo, hi = c0 % t[CHANNELS], (c1 - 1) % t[CHANNELS] + 1
    else:
        lo, hi = 0, t[CHANNELS]
    return row_lo, row_hi, lo * t[BITS] >> 3, (hi * t[BITS] + 7) >> 3


@rule
def operand_box(t, x0: int, x1: int, k0: int, k1: int, batch: int) -> tuple[int, int, int, int]:  # type: ignore[no-untyped-def]
    """(row_lo, row_hi, byte_lo, byte_hi) of tensor `t` that x in [x0, x1) and k in [k0, k1) touch in batch element `batch`.

    Where rows are gathered, row_lo and row_hi are places in the gather list: `block_row` names the rows.
    """
    kind = t[KIND]
    if kind == ROWS:
        row_lo, row_hi = x0, x1
        byte_lo = stored_bytes(k0, t[BITS], t[KEEP_N], t[KEEP_M])
        byte_hi = stored_bytes(k1, t[BITS], t[KEEP_N], t[KEEP_M])
    elif kind == COLUMNS:
        row_lo, row_hi = k0, k1
        byte_lo, byte_hi = x0 * t[BITS] >> 3, (x1 * t[BITS] + 7) >> 3
    elif kind == PIXELS_X:
        row_lo, row_hi, byte_lo, byte_hi = pixel_box(x0, x1, k0, k1, t)
    elif kind == PIXELS_K:
        row_lo, row_hi, byte_lo, byte_hi = pixel_box(k0, k1, x0, x1, t)
    elif kind == GATHER_K:
        row_lo, row_hi = t[GATHER_START] + k0, t[GATHER_START] + k1
        byte_lo, byte_hi = x0 * t[BITS] >> 3, (x1 * t[BITS] + 7) >> 3
    else:
        row_lo, row_hi = t[GATHER_START] + x0, t[GATHER_START] + x1
        byte_lo, byte_hi = k0 * t[BITS] >> 3, (k1 * t[BITS] + 7) >> 3
    rows = batch * t[ROWS_PER_BATCH] + t[ROW_OFFSET]
    skip = batch * t[BYTES_PER_BATCH] + t[BYTE_OFFSET]
    return row_lo + rows, row_hi + rows, byte_lo + skip, max(byte_hi, byte_lo + 1) + skip


@rule
def fixed_side(t, box: tuple[int, int, int, int], k0: int) -> tuple[int, int, int]:  # type: ignore[no-untyped-def]
    """The side of a box that starts at k0 which other boxes of the same x share, and the k from which they do: rows of kind ROWS,
    bytes of kind COLUMNS, rows of kind PIXELS_X under one tap.
    """
    if t[KIND] == COLUMNS:
        return box[2], box[3], 0
    return box[0], box[1], (k0 - k0 % t[CHANNELS] if t[KIND] == PIXELS_X else 0)


@rule
def shares_side(t, since: int, k0: int, k1: int) -> bool:  # type: ignore[no-untyped-def]
    """Whether the box of [k0, k1) has the `fixed_side` that was found with `since`."""
    if t[KIND] == PIXELS_X:
        return since <= k0 and k1 <= since + t[CHANNELS]
    return t[KIND] == ROWS or t[KIND] == COLUMNS  # type: ignore[no-any-return]


@rule
def next_box(t, fixed: tuple[int, int, int], k0: int, k1: int, batch: int) -> tuple[int, int, int, int]:  # type: ignore[no-untyped-def]
    """`operand_box` of a box that `shares_side` with `fixed`: only what follows k is worked out, without a division."""
    if t[KIND] == COLUMNS:
        rows = batch * t[ROWS_PER_BATCH] + t[ROW_OFFSET]
        return k0 + rows, k1 + rows, fixed[0], fixed[1]
    skip = batch * t[BYTES_PER_BATCH] + t[BYTE_OFFSET]
    if t[KIND] == ROWS:
        byte_lo = stored_bytes(k0, t[BITS], t[KEEP_N], t[KEEP_M])
        byte_hi = stored_bytes(k1, t[BITS], t[KEEP_N], t[KEEP_M])
    else:
        byte_lo = (k0 - fixed[2]) * t[BITS] >> 3
        byte_hi = ((k1 - fixed[2]) * t[BITS] + 7) >> 3
    return fixed[0], fixed[1], byte_lo + skip, max(byte_hi, byte_lo + 1) + skip


@rule
def operand_bytes(t, x_length: int, k_length: int) -> int:  # type: ignore[no-untyped-def]
    """Bytes of an operand tile that travel to the SM: the in-range ones."""
    if t[KEEP_M] > 1:
        return x_length * stored_bytes(k_length, t[BITS], t[KEEP_N], t[KEEP_M])
    return (x_length * k_length * t[BITS] + 7) >> 3  # type: ignore[no-any-return]


@rule
def l2_bytes(t, nbytes: int) -> int:  # type: ignore[no-untyped-def]
    """Bytes that a CTA asks the L2 for of a tile of `nbytes`: its share, where the CTAs of a cluster fetch the tile together."""
    if t[SHARED_BY] == 1:  # spares nearly every load a division
        return nbytes
    return (nbytes + t[SHARED_BY] - 1) // t[SHARED_BY]  # type: ignore[no-any-return]


@rule
def block_range(t, gather, box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:  # type: ignore[no-untyped-def]
    """(first row block, last, first column block, last) that a box covers, both ends included; rows as `block_row` reads them."""
    last_column = min((box[3] - 1) >> t[WIDTH_SHIFT], t[BLOCK_COLUMNS] - 1)
    if t[KIND] >= GATHER_K:
        if t[ROW_SHIFT] == 0:
            return box[0], box[1] - 1, box[2] >> t[WIDTH_SHIFT], last_column
        return gather[box[0]] >> t[ROW_SHIFT], gather[box[1] - 1] >> t[ROW_SHIFT], box[2] >> t[WIDTH_SHIFT], last_column
    last_row = (min(box[1], t[ROW_COUNT]) - 1) >> t[ROW_SHIFT]
    return box[0] >> t[ROW_SHIFT], last_row, box[2] >> t[WIDTH_SHIFT], last_column


@rule
def block_row(t, gather, row: int) -> int:  # type: ignore[no-untyped-def]
    """The row block that `block_range` calls `row`: where each gathered row is a block, the one in that place of the list."""
    return gather[row] if t[KIND] >= GATHER_K and t[ROW_SHIFT] == 0 else row


@rule
def block_chunks(t, row_block: int, column_block: int, interleave_shift: int) -> tuple[int, int, int, int, int]:  # type: ignore[no-untyped-def]
    """(first address, step, chunks, bytes of a chunk, bytes in all) of the pieces of one L2 block.

    No piece is larger than an interleave (2**interleave_shift bytes). Rows wider than that give one piece a row, a pitch apart;
    narrower rows lie end to end, as does a block of one row, and the last piece may then be short.
    """
    first_row = row_block << t[ROW_SHIFT]
    rows = min(1 << t[ROW_SHIFT], t[ROW_COUNT] - first_row)
    first_byte = column_block << t[WIDTH_SHIFT]
    address = t[ADDRESS] + first_row * t[PITCH] + first_byte
    width = min(1 << t[WIDTH_SHIFT], t[PITCH] - first_byte)
    if t[PITCH] > 1 << interleave_shift and t[ROW_SHIFT] > 0:
        return address, t[PITCH], rows, width, rows * width
    size = rows * width
    interleave = 1 << interleave_shift
    return address, interleave, (size + interleave - 1) >> interleave_shift, interleave, size
