"""The metadata decoder and selector in front of a tensor core.

Modelled: codes decoded per cycle, decoding one MMA ahead; the selector's latency lengthens the MMA, not its interval.
Not modelled: the width of the selector's multiplexers (a machine states the patterns that it holds natively).
"""

from __future__ import annotations

from nmsim.rules.server import serve
from nmsim.units import rate_of


class Decoder:
    """Decodes the codes of one MMA after another; times in core cycles. Without codes (a dense MMA) it is never in the way."""

    def __init__(self, codes_per_mma: int, codes_per_cycle: float, latency_cycles: int) -> None:
        self._rate = rate_of(codes_per_mma / codes_per_cycle)
        self.latency_cycles = latency_cycles if codes_per_mma else 0
        self._free = self._remainder = self._previous_request = 0

    def decode(self, now: int) -> int:
        """Decode for an MMA asked for at `now`, begun when the one before was asked for; returns when the codes stand."""
        _, self._free, self._remainder = serve(self._previous_request, self._free, self._remainder, 1, self._rate)
        self._previous_request = now
        return self._free
