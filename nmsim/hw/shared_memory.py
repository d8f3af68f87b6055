"""The shared memory of an SM: one port of banks x bank width bytes a cycle, for fragment reads and copy writes alike.

Modelled: the port as a FIFO server, load latency, passes of accesses that meet bank conflicts (`nmsim.rules.banks`).
Not modelled: the order of bank accesses inside one instruction; the L1 cache that shares the array.
"""

from __future__ import annotations

from nmsim.rules.server import serve
from nmsim.units import rate_of


class SharedMemoryPort:
    """Serves accesses in order; times in core cycles."""

    def __init__(self, bytes_per_cycle: int, latency_cycles: int) -> None:
        self._rate = rate_of(1 / bytes_per_cycle)
        self._latency = latency_cycles
        self._free = self._remainder = 0
        self.bytes = 0

    def read(self, now: int, nbytes: int, port_bytes: int) -> tuple[int, int]:
        """Load `nbytes` in the passes of `port_bytes`. Returns (cycle the data are in registers, cycles spent queueing)."""
        self._serve(now, nbytes, port_bytes)
        return self._free + self._latency, self._free - now

    def write(self, now: int, nbytes: int, port_bytes: int) -> int:
        """Store or copy `nbytes` in the passes of `port_bytes`. Returns the cycle they are there."""
        self._serve(now, nbytes, port_bytes)
        return self._free

    def _serve(self, now: int, nbytes: int, port_bytes: int) -> None:
        _, self._free, self._remainder = serve(now, self._free, self._remainder, port_bytes, self._rate)
        self.bytes += nbytes
