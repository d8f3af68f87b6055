"""A weight as M x M windows of its GEMM operand, true in both directions: the unit over which transposable masks are searched.

A window spans M consecutive outputs and M consecutive inputs. (The authors of transposable masks reshape the weight to
(-1, M * M), M^2 *consecutive* elements: that is no window of the operand, and such a mask is not N:M along the outputs.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.groups import resolve_axis

WEIGHT_AXES = (0, -1)
"""Outputs and inputs of a weight [O, I] or [O, R, S, C]: the windows of a convolution lie inside one filter tap."""


def resolve_axes(array: NDArray[Any], axes: tuple[int, int]) -> tuple[int, int]:
    """`axes` counted from the front; InputError where `array` lacks one or both are the same."""
    first, second = (resolve_axis(array, axis) for axis in axes)
    if first == second:
        raise InputError("the two sides of a block lie along different axes", path="axes", value=axes)
    return first, second


def split_blocks(array: NDArray[Any], m: int, axes: tuple[int, int] = WEIGHT_AXES) -> NDArray[Any]:
    """`array` as contiguous [blocks, m, m], rows along the first of `axes`; edges are padded with zeros to whole blocks."""
    first, second = resolve_axes(array, axes)
    matrices = np.moveaxis(array, (first, second), (-2, -1))
    *outer, rows, columns = matrices.shape
    pad_rows, pad_columns = -rows % m, -columns % m
    if pad_rows or pad_columns:
        matrices = np.pad(matrices, [(0, 0)] * len(outer) + [(0, pad_rows), (0, pad_columns)])
    # Not -1: an empty array leaves it open.
    batch = int(np.prod(outer, dtype=np.int64))
    tall, wide = (rows + pad_rows) // m, (columns + pad_columns) // m
    windows = matrices.reshape(batch, tall, m, wide, m).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(windows).reshape(batch * tall * wide, m, m)


def join_blocks(blocks: NDArray[Any], shape: tuple[int, ...], axes: tuple[int, int] = WEIGHT_AXES) -> NDArray[Any]:
    """The inverse of `split_blocks`: drops the padding and gives back an array of `shape`."""
    first, second = (axis % len(shape) for axis in axes)
    m = blocks.shape[-1]
    rows, columns = shape[first], shape[second]
    outer = [size for axis, size in enumerate(shape) if axis not in (first, second)]
    tall, wide = -(-rows // m), -(-columns // m)
    batch = int(np.prod(outer, dtype=np.int64))
    matrices = blocks.reshape(batch, tall, wide, m, m).transpose(0, 1, 3, 2, 4).reshape(*outer, tall * m, wide * m)
    return np.ascontiguousarray(np.moveaxis(matrices[..., :rows, :columns], (-2, -1), (first, second)))
