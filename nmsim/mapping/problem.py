"""A GEMM in the kernel's frame: stored tensors, views of them, and one or more groups that a single launch computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nmsim.arch.spec import TileSpec
from nmsim.sparsity.encoding import GroupCode
from nmsim.sparsity.pattern import NMPattern


@dataclass(frozen=True)
class Tensor:
    """A stored 2-D tensor: rows a pitch apart."""

    name: str
    rows: int
    pitch_bytes: int


@dataclass(frozen=True, eq=False)
class View:
    """How a GEMM operand or output reads a tensor. `kind` and `fields` are those of `nmsim.rules.box`."""

    tensor: str
    kind: int
    dimension: int
    """0 where the view follows the kernel's m, 1 where it follows n."""
    bits: int
    keep: tuple[int, int] = (1, 1)
    fields: Mapping[int, int] = field(default_factory=dict)
    gather: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Group:
    """One of the products a launch computes: D[m, n] = A[m, k] B[k, n]."""

    m: int
    n: int
    k: int
    operands: tuple[View, ...]
    """A, B and, for a compressed A, E."""
    output: View
    accumulate: bool = False
    """The epilogue adds to what is there: other groups contribute to the same output."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What a kernel has to compute, before a tile is chosen."""

    label: str
    dtype: str
    pattern: NMPattern | None
    """Native pattern of operand A, None for a dense kernel."""
    tensors: tuple[Tensor, ...]
    groups: tuple[Group, ...]
    batch: int
    dense_equivalent_macs: int
    notes: tuple[str, ...] = ()
    code: GroupCode | None = None
    """How a group of a compressed operand A is written down in E; None for a dense kernel."""
    tiles: tuple[TileSpec, ...] = ()
    """Kernel templates that were written for it, beside those of the machine's library."""
