"""The shared L2: partitions with bandwidth, near and far latency, blocks kept by least recent use, write-back.

Each block has a home partition, where its writes go and which reads it from DRAM. Where the machine keeps copies, a partition
also caches what its own SMs read from elsewhere: such a block is near from then on, and takes up room twice.

Modelled: capacity in bytes of each partition, LRU replacement, look-up by block (a byte range of a stored tensor), misses that
later requests join, copies that a write drops, dirty blocks written to DRAM when evicted, each partition's bandwidth as a FIFO
server. A cold L2 is full of strangers, some of them dirty: what an earlier kernel left. The first blocks installed push those
out, and pay for it.
Not modelled: sets and ways, conflicts between the slices of a partition (their sustained rate is a parameter), sectors:
a block is fetched whole. The link between partitions has their latency and no limit of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from nmsim.hw.contents import Int64
from nmsim.hw.dram import Dram
from nmsim.hw.timing import ChipTiming
from nmsim.rules.box import BLOCK_COLUMNS, FIRST_BLOCK, TENSOR, block_chunks
from nmsim.rules.server import serve
from nmsim.rules.sharing import PARTS

Descriptor = list[int]


class L2:
    """Serves block look-ups; all times in ticks."""

    def __init__(self, timing: ChipTiming, dram: Dram, tensors: list[Descriptor], dirty_strangers: int = 0) -> None:
        """`dirty_strangers`: bytes that an earlier kernel left to be written back."""
        self._t = timing
        self._dirty_strangers = dirty_strangers
        self._dram = dram
        self._tensors = tensors
        self._free = [0] * (timing.partition_mask + 1)
        self._remainder = [0] * (timing.partition_mask + 1)
        partitions = range(timing.partition_mask + 1)
        self._resident: list[OrderedDict[int, tuple[int, int]]] = [OrderedDict() for _ in partitions]
        """By partition: block -> (bytes, dirty), least recently used first."""
        self._filled: list[dict[int, int]] = [{} for _ in partitions]
        self._resident_bytes = [0 for _ in partitions]
        self.lookups = self.misses = self.fetched_bytes = self.written_back_bytes = 0

    def warm_from(self, other: L2) -> None:
        """Take over the contents (not the times) of an L2 that an earlier launch left behind."""
        self._resident = [OrderedDict(blocks) for blocks in other._resident]
        self._resident_bytes = list(other._resident_bytes)

    def fill(self, held: Sequence[Int64]) -> None:
        """Start with blocks of other launches, by partition as `held` gives them; no stranger is left."""
        self._dirty_strangers = 0
        for partition, part in enumerate(held):
            sizes = [(block, self._size(block), dirty) for block, dirty in part.tolist()]
            self._resident[partition] = OrderedDict((block, (size, dirty)) for block, size, dirty in sizes)
            self._resident_bytes[partition] = sum(size for _, size, _ in sizes)

    def held(self) -> tuple[Int64, ...]:
        """By partition [blocks, 2]: the blocks and whether they are dirty, least recently used first."""
        listed = [[(block, dirty) for block, (_, dirty) in blocks.items()] for blocks in self._resident]
        return tuple(np.array(one, dtype=np.int64).reshape(-1, 2) for one in listed)

    def read(self, now: int, sm: int, t: Descriptor, row_block: int, column_block: int, nbytes: int) -> tuple[int, list[int]]:
        """Look a block up for `nbytes` of it. Returns (tick of the data at the SM, its time by part of the request)."""
        timing = self._t
        block, home = self._place(t, row_block, column_block)
        own = sm & timing.partition_mask
        serving = own if timing.l2_copies and block in self._resident[own] else home
        start, end = self._reserve(now, serving, nbytes)
        latency = timing.l2_near if serving == own else timing.l2_far
        request = latency // 2
        data = end + latency
        parts = [0] * PARTS
        if block in self._resident[serving]:
            self._resident[serving].move_to_end(block)
            filled = self._filled[serving].get(block, 0) + latency - request
            if filled > data:
                parts[3] = filled - data
                data = filled
        else:
            self.misses += 1
            filled, parts[3], parts[4], parts[5] = self._fetch(start + request, t, row_block, column_block)
            self._filled[home][block] = filled
            data = max(data, filled + latency - request)
            self._push_strangers_out(t, row_block, column_block, start + request)
            self._install(home, block, t, row_block, column_block, 0, start + request)
        if timing.l2_copies and serving != own:
            self._filled[own][block] = data - (timing.l2_near - timing.l2_near // 2)
            self._install(own, block, t, row_block, column_block, 0, start + request)
        parts[1] = start - now
        parts[2] = data - now - parts[1] - parts[3] - parts[4] - parts[5]
        return data, parts

    def write(self, now: int, sm: int, t: Descriptor, row_block: int, column_block: int, nbytes: int) -> int:
        """Write `nbytes` of a block (posted). Returns the tick at which the partition has taken them."""
        block, home = self._place(t, row_block, column_block)
        start, end = self._reserve(now, home, nbytes)
        if block in self._resident[home]:
            size, _ = self._resident[home][block]
            self._resident[home][block] = (size, 1)
            self._resident[home].move_to_end(block)
        else:
            self.misses += 1
            latency = self._t.l2_near if home == sm & self._t.partition_mask else self._t.l2_far
            self._push_strangers_out(t, row_block, column_block, start + latency // 2)
            self._install(home, block, t, row_block, column_block, 1, start + latency // 2)
        for partition, blocks in enumerate(self._resident):
            if partition != home and block in blocks:
                self._resident_bytes[partition] -= blocks.pop(block)[0]
        return end

    def _place(self, t: Descriptor, row_block: int, column_block: int) -> tuple[int, int]:
        """(block, its home partition)."""
        block = t[FIRST_BLOCK] + row_block * t[BLOCK_COLUMNS] + column_block
        return block, (row_block + column_block + t[TENSOR]) & self._t.partition_mask

    def _reserve(self, now: int, partition: int, nbytes: int) -> tuple[int, int]:
        """Book a partition for a look-up. Returns (start, end)."""
        start, end, self._remainder[partition] = serve(now, self._free[partition], self._remainder[partition], nbytes, self._t.l2_rate)
        self._free[partition] = end
        self.lookups += 1
        return start, end

    def _fetch(self, arrival: int, t: Descriptor, row_block: int, column_block: int) -> tuple[int, int, int, int]:
        """Read a block from DRAM. Returns (tick it is filled, queue, row, bus) of its last piece."""
        address, step, chunks, unit, size = block_chunks(t, row_block, column_block, self._t.interleave_shift)
        self.fetched_bytes += size
        last, queue, row, bus = arrival, 0, 0, 0
        for chunk in range(chunks):
            nbytes = min(unit, size - chunk * unit)
            end, chunk_queue, chunk_row, chunk_bus = self._dram.access(arrival, address + chunk * step, nbytes, 0)
            if end > last:
                last, queue, row, bus = end, chunk_queue, chunk_row, chunk_bus
        return last + self._t.controller, queue, row, bus + self._t.controller

    def _push_strangers_out(self, t: Descriptor, row_block: int, column_block: int, now: int) -> None:
        """Write back as many of an earlier kernel's dirty bytes as a block brings (its copies displace clean ones)."""
        address, step, chunks, unit, size = block_chunks(t, row_block, column_block, self._t.interleave_shift)
        for chunk in range(chunks):
            nbytes = min(unit, size - chunk * unit, self._dirty_strangers)
            if nbytes:
                self._dirty_strangers -= nbytes
                self.written_back_bytes += nbytes
                self._dram.access(now, address + chunk * step, nbytes, 1)

    def _install(self, partition: int, block: int, t: Descriptor, row_block: int, column_block: int, dirty: int, now: int) -> None:
        """Give a block a place in a partition: evict the least recently used blocks until it fits."""
        size = block_chunks(t, row_block, column_block, self._t.interleave_shift)[4]
        blocks = self._resident[partition]
        blocks[block] = (size, dirty)
        self._resident_bytes[partition] += size
        while self._resident_bytes[partition] > self._t.l2_capacity and len(blocks) > 1:
            victim, (victim_size, victim_dirty) = blocks.popitem(last=False)
            self._resident_bytes[partition] -= victim_size
            if victim_dirty:
                self._write_back(victim, now)

    def _write_back(self, block: int, now: int) -> None:
        address, step, chunks, unit, size = self._chunks(block)
        self.written_back_bytes += size
        for chunk in range(chunks):
            nbytes = min(unit, size - chunk * unit)
            self._dram.access(now, address + chunk * step, nbytes, 1)

    def _size(self, block: int) -> int:
        return self._chunks(block)[4]

    def _chunks(self, block: int) -> tuple[int, int, int, int, int]:
        """The pieces of a block (`block_chunks`), whose tensor is found by its number."""
        owner = next(t for t in reversed(self._tensors) if t[FIRST_BLOCK] <= block)
        row_block, column_block = divmod(block - owner[FIRST_BLOCK], owner[BLOCK_COLUMNS])
        chunks: tuple[int, int, int, int, int] = block_chunks(owner, row_block, column_block, self._t.interleave_shift)
        return chunks
