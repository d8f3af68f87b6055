"""Compressed N:M operands: the kept values, and the metadata E that says where in its group each of them was.

Two layouts of one idea, groups running along the last axis:

* *positional*, for any N:M: each kept value owns an index of ceil(log2 M) bits, ascending within its group, packed from the
  lowest bit up, each row padded to a byte;
* *CUTLASS*, for 2:4 on sparse tensor cores: the same bit stream read as 16- or 32-bit words, the words then reordered so that
  the 128 bits one `ldmatrix` row fetches hold what the threads of one MMA need (`_reorder_words`).

A group with fewer than N non-zeros still stores N values: it borrows the positions M-N, M-N+1, ... that are free, which is
PyTorch's choice for 2:4, so that one matrix has one encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.groups import join_groups, split_groups
from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import element_bits

_TWO_OF_FOUR = NMPattern(2, 4)
_WORD_TYPES: dict[int, np.dtype[Any]] = {16: np.dtype("<i2"), 8: np.dtype("<i4")}
"""Metadata word of the CUTLASS layout by the storage bits of the operand's elements."""


@dataclass(frozen=True, eq=False)
class Compressed:
    """An operand [..., k] in compressed form: `values` [..., groups * N], `metadata` uint8 [..., bytes of a row]."""

    pattern: NMPattern
    k: int
    values: NDArray[Any]
    metadata: NDArray[np.uint8]


def index_bits(pattern: NMPattern) -> int:
    """Metadata bits of one kept value: ceil(log2 M)."""
    return (pattern.m - 1).bit_length()


def compressed_bytes(elements: int, value_bits: int, pattern: NMPattern) -> int:
    """Bytes of values and metadata for a reduction of `elements`, each rounded up to a byte; a tail counts as a whole group."""
    kept = pattern.compressed_k(elements)
    return _bytes_of(kept * value_bits) + _bytes_of(kept * index_bits(pattern))


def encode(dense: NDArray[Any], pattern: NMPattern) -> Compressed:
    """Matrix [..., k] whose non-zeros obey `pattern` along the last axis -> its compressed form.

    A tail shorter than M is zero-padded. InputError, with the place, where a group has more than N non-zeros.
    """
    if dense.ndim == 0:
        raise InputError("only an array of at least one axis can be compressed", path="dense")
    report = check_groups(np.asarray(dense != 0), pattern, -1)
    if not report.legal:
        raise InputError(
            f"{report.violations} of {report.groups} groups hold more than {pattern.n} non-zeros of {pattern.m}, "
            f"the first at {list(report.first_violation or ())}",
            fix="apply the mask first",
        )
    groups = split_groups(dense, pattern.m, -1)[..., 0]
    stored = _stored_positions(groups != 0, pattern)
    row_shape = (*dense.shape[:-1], groups.shape[1] * pattern.n)
    positions = np.nonzero(stored)[2].astype(np.uint8).reshape(row_shape)
    return Compressed(pattern, dense.shape[-1], groups[stored].reshape(row_shape), _pack_indices(positions, index_bits(pattern)))


def decode(compressed: Compressed) -> NDArray[Any]:
    """The matrix [..., k] again; InputError where values and metadata can't be those of one (lengths, order, padding)."""
    pattern, k, values = compressed.pattern, compressed.k, compressed.values
    groups, rows = -(-k // pattern.m), prod(values.shape[:-1])
    if values.ndim == 0 or values.shape[-1] != groups * pattern.n:
        raise InputError(f"a reduction of {k} stores {groups * pattern.n} values of {pattern} a row", value=values.shape)
    positions = _unpack_indices(compressed.metadata, values.shape, index_bits(pattern))
    positions = positions.reshape(rows, groups, pattern.n)
    if (positions >= pattern.m).any() or (positions[..., 1:] <= positions[..., :-1]).any():
        raise InputError(f"the metadata is not ascending positions below {pattern.m} in every group", path="metadata")
    grouped = np.zeros((rows, groups, pattern.m), dtype=values.dtype)
    np.put_along_axis(grouped, positions.astype(np.intp), values.reshape(positions.shape), axis=-1)
    if (grouped.reshape(rows, groups * pattern.m)[:, k:] != 0).any():
        raise InputError("the padding of the last group holds a non-zero value", path="values")
    return join_groups(grouped[..., np.newaxis], (*values.shape[:-1], k), values.ndim - 1)


def cutlass_compress(dense: NDArray[Any], dtype: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """2:4 matrix [rows, k] of `dtype` fp16, bf16 or int8 -> (values [rows, k/2], reordered metadata words).

    Words are int16 [rows, k/16] for the 16-bit types and int32 [rows, k/32] for int8. `dense` may be of any numpy type (there
    is none for bf16): `dtype` fixes the layout. Rows must be a multiple of 32 (int8: 16) and k of 32 (int8: 64), else InputError.
    Equals CUTLASS's `reorder_meta` on ColumnMajorInterleaved<2>, the layout that PyTorch's semi-structured tensors hold.
    """
    if dtype not in ("fp16", "bf16", "int8"):
        raise InputError("the CUTLASS 2:4 layout is known for fp16, bf16 and int8", path="dtype", value=dtype)
    word = _WORD_TYPES[element_bits(dtype)]
    row_step, k_step = _tile_of(word)
    if dense.ndim != 2 or dense.shape[0] % row_step or dense.shape[1] % k_step:
        raise InputError(f"a {dtype} operand has rows a multiple of {row_step} and k a multiple of {k_step}", value=dense.shape)
    compressed = encode(dense, _TWO_OF_FOUR)
    return compressed.values, _reorder_words(np.ascontiguousarray(compressed.metadata).view(word))


def cutlass_decompress(values: NDArray[Any], words: NDArray[Any]) -> NDArray[Any]:
    """The inverse of `cutlass_compress`: matrix [rows, k]; InputError where the two don't belong together."""
    if words.dtype not in _WORD_TYPES.values():
        raise InputError("CUTLASS metadata words are int16 or int32", path="words", value=words.dtype.name)
    row_step, k_step = _tile_of(words.dtype)
    if values.ndim != 2 or values.shape[0] % row_step or 2 * values.shape[1] % k_step:
        raise InputError(f"values have rows a multiple of {row_step} and half a multiple of {k_step} columns", value=values.shape)
    expected = (values.shape[0], 2 * values.shape[1] // (8 * words.dtype.itemsize))
    if words.shape != expected:
        raise InputError(f"values of shape {list(values.shape)} have metadata words of shape {list(expected)}", value=words.shape)
    stream = np.ascontiguousarray(_restore_words(words)).view(np.uint8)
    return decode(Compressed(_TWO_OF_FOUR, 2 * values.shape[1], values, stream))


def _tile_of(word: np.dtype[Any]) -> tuple[int, int]:
    """(rows, k) that the reordering permutes as one: four (16-bit) or two (32-bit) stripes of 8 rows, by two words of k."""
    return 64 // word.itemsize, 2 * 8 * word.itemsize


def _reorder_words(words: NDArray[Any]) -> NDArray[Any]:
    """Metadata words [rows, columns] from row-major order into CUTLASS's memory order.

    Read a row as (tile, stripe pair, stripe of the pair, row of 8) and a column as (column pair, column of the pair). Three
    facts fix the layout: rows 0, 8, 16, 24 of a tile lie next to each other (one thread group of the MMA reads them together);
    inside two such neighbours and two neighbouring columns, the 2x2 block is transposed; pairs of columns are stored column
    after column (ColumnMajorInterleaved<2>). Together they are one permutation of the six axes.
    """
    rows, columns = words.shape
    stripes = _tile_of(words.dtype)[0] // 8
    six = words.reshape(rows // (8 * stripes), stripes // 2, 2, 8, columns // 2, 2)
    return np.ascontiguousarray(six.transpose(4, 0, 3, 1, 5, 2)).reshape(rows, columns)


def _restore_words(words: NDArray[Any]) -> NDArray[Any]:
    """The inverse of `_reorder_words`."""
    rows, columns = words.shape
    stripes = _tile_of(words.dtype)[0] // 8
    six = words.reshape(columns // 2, rows // (8 * stripes), 8, stripes // 2, 2, 2)
    return np.ascontiguousarray(six.transpose(1, 3, 5, 2, 0, 4)).reshape(rows, columns)


def _stored_positions(nonzero: NDArray[np.bool_], pattern: NMPattern) -> NDArray[np.bool_]:
    """Non-zeros [rows, groups, M], filled up to exactly N positions in every group with the borrowed ones."""
    stored = nonzero.copy()
    missing = pattern.n - np.count_nonzero(stored, axis=-1)
    for position in range(pattern.m - pattern.n, pattern.m):
        borrowed = ~stored[..., position] & (missing > 0)
        stored[..., position] |= borrowed
        missing -= borrowed
    return stored


def _pack_indices(positions: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Positions [..., kept] -> bytes [..., ceil(kept * bits / 8)], lowest bit first."""
    exploded = (positions[..., np.newaxis] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(exploded.reshape(*positions.shape[:-1], positions.shape[-1] * bits), axis=-1, bitorder="little")


def _unpack_indices(metadata: NDArray[Any], shape: tuple[int, ...], bits: int) -> NDArray[np.uint8]:
    """Bytes -> positions of `shape`; InputError where the bytes are too few, too many, or padded with ones."""
    used = shape[-1] * bits
    expected = (*shape[:-1], _bytes_of(used))
    if metadata.dtype != np.uint8 or metadata.shape != expected:
        got = f"{metadata.dtype.name} {list(metadata.shape)}"
        raise InputError(f"these values have uint8 metadata of shape {list(expected)}", path="metadata", value=got)
    stream = np.unpackbits(metadata, axis=-1, bitorder="little")
    if stream[..., used:].any():
        raise InputError("a padding bit of the metadata is set", path="metadata")
    weights_of_bits = (1 << np.arange(bits)).astype(np.uint8)
    exploded = stream[..., :used].reshape(*shape, bits) * weights_of_bits
    positions: NDArray[np.uint8] = np.add.reduce(exploded, axis=-1, dtype=np.uint8)
    return positions


def _bytes_of(bits: int) -> int:
    return -(-bits // 8)
