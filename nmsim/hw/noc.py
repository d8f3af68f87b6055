"""An SM's ports into the network: what it may receive and send per cycle.

Modelled: each SM's own bandwidth, booked in the order of its requests (late data passes in its booked slot).
Not modelled: contention inside the crossbar beyond the L2 partitions' own rate.
"""

from __future__ import annotations

from nmsim.rules.server import serve


class Port:
    """One direction of one SM's port; times in ticks, rate in fixed-point ticks per byte."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._free = self._remainder = 0
        self.bytes = 0

    def book(self, arrival: int, nbytes: int) -> int:
        """Reserve the port for `nbytes`; returns the tick at which the last of them has passed."""
        _, self._free, self._remainder = serve(arrival, self._free, self._remainder, nbytes, self._rate)
        self.bytes += nbytes
        return self._free
