"""An array as groups of M consecutive elements along one axis, and the argument checks that every mask routine shares."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError


def split_groups(array: NDArray[Any], m: int, axis: int) -> NDArray[Any]:
    """`array` as [before, groups, m, after]: the axes before `axis`, the groups along it, a group's elements, the axes after.

    A tail shorter than `m` is padded with zeros to a whole group; without a tail the result is a view where numpy can make one.
    """
    axis = resolve_axis(array, axis)
    length = array.shape[axis]
    groups = -(-length // m)
    flat = array.reshape(prod(array.shape[:axis]), length, prod(array.shape[axis + 1 :]))
    if groups * m != length:
        flat = np.pad(flat, ((0, 0), (0, groups * m - length), (0, 0)))
    return flat.reshape(flat.shape[0], groups, m, flat.shape[2])


def join_groups(grouped: NDArray[Any], shape: tuple[int, ...], axis: int) -> NDArray[Any]:
    """The inverse of `split_groups`: drops the padding of the tail and gives back an array of `shape`."""
    before, groups, m, after = grouped.shape
    return grouped.reshape(before, groups * m, after)[:, : shape[axis], :].reshape(shape)


def resolve_axis(array: NDArray[Any], axis: int) -> int:
    """`axis` counted from the front; InputError where `array` has no such axis."""
    if not -array.ndim <= axis < array.ndim:
        raise InputError(f"an array of {array.ndim} axes has no such axis", path="axis", value=axis)
    return axis % array.ndim


def require_mask(mask: object) -> NDArray[np.bool_]:
    """`mask` itself; InputError unless it is a bool array of at least one axis."""
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.ndim == 0:
        got = mask.dtype.name if isinstance(mask, np.ndarray) else type(mask).__name__
        raise InputError("a mask is a bool array of at least one axis", path="mask", value=got, fix="compare the weights with 0")
    return mask


def require_same_shape(**arrays: NDArray[Any]) -> None:
    """InputError unless the named arrays all have one shape."""
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"arrays that belong together have different shapes: {listed}")
