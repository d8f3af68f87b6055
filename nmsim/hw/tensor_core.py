"""One tensor core: a pipe that takes an MMA every issue interval and gives its accumulators a latency later.

Modelled: issue interval (a ratio, carried), latency, operand reads from the register file, metadata decode and select.
Not modelled: operand-reuse caches, bank conflicts of the register file, the split of one MMA into internal steps.
"""

from __future__ import annotations

from nmsim.arch.spec import MmaSpec, TensorCoreSpec
from nmsim.hw.decoder import Decoder, Selector
from nmsim.rules.server import serve
from nmsim.rules.stalls import Stall
from nmsim.units import rate_of


class TensorCore:
    """Reserves MMAs in order; times in core cycles."""

    def __init__(
        self, issue_interval_cycles: float, latency_cycles: int, register_cycles: float, decoder: Decoder, selector_turns: int = 1
    ) -> None:
        self._interval = rate_of(issue_interval_cycles)
        self._register = rate_of(register_cycles)
        self._latency = latency_cycles + decoder.latency_cycles
        self._decoder = decoder
        self._selector = Selector(selector_turns, issue_interval_cycles)
        self._remainder = self._register_free = self._register_remainder = 0
        self.free_at = 0
        self.busy_cycles = 0
        self.idle = [0] * len(Stall)

    def issue(self, now: int, fragments_ready: int, port_wait: int, accumulator_ready: int) -> tuple[int, int]:
        """Reserve the next MMA of a warp that asks at `now`. Returns (start, tick its accumulator may be used again).

        `fragments_ready` is when its operands are in registers, of which `port_wait` was spent queueing for shared memory.
        """
        selected = self._decoder.decode(now)
        ready = max(now, fragments_ready, accumulator_ready, selected, self._register_free, self._selector.free_at)
        start, end, self._remainder = serve(ready, self.free_at, self._remainder, 1, self._interval)
        if start > self.free_at:
            self._charge(start - self.free_at, ready, fragments_ready, port_wait, selected)
        _, self._register_free, self._register_remainder = serve(start, self._register_free, self._register_remainder, 1, self._register)
        self._selector.select(start)
        self.free_at = end
        self.busy_cycles += end - start
        return start, start + self._latency

    @property
    def taken_at(self) -> int:
        """Cycle at which the last MMA has left the issue stage: its operands are read, and the pipe could take another."""
        return max(self.free_at, self._register_free)

    def _charge(self, gap: int, ready: int, fragments_ready: int, port_wait: int, selected: int) -> None:
        """Name the cause of an idle gap: what was ready last."""
        if ready == selected:
            self.idle[Stall.METADATA] += gap
        elif ready == fragments_ready:
            queued = min(gap, port_wait)
            self.idle[Stall.SHARED_MEMORY] += queued
            self.idle[Stall.MATH_LATENCY] += gap - queued
        elif ready == self._register_free:
            self.idle[Stall.REGISTER_FILE] += gap
        elif ready == self._selector.free_at:
            self.idle[Stall.SELECTOR] += gap
        else:
            self.idle[Stall.MATH_LATENCY] += gap


def tensor_cores(core: TensorCoreSpec, mma: MmaSpec, codes_per_mma: int, register_bytes_per_mma: float, *, count: int) -> list[TensorCore]:
    """`count` idle tensor cores for a run of one instruction, of which each takes `codes_per_mma` and reads that many register bytes."""
    decoder = core.decoder
    return [
        TensorCore(
            mma.issue_interval_cycles,
            mma.latency_cycles,
            register_bytes_per_mma / core.register_read_bytes_per_cycle,
            Decoder(codes_per_mma, decoder.codes_per_cycle, decoder.latency_cycles),
            1 if mma.nm is None else decoder.selector_turns(mma.nm.m),
        )
        for _ in range(count)
    ]
