"""An SM's L1 as a dependent load meets it: lines kept by least recent use, one latency.

GEMM operands do not pass through it: asynchronous copies bypass the L1 on their way to shared memory.
Modelled: capacity, least recent use, hit latency. Not modelled: bandwidth, sectors, sets and ways, stores.
"""

from __future__ import annotations

from collections import OrderedDict


class L1:
    """Which lines are held."""

    def __init__(self, lines: int) -> None:
        self._lines = lines
        self._held: OrderedDict[int, None] = OrderedDict()

    def touch(self, line: int) -> bool:
        """Look a line up and keep it; True where it was held."""
        hit = line in self._held
        self._held[line] = None
        self._held.move_to_end(line)
        if len(self._held) > self._lines:
            self._held.popitem(last=False)
        return hit
