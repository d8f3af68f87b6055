"""Does a mask obey an N:M pattern along an axis: the check that decides whether a GEMM may run sparse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nmsim.sparsity.groups import require_mask, resolve_axis, split_groups
from nmsim.sparsity.pattern import NMPattern


@dataclass(frozen=True)
class GroupReport:
    """What checking every group of a mask along `axis` (counted from the front) found.

    `violations` counts the groups with more than N non-zeros; `first_violation` is the index, in the mask, of the first
    element of the first such group in memory (C) order.
    """

    pattern: NMPattern
    groups: int
    violations: int
    first_violation: tuple[int, ...] | None
    axis: int

    @property
    def legal(self) -> bool:
        """True where no group has more than N non-zeros."""
        return self.violations == 0


def check_groups(mask: NDArray[np.bool_], pattern: NMPattern, axis: int) -> GroupReport:
    """Counts the groups of M along `axis` of a bool mask of any rank that hold more than N non-zeros.

    A tail shorter than M is one more group, zero-padded. InputError for what is no mask or has no such axis.
    """
    axis = resolve_axis(require_mask(mask), axis)
    grouped = split_groups(mask, pattern.m, axis).view(np.uint8)
    nonzeros = np.zeros((grouped.shape[0], grouped.shape[1], grouped.shape[3]), dtype=np.uint8)
    for lane in range(pattern.m):
        nonzeros += grouped[:, :, lane, :]
    violating = nonzeros > pattern.n
    violations = int(np.count_nonzero(violating))
    first = _first_element(violating, mask.shape, pattern.m, axis) if violations else None
    return GroupReport(pattern, violating.size, violations, first, axis)


def _first_element(violating: NDArray[np.bool_], shape: tuple[int, ...], m: int, axis: int) -> tuple[int, ...]:
    """Index in the mask of the first element of the first violating group; `violating` is [before, groups, after]."""
    per_group = (*shape[:axis], violating.shape[1], *shape[axis + 1 :])
    index = [int(i) for i in np.unravel_index(int(violating.argmax()), per_group)]
    index[axis] *= m
    return tuple(index)
