"""The metadata decoder and the selector in front of a tensor core.

Modelled: codes decoded per cycle, of whatever the encoding calls a code, decoding one MMA ahead; a selector that chooses
among `width` elements of operand B in one turn, so that a wider group has B pass it several times; the latency that both add to an
MMA, not to its interval. Not modelled: a queue of decoded codes deeper than one MMA.
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


class Selector:
    """Passes operand B in front of the multiplexers; times in core cycles. In the way only where a group is wider than they are."""

    def __init__(self, turns: int, issue_interval_cycles: float) -> None:
        self._rate = rate_of(turns * issue_interval_cycles) if turns > 1 else 0
        self._remainder = 0
        self.free_at = 0

    def select(self, start: int) -> None:
        """Take an MMA whose operand B begins to pass at `start`."""
        _, self.free_at, self._remainder = serve(start, self.free_at, self._remainder, 1, self._rate)
