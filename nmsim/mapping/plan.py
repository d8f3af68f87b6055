"""What mapping hands to the machine: one kernel as CTAs over stored tensors, in plain integers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmsim.rules.banks import PADDING_BYTES

(GROUP, M0, M1, N0, N1, K0, K1, BATCH, TILE, SLICE, SLICES) = range(11)
"""Columns of the CTA table: which problem of the kernel; its output and reduction ranges (elements, in range); batch
element; output tile; slice of a split reduction and how many there are."""
CTA_FIELDS = 11

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class MainloopKey:
    """What the SM level needs to know of a kernel: nothing of the problem's size."""

    kind: str
    """`mma` (tensor cores) or `stream` (CUDA cores, memory-bound)."""
    dtype: str
    pattern: str
    """Pattern the tensor core runs on operand A, `dense` for none."""
    cta_tile: tuple[int, int, int]
    """(m, n, k) in elements; k counts the dense reduction."""
    warp_tile: tuple[int, int]
    stages: int
    mma_shape: tuple[int, int, int]
    copy_bytes: int
    """Operand bytes written to shared memory per k-tile (A, B and E)."""
    stream_flops: int = 0
    """CUDA-core flops per k-tile of a `stream` kernel."""
    copy: str = "async"
    """How operands reach shared memory: `async` (cp.async, past the registers, while the mainloop runs) or `sync` (a load to registers
    and a store to shared memory, for which the warps wait)."""

    layout: str = "swizzled"
    """Of operand tiles in shared memory, see `nmsim.rules.banks`."""
    fragments: str = "prefetched"
    """`prefetched`: a k-step's fragments are loaded once, while the k-step before runs; `reloaded`: each row of MMAs loads A's row and
    all of B just before it is run, as code without register blocking does."""

    @property
    def stage_bytes(self) -> int:
        """Shared memory that one stage takes."""
        padding = PADDING_BYTES * (self.cta_tile[0] + self.cta_tile[1]) if self.layout == "padded" else 0
        return self.copy_bytes + padding

    @property
    def lookahead(self) -> int:
        """k-tiles asked for ahead of the one that runs; with none, a k-tile is asked for when the one before is through."""
        return 0 if self.copy == "sync" else self.stages - 1


class CtaShape(NamedTuple):
    """CTAs that move the same bytes."""

    group: int
    rows: int
    columns: int
    k: int
    """Length of their slice of the reduction."""
    later: int
    """1 where it is not the first slice."""
    ctas: int
    """How many there are."""


@dataclass(frozen=True, eq=False)
class KernelPlan:
    """One kernel launch. Tables are int64; descriptors follow `nmsim.rules.box`."""

    name: str
    mainloop: MainloopKey
    occupancy: int
    occupancy_limiter: str
    ctas: Int64
    """[CTAs, CTA_FIELDS] in launch order."""
    operands: Int64
    """[groups, operands, FIELDS]."""
    outputs: Int64
    """[groups, FIELDS]."""
    tensors: Int64
    """[tensors, FIELDS]: the distinct tensors, by ascending first block."""
    gather: Int64
    accumulate: Int64
    """[groups]: 1 where the epilogue adds to the output instead of writing it."""
    blocks: int
    """L2 blocks of all tensors."""
    dense_equivalent_macs: int
    executed_macs_per_k_tile: int
    """Of a full CTA tile, after compression; edge tiles pay it too."""
    codes_per_k_tile: int
    """Kept positions decoded and selected, of a full CTA tile: what energy is charged for, whatever the encoding."""
    strip_rows: int
    """Rows of the output tile that the epilogue writes at a time."""
    split_k: int = 1
    notes: tuple[str, ...] = field(default=())

    @cached_property
    def k_tiles_per_cta(self) -> Int64:
        """[CTAs]: k-tiles each CTA walks through."""
        k_tile = self.mainloop.cta_tile[2]
        tiles: Int64 = -(-(self.ctas[:, K1] - self.ctas[:, K0]) // k_tile)
        return tiles

    @cached_property
    def k_tiles(self) -> int:
        """k-tiles of the whole kernel."""
        return int(self.k_tiles_per_cta.sum())

    @cached_property
    def shapes(self) -> tuple[CtaShape, ...]:
        """The distinct CTAs: a launch has thousands, of a handful of shapes."""
        ctas = self.ctas
        columns = (ctas[:, GROUP], ctas[:, M1] - ctas[:, M0], ctas[:, N1] - ctas[:, N0], ctas[:, K1] - ctas[:, K0], ctas[:, SLICE] > 0)
        bases = [int(column.max(initial=0)) + 1 for column in columns]
        # one number a shape: far quicker to sort than rows of a table (it fits, because groups x K does not exceed the memory)
        codes, counts = np.unique(np.ravel_multi_index(columns, bases), return_counts=True)
        fields = (column.tolist() for column in np.unravel_index(codes, bases))
        return tuple(map(CtaShape, *fields, counts.tolist()))

    def waves(self, sms: int) -> float:
        """CTAs over the CTAs that run at once."""
        return len(self.ctas) / (sms * self.occupancy)
