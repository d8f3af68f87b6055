"""One SM at chip level: its ports, its tensor pipe shared by the resident CTAs, and the account of each idle tick.

Modelled: CTAs reserve the pipe in turn, at the k-tile rate the SM level found for the number of CTAs now in their
mainloop; operands enter through the port and the L2; each gap of the pipe is charged to a named stall.
Not modelled here: anything inside a k-tile (that is the SM level's).
"""

from __future__ import annotations

from collections.abc import Sequence

from nmsim.hw.l2 import L2, Descriptor
from nmsim.hw.mainloop import MainloopTicks
from nmsim.hw.noc import Port
from nmsim.hw.timing import ChipTiming
from nmsim.rules.box import block_range, block_row, l2_bytes
from nmsim.rules.server import serve
from nmsim.rules.sharing import PARTS, charge_exposed
from nmsim.rules.stalls import Stall

Box = tuple[int, int, int, int]


class Sm:
    """Pipe, ports and stall account of one SM; times in ticks."""

    def __init__(self, index: int, timing: ChipTiming, l2: L2, mainloop: MainloopTicks, gather: Sequence[int] = ()) -> None:
        self.index = index
        self._gather = gather
        self._t = timing
        self._l2 = l2
        self._mainloop = mainloop
        self.read_port = Port(timing.port_rate)
        self.write_port = Port(timing.write_port_rate)
        self.l2_read_bytes = 0
        self.in_mainloop = 0
        self.pipe_free = 0
        self._pipe_remainder = 0
        self.reserved_ticks = [0] * len(mainloop.period)
        self.k_tiles = [0] * len(mainloop.period)
        self.stalls = [0] * len(Stall)
        self.last_end = 0
        self.last_split_wait = 0
        self.unexplained = 0

    def load(self, now: int, t: Descriptor, box: Box, nbytes: int) -> tuple[int, list[int]]:
        """Bring `nbytes` of a box of tensor `t` to shared memory. Returns (tick it has landed, its time by part)."""
        if self._t.ideal_memory:
            return now, [0] * PARTS
        landed, parts = now, [0] * PARTS
        asked = l2_bytes(t, nbytes)
        self.l2_read_bytes += asked
        for row_block, column_block, share in _blocks(t, self._gather, box, asked):
            data, block_parts = self._l2.read(now, self.index, t, row_block, column_block, share)
            if data > landed:
                landed, parts = data, block_parts
        passed = self.read_port.book(now + self._t.l2_near, nbytes)
        if passed > landed:
            parts[0] += passed - landed
            landed = passed
        return landed, parts

    def store(self, now: int, t: Descriptor, box: Box, nbytes: int) -> int:
        """Write `nbytes` of a box of tensor `t` to the L2. Returns the tick at which all of it has left the SM."""
        if self._t.ideal_memory:
            return now
        end = self.write_port.book(now, nbytes)
        for row_block, column_block, share in _blocks(t, self._gather, box, nbytes):
            end = max(end, self._l2.write(now, self.index, t, row_block, column_block, share))
        return end

    def reserve_pipe(self, now: int) -> tuple[int, int]:
        """Reserve the tensor pipe for one k-tile; returns (start, end)."""
        level = self.in_mainloop - 1
        start, end, self._pipe_remainder = serve(now, self.pipe_free, self._pipe_remainder, 1, self._mainloop.period[level])
        self.reserved_ticks[level] += end - start
        self.k_tiles[level] += 1
        self.pipe_free = end
        return start, end

    def charge_first_gap(self, start: int, began: int, parts: Sequence[int]) -> None:
        """Account for the pipe's idle time before a CTA's first k-tile, which starts at `start`; it began at `began`."""
        gap = start - self.pipe_free
        if gap <= 0:
            return
        before = min(gap, max(0, began - self.pipe_free))
        launch = min(before, self._t.cta_launch)
        self.stalls[Stall.CTA_LAUNCH] += launch
        self._charge_epilogue(before - launch)
        fill = min(gap - before, self._mainloop.fill)
        self.stalls[Stall.FILL_DRAIN] += fill
        self._charge_wait(gap - before - fill, parts)

    def charge_gap(self, start: int, parts: Sequence[int]) -> None:
        """Account for the pipe's idle time before a later k-tile: its operands were late."""
        self._charge_wait(start - self.pipe_free, parts)

    def close(self, total: int) -> None:
        """Account for the time from the last k-tile to the end of the kernel."""
        if self.last_end > self.pipe_free:
            self._charge_epilogue(self.last_end - self.pipe_free)
        self.stalls[Stall.IMBALANCE] += total - max(self.last_end, self.pipe_free)

    def _charge_epilogue(self, ticks: int) -> None:
        waited = min(ticks, self.last_split_wait)
        drained = min(ticks - waited, self._mainloop.drain)
        self.stalls[Stall.SPLIT_K_WAIT] += waited
        self.stalls[Stall.FILL_DRAIN] += drained
        self.stalls[Stall.EPILOGUE] += ticks - waited - drained

    def _charge_wait(self, exposed: int, parts: Sequence[int]) -> None:
        if exposed <= 0:
            return
        charged = [0] * PARTS
        self.unexplained += charge_exposed(exposed, parts, charged)
        for part, ticks in enumerate(charged):
            self.stalls[Stall.NOC_QUEUE + part] += ticks


def _blocks(t: Descriptor, gather: Sequence[int], box: Box, nbytes: int) -> list[tuple[int, int, int]]:
    """(row block, column block, share of the bytes) of each L2 block a box covers; the shares sum to `nbytes`."""
    first_row, last_row, first_column, last_column = block_range(t, gather, box)
    count = (last_row - first_row + 1) * (last_column - first_column + 1)
    share, larger = divmod(nbytes, count)
    blocks: list[tuple[int, int, int]] = []
    for row_block in range(first_row, last_row + 1):
        for column_block in range(first_column, last_column + 1):
            blocks.append((block_row(t, gather, row_block), column_block, share + (len(blocks) < larger)))
    return blocks
