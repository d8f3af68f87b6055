"""Where tensors lie in memory and in the L2's block table: descriptors for `nmsim.rules.box`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from nmsim.arch.spec import DramSpec
from nmsim.errors import InputError
from nmsim.mapping.problem import Tensor, View
from nmsim.rules import box

_GATHERED_INTERLEAVES = 2
"""Of a gathered row in one L2 block: a grain of look-ups, as `l2.block_bytes` is.

One instead of two moves BERT-large's tile-wise step by 0.4 % and the V100's tile-wise GEMMs by up to 4 %."""
_ALIGNMENT_BYTES = 2 << 20
"""Tensors start on 2 MiB, the page size of the device allocator."""


def require_memory(dram: DramSpec, label: str, nbytes: int) -> None:
    """InputError where tensors of `nbytes` in all do not fit the machine's DRAM."""
    if nbytes > dram.capacity_gib << 30:
        raise InputError(f"the tensors take {nbytes / 2**30:,.0f} GiB, and the machine has {dram.capacity_gib} GiB of DRAM", path=label)


class Layout:
    """Gives each tensor an address and a range of L2 blocks, in the order given."""

    def __init__(self, tensors: Sequence[Tensor], block_bytes: int, interleave_bytes: int, gathered: Collection[str] = ()) -> None:
        """`gathered`: names of the tensors whose rows some operand gathers; their blocks are parts of single rows."""
        interleave_shift = interleave_bytes.bit_length() - 1
        self._rows: dict[str, NDArray[np.int64]] = {}
        address = first_block = 0
        for index, tensor in enumerate(tensors):
            descriptor = np.zeros(box.FIELDS, dtype=np.int64)
            width = min(tensor.pitch_bytes, interleave_bytes)
            row_shift = max(0, (block_bytes // width).bit_length() - 1)
            width_shift = interleave_shift
            if tensor.name in gathered:
                row_shift, width_shift = (
                    0,
                    max(min(block_bytes, _GATHERED_INTERLEAVES * interleave_bytes).bit_length() - 1, interleave_shift),
                )
            columns = -(-tensor.pitch_bytes >> width_shift)
            descriptor[box.TENSOR] = index
            descriptor[box.FIRST_BLOCK] = first_block
            descriptor[box.ADDRESS] = address
            descriptor[box.ROW_COUNT] = tensor.rows
            descriptor[box.PITCH] = tensor.pitch_bytes
            descriptor[box.ROW_SHIFT] = row_shift
            descriptor[box.WIDTH_SHIFT] = width_shift
            descriptor[box.BLOCK_COLUMNS] = columns
            descriptor[box.SHARED_BY] = 1
            self._rows[tensor.name] = descriptor
            first_block += -(-tensor.rows >> row_shift) * columns if tensor.rows else 0
            size = tensor.rows * tensor.pitch_bytes
            address += -(-max(1, size) // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        self.blocks = first_block
        self._gather: list[NDArray[np.int64]] = []
        self._gathered = 0

    @property
    def tensors(self) -> NDArray[np.int64]:
        """[tensors, FIELDS] by ascending first block."""
        return np.stack(list(self._rows.values()))

    def tensor(self, name: str) -> NDArray[np.int64]:
        """The bare descriptor of a tensor."""
        return self._rows[name]

    def view(self, view: View) -> NDArray[np.int64]:
        """The descriptor of a view; its gather list, if any, joins the kernel's. ValueError for a list and an offset to it."""
        descriptor = self._rows[view.tensor].copy()
        if view.gather is not None and {box.ROWS_PER_BATCH, box.ROW_OFFSET} & view.fields.keys():
            raise ValueError(f"rows of {view.tensor} are gathered: name them in the list, without an offset or a batch")
        descriptor[box.KIND] = view.kind
        descriptor[box.DIMENSION] = view.dimension
        descriptor[box.BITS] = view.bits
        descriptor[box.KEEP_N], descriptor[box.KEEP_M] = view.keep
        for index, value in view.fields.items():
            descriptor[index] = value
        if view.gather is not None:
            descriptor[box.GATHER_START] = self._gathered
            self._gather.append(view.gather)
            self._gathered += len(view.gather)
        return descriptor

    @property
    def gather(self) -> NDArray[np.int64]:
        """All gather lists, one after another."""
        return np.concatenate(self._gather) if self._gather else np.zeros(1, dtype=np.int64)
