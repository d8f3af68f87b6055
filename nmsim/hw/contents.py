"""What lies in the L2 between one kernel and the next, and how the next one finds it.

A kernel numbers the blocks of its own tensors. What the kernels before it left is brought into that numbering: blocks of a tensor
that it reads or writes too are its own blocks from the start, all others are blocks of tensors that nobody looks up any more, which
keep their place in the order of use until they are pushed out.

Modelled: contents, dirty marks and the order of use of every partition, block by block.
Not modelled: time between kernels. A tensor's home partitions follow from its place among the tensors of a kernel; where that
changes, what is held of it changes sides with it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nmsim.mapping.plan import KernelPlan
from nmsim.rules import box

Int64 = NDArray[np.int64]

BLOCK, DIRTY = 0, 1
"""Columns of what a partition holds: the block by the plan's numbering, and 1 where it is to be written back."""
_GEOMETRY = [box.ROW_COUNT, box.PITCH, box.ROW_SHIFT, box.WIDTH_SHIFT, box.BLOCK_COLUMNS]
"""What says which bytes of a tensor a block is."""


@dataclass(frozen=True, eq=False)
class Contents:
    """An L2 after or before a kernel."""

    names: tuple[Hashable, ...]
    """Of each tensor, in the order of `tensors`: equal names of equal geometry are the same stored tensor."""
    tensors: Int64
    """[tensors, FIELDS]: descriptors by ascending first block; `nmsim.rules.box`."""
    held: tuple[Int64, ...]
    """By partition, [blocks, 2]: BLOCK and DIRTY, least recently used first."""


def bring_forward(plan: KernelPlan, names: Sequence[Hashable], before: Contents) -> tuple[KernelPlan, Contents]:
    """The plan with every tensor appended of which something is still held, and what is held, by the plan's own numbering.

    `names` are those of `plan.tensors`.
    """
    tensors, known = (
        list(plan.tensors),
        {_identity(name, t): index for index, (name, t) in enumerate(zip(names, plan.tensors, strict=True))},
    )
    all_names, blocks, partitions = list(names), plan.blocks, len(before.held)
    first_blocks = before.tensors[:, box.FIRST_BLOCK]
    owners = [np.searchsorted(first_blocks, part[:, BLOCK], side="right") - 1 for part in before.held]
    offsets, moves = np.zeros(len(before.names), dtype=np.int64), np.zeros(len(before.names), dtype=np.int64)
    for owner in sorted(set(np.concatenate(owners).tolist())):
        name, old = before.names[owner], before.tensors[owner]
        index = known.get(_identity(name, old))
        if index is None:
            new = old.copy()
            new[box.FIRST_BLOCK] = blocks
            blocks += _blocks_of(old)
            tensors.append(new)
            all_names.append(name)
        else:
            new = tensors[index]
        offsets[owner] = new[box.FIRST_BLOCK] - old[box.FIRST_BLOCK]
        moves[owner] = (new[box.TENSOR] - old[box.TENSOR]) % partitions
    held = _moved(before.held, owners, offsets, moves)
    table = np.stack(tensors)
    return replace(plan, tensors=table, blocks=blocks), Contents(tuple(all_names), table, held)


def block_bytes(tensors: Int64, blocks: Int64, interleave_shift: int) -> Int64:
    """[blocks]: bytes of each block of a numbering."""
    sizes = np.zeros(len(blocks), dtype=np.int64)
    owners = np.searchsorted(tensors[:, box.FIRST_BLOCK], blocks, side="right") - 1
    for owner in np.unique(owners).tolist():
        t, mine = tensors[owner], owners == owner
        rows, columns = np.divmod(blocks[mine] - t[box.FIRST_BLOCK], t[box.BLOCK_COLUMNS])
        last_row, last_column = (int(t[box.ROW_COUNT]) - 1) >> int(t[box.ROW_SHIFT]), int(t[box.BLOCK_COLUMNS]) - 1
        kinds, found = 2 * (rows == last_row) + (columns == last_column), np.zeros(4, dtype=np.int64)
        for kind in set(kinds.tolist()):  # a block is as large as any other that is no edge of the same sides
            row, column = last_row if kind & 2 else 0, last_column if kind & 1 else 0
            found[kind] = box.block_chunks(t.tolist(), row, column, interleave_shift)[4]
        sizes[mine] = found[kinds]
    return sizes


def _moved(held: Sequence[Int64], owners: Sequence[Int64], offsets: Int64, moves: Int64) -> tuple[Int64, ...]:
    """Blocks under their new numbers in their new partitions, each partition's order of use kept (of two, that of the lower first)."""
    partitions = len(held)
    gathered: list[list[tuple[Int64, Int64]]] = [[] for _ in range(partitions)]
    for partition, (part, owner) in enumerate(zip(held, owners, strict=True)):
        age = np.arange(len(part), 0, -1)
        target = (partition + moves[owner]) % partitions
        renumbered = np.column_stack((part[:, BLOCK] + offsets[owner], part[:, DIRTY]))
        for place in np.unique(target).tolist():
            gathered[place].append((age[target == place], renumbered[target == place]))
    merged = []
    for parts in gathered:
        if not parts:
            merged.append(np.zeros((0, 2), dtype=np.int64))
            continue
        ages, rows = np.concatenate([age for age, _ in parts]), np.concatenate([one for _, one in parts])
        merged.append(rows[np.argsort(-ages, kind="stable")])
    return tuple(merged)


def _identity(name: Hashable, t: Int64) -> tuple[Hashable, ...]:
    return name, *t[_GEOMETRY].tolist()


def _blocks_of(t: Int64) -> int:
    return int(-(-int(t[box.ROW_COUNT]) >> int(t[box.ROW_SHIFT]))) * int(t[box.BLOCK_COLUMNS])
