"""What structure a mask has, checked group by group, and the masks of a trace.

A pattern that nobody stated is inferred: the smallest N/M, then the smallest M, that no group along either channel axis
breaks. A mask that obeys none is unstructured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nmsim.sparsity.groups import split_groups
from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.mask import density
from nmsim.sparsity.packing import mask_digest
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.gemm import GroupCheck, MaskRecord, Operand

_CANDIDATE_M = (2, 4, 8, 16, 32)
_SPARSE_BELOW = 0.97
"""A density above is a dense weight with chance zeros."""
_TIGHT = 0.95
"""Zeros that nobody structured obey *some* loose N:M, say 13:16; a mask made for one fills its groups, but for kept zeros."""


@dataclass(frozen=True)
class KeptMask:
    """A mask of the trace before it is decided whether its payload is kept."""

    mask: NDArray[np.bool_]
    digest: str
    checks: dict[int, GroupCheck]
    of_a_weight: bool


class MaskShelf:
    """The masks found in a step by key; equal masks of one weight share a key."""

    def __init__(self) -> None:
        self.kept: dict[str, KeptMask] = {}

    def structured(self, operand: Operand, key: str, mask: NDArray[np.bool_], pattern: NMPattern | None) -> Operand:
        """`operand` with the structure that `mask` (of its stored shape) has; the mask goes on the shelf unless it is dense.

        `pattern` is what the recipe states, None to infer it. Groups are looked for along the operand's own reduction first.
        """
        if not _worth_a_mask(mask):
            return operand
        reduction, other = operand.reduction_axis, _other_channel_axis(operand)
        stated = pattern or _infer_pattern(mask, (reduction, other))
        checks: dict[int, GroupCheck] = {}
        if stated is not None:
            for axis in (reduction, other):
                report = check_groups(mask, stated, axis)
                checks[axis] = GroupCheck(stated, report.groups, report.violations)
        legal = [axis for axis in (reduction, other) if axis in checks and not checks[axis].violations]
        key = self.shelve(key, mask, checks, operand.role == "weight")
        if not legal:
            return replace(operand, structure="unstructured", mask=key)
        return replace(operand, structure="nm", pattern=stated, group_axis=legal[0], mask=key)

    def shelve(self, key: str, mask: NDArray[np.bool_], checks: dict[int, GroupCheck], of_a_weight: bool) -> str:
        """The key that the mask has on the shelf: `key`, numbered where another mask has it."""
        digest = mask_digest(mask)
        number, free = 1, key
        while free in self.kept and self.kept[free].digest != digest:
            number += 1
            free = f"{key}#{number}"
        if free in self.kept:
            self.kept[free].checks.update(checks)
        else:
            self.kept[free] = KeptMask(mask, digest, checks, of_a_weight)
        return free

    def records(self, payload_limit_bytes: int) -> tuple[dict[str, MaskRecord], dict[str, NDArray[np.bool_]]]:
        """(records, payloads): while the packed masks exceed the limit in total, the largest payload is left out.

        Payloads of activations and gradients never stay: they belong to one batch, and their checks say what matters.
        """
        packed = {key: _packed_bytes(kept.mask) for key, kept in self.kept.items() if kept.of_a_weight}
        total = sum(packed.values())
        payloads = {key: self.kept[key].mask for key in packed}
        for key in sorted(packed, key=lambda one: (-packed[one], one)):
            if total <= payload_limit_bytes:
                break
            total -= packed[key]
            del payloads[key]
        records = {
            key: MaskRecord(kept.mask.shape, density(kept.mask), kept.digest, key in payloads, dict(sorted(kept.checks.items())))
            for key, kept in self.kept.items()
        }
        return records, payloads


def structured_activation(
    operand: Operand, key: str, values: NDArray[np.bool_], shelf: MaskShelf, stated: NMPattern | None = None
) -> Operand:
    """`operand`, an activation or gradient with these non-zeros, as N:M along its reduction where every group obeys.

    `stated` is what a recipe says that it made, None to infer it: a sampled gradient that was part zero before fills its groups
    too sparsely to be inferred. Zeros that obey nothing (a ReLU's) stay a dense operand: they change with every batch.
    """
    if not _worth_a_mask(values):
        return operand
    axis = operand.reduction_axis
    if stated is not None and not check_groups(values, stated, axis).violations:
        return shelf.structured(operand, key, values, stated)
    pattern = _infer_pattern(values, (axis,))
    return operand if pattern is None else shelf.structured(operand, key, values, pattern)


def _infer_pattern(mask: NDArray[np.bool_], axes: Sequence[int]) -> NMPattern | None:
    """The smallest N/M, then M, that every group along one of `axes` obeys and most of them fill; None where there is none."""
    found = []
    kept = density(mask)
    for axis in axes:
        for m in _CANDIDATE_M:
            if m <= mask.shape[axis]:
                # A mask that is zero throughout still keeps one of M: a pattern has no N of 0.
                n = max(1, int(split_groups(mask, m, axis).sum(axis=2, dtype=np.int64).max()))
                if n < m and kept >= _TIGHT * n / m:
                    found.append((n / m, m, NMPattern(n, m)))
    return min(found, key=lambda one: one[:2])[2] if found else None


def _worth_a_mask(mask: NDArray[np.bool_]) -> bool:
    """False for a dense tensor, and for one that is zero throughout (a weight not yet trained)."""
    kept = int(np.count_nonzero(mask))
    return 0 < kept < _SPARSE_BELOW * mask.size


def _other_channel_axis(operand: Operand) -> int:
    """The stored axis of the other channel: where the groups of the other phase run."""
    if len(operand.shape) == 4:
        return 3 - operand.reduction_axis
    return next(axis for axis, name in enumerate(operand.axes) if name in ("m", "n"))


def _packed_bytes(mask: NDArray[np.bool_]) -> int:
    return int(mask.size // mask.shape[-1] * -(-mask.shape[-1] // 8))
