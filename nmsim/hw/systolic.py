"""A systolic array at fold granularity: folds wait for the array, for operands from DRAM and for room for their results.

Modelled: load, stream and skew of each fold (`nmsim.rules.systolic`); double-buffered input, filter and output buffers: what
a segment needs is asked for when the segment before last has left the buffer half; one DRAM queue for reads and writes.
A stream starts as soon as it can run without a gap: its first vector has landed and its last one will in time. Likewise the
results of a segment are on their way out from the end of its stream on, the last of them when the wavefront has left the array.
Not modelled: ports and banks of the buffers, the time to decode metadata, what happens inside a fold cycle by cycle.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nmsim.errors import PhysicsError
from nmsim.hw.memory_queue import MemoryQueue, Transfer
from nmsim.mapping.systolic import Fold, Segment
from nmsim.rules.stalls import Stall
from nmsim.rules.systolic import Overlap
from nmsim.units import TICKS_PER_CYCLE

STATIONARY, STREAMED, WRITE, PARTIAL = range(4)
"""Ranks of transfers posted in one tick: partial sums leave before they are read back."""


@dataclass(frozen=True)
class ArrayTiming:
    """One array with its DRAM at one clock, in ticks."""

    overlap: Overlap
    load: int
    """Of a fold's stationary operand; 0 where there is none."""
    skew: int
    handover: int
    """From the end of a fold's stream to the earliest start of the next: what is left of the wavefront in its row or PE."""
    memory_rate: int
    """Fixed-point ticks per byte."""
    memory_latency: int


@dataclass(eq=False)
class ArrayOutcome:
    """What one run did, in ticks and bytes."""

    ticks: int = 0
    stream_ticks: int = 0
    """Vectors entering the array, one every cycle but for the port's."""
    port_ticks: int = 0
    """Of those: between two vectors, for a port that is narrower than the pattern needs."""
    stalls: dict[Stall, int] = field(default_factory=lambda: dict.fromkeys(Stall, 0))
    """Why none did."""
    dram_read_bytes: int = 0
    dram_write_bytes: int = 0
    dram_transfers: int = 0


def run_array(timing: ArrayTiming, folds: tuple[Fold, ...]) -> ArrayOutcome:
    """Run the folds in order. PhysicsError if a wait has no cause or the ticks do not add up."""
    return _Run(timing, folds).run()


class _Run:
    """The state of one run: who is where, and what has been asked of the memory."""

    def __init__(self, timing: ArrayTiming, folds: tuple[Fold, ...]) -> None:
        self.t, self.folds = timing, folds
        self.memory = MemoryQueue(timing.memory_rate)
        self.out = ArrayOutcome()
        self.segments = [segment for fold in folds for segment in fold.segments]
        self.stationary: dict[int, int] = {}
        self.streamed: dict[int, list[int]] = {}
        self.loaded = 0
        self.load_cause: Transfer | None = None
        self.stream_end = self.array_empty = 0
        self.write_ticket = [0, 0]
        """Last write into DRAM of the two halves of the output buffer."""
        self.half = 0

    def run(self) -> ArrayOutcome:
        for ahead in (0, 1):
            self.fetch_stationary(ahead, 0)
        for ahead in (0, 1):
            self.fetch_streamed(ahead, 0)
        step = 0
        overlapped = self.t.overlap != "none"
        for number, fold in enumerate(self.folds):
            if number == 0 or not overlapped:
                self.load(number, self.array_empty)
            for position, segment in enumerate(fold.segments):
                begun = self.stream(step, segment, first=position == 0)
                if position == 0 and overlapped and number + 1 < len(self.folds):
                    self.load(number + 1, begun)  # into the second registers, behind the wavefront that frees them
                step += 1
        return self.finish()

    def load(self, number: int, free: int) -> None:
        """Bring in the stationary operand of a fold from tick `free` on."""
        self.load_cause = None
        start = free
        if number in self.stationary:
            cause = self.memory.served(self.stationary.pop(number))
            if (landed := self.in_time(cause, self.t.load)) > start:
                start, self.load_cause = landed, cause
        self.loaded = start + self.t.load
        self.fetch_stationary(number + 2, self.loaded)

    def stream(self, step: int, segment: Segment, *, first: bool) -> int:
        """Stream a segment as soon as everything allows, say what it waited for, and return its start."""
        length = segment.cycles * TICKS_PER_CYCLE
        if segment.opens_output:
            self.half ^= 1
        now = self.stream_end
        if first and step > 0:
            now = self.array_empty if self.t.overlap == "none" else now + self.t.handover
            self.out.stalls[Stall.FILL_DRAIN] += now - self.stream_end
        if first and self.loaded > now:
            self.charge_load(now)
            now = self.loaded
        ticket = self.write_ticket[self.half]
        # Room is made in the order in which results come, the last of them a skew after the stream has begun.
        if segment.opens_output and ticket and (room := self.memory.served(ticket).end - self.t.skew) > now:
            self.out.stalls[Stall.EPILOGUE] += room - now
            now = room
        if step in self.streamed:
            causes = [self.memory.served(ticket) for ticket in self.streamed.pop(step)]
            landed, cause = max((self.in_time(cause, length), cause) for cause in causes)
            if landed > now:
                self.charge_memory(now, landed, cause)
                now = landed
        self.stream_end = now + length
        self.array_empty = self.stream_end + self.t.skew
        self.out.stream_ticks += length
        self.out.port_ticks += length - segment.vectors * TICKS_PER_CYCLE
        if segment.write_bytes:
            self.write_ticket[self.half] = self.memory.post(self.stream_end, WRITE, segment.write_bytes)
            self.out.dram_write_bytes += segment.write_bytes
            self.out.dram_transfers += 1
        self.fetch_streamed(step + 2, self.stream_end)
        return now

    def fetch_stationary(self, number: int, time: int) -> None:
        """Ask for the stationary tile of a fold."""
        if number < len(self.folds) and (nbytes := self.folds[number].stationary_bytes):
            self.stationary[number] = self.read(time, STATIONARY, nbytes)

    def fetch_streamed(self, step: int, time: int) -> None:
        """Ask for what a segment streams and the partial sums it adds to."""
        if step >= len(self.segments):
            return
        segment = self.segments[step]
        tickets = [self.read(time, STREAMED, nbytes) for nbytes in segment.fetch_bytes if nbytes]
        if segment.partial_bytes:
            tickets.append(self.read(time, PARTIAL, segment.partial_bytes))
        if tickets:
            self.streamed[step] = tickets

    def read(self, time: int, rank: int, nbytes: int) -> int:
        self.out.dram_read_bytes += nbytes
        self.out.dram_transfers += 1
        return self.memory.post(time, rank, nbytes)

    def in_time(self, transfer: Transfer, length: int) -> int:
        """Earliest start of `length` ticks of taking vectors, the first of them there and the last of them in time."""
        vectors = length // TICKS_PER_CYCLE
        first = transfer.start + -(-(transfer.end - transfer.start) // vectors)
        last = transfer.end - (length - TICKS_PER_CYCLE)
        return max(first, last) + self.t.memory_latency

    def charge_load(self, now: int) -> None:
        """A stream waits for its load: for the load itself, and before it for the tile."""
        loading = min(self.loaded - now, self.t.load)
        self.out.stalls[Stall.FILL_DRAIN] += loading
        if self.loaded - now > loading:
            if self.load_cause is None:
                raise PhysicsError(f"a load that ends at tick {self.loaded} waits from tick {now} for nothing")
            self.charge_memory(now, self.loaded - self.t.load, self.load_cause)

    def charge_memory(self, since: int, until: int, cause: Transfer) -> None:
        """Split a wait for a transfer over its parts, the last of them first: what was hidden is its early life."""
        wait, stalls = until - since, self.out.stalls
        queue, latency = cause.start - cause.posted, self.t.memory_latency
        for stall, part in (
            (Stall.DRAM_BUS, until - cause.start - latency),
            (Stall.DRAM_ROW, latency),
            (Stall.DRAM_QUEUE, queue),
        ):
            taken = min(wait, part)
            stalls[stall] += taken
            wait -= taken
        if wait:
            raise PhysicsError(f"{wait} ticks of waiting until tick {until} have no cause")

    def finish(self) -> ArrayOutcome:
        """The last wavefront leaves, then the last results."""
        out = self.out
        out.stalls[Stall.FILL_DRAIN] += self.t.skew
        written = max(self.memory.served(ticket).end for ticket in self.write_ticket if ticket)
        out.ticks = max(self.array_empty, written)
        out.stalls[Stall.EPILOGUE] += out.ticks - self.array_empty
        if out.stream_ticks + sum(out.stalls.values()) != out.ticks:
            raise PhysicsError(f"{out.stream_ticks} ticks of streaming and the stalls do not add up to {out.ticks}")
        return out
