"""The L2 of a time-stepped machine, tags and copies, in front of `tests.hw.naive_dram`; written in the same way, with nothing of nmsim."""

from __future__ import annotations

from dataclasses import dataclass

from tests.hw.naive_dram import Access, Channel, Job, Server

SPREAD = 40503
"""Multiplier of the published address hash of the model."""


@dataclass(eq=False)
class Fill:
    """A block on its way from DRAM; `at` is the tick at which it is in the L2, once that is known."""

    accesses: list[Access]
    controller: int
    at: int | None = None


@dataclass(eq=False)
class CopyFill:
    """A copy on its way from another partition, with the data that pass through on their way to an SM."""

    read: BlockRead
    to_the_sm: int
    """Ticks from the copying partition to its SMs."""

    @property
    def at(self) -> int | None:
        at = self.read.at()
        return None if at is None else at - self.to_the_sm


@dataclass(eq=False)
class BlockRead:
    """One block's part of a load: through the partition, there and back, and not before the block is filled."""

    job: Job
    latency: int
    missed: bool
    fill: Fill | CopyFill | None

    def at(self) -> int | None:
        """Tick of the data at the SM, None while it is not known."""
        if self.job.end is None:
            return None
        if self.fill is None:
            return self.job.end + self.latency
        return None if self.fill.at is None else max(self.job.end + self.latency, self.fill.at + self.latency - self.latency // 2)

    def landed(self, tick: int) -> bool:
        at = self.at()
        return at is not None and at <= tick


@dataclass(eq=False)
class Load:
    """Bytes on their way to one SM: every block of the box, and the SM's own port."""

    asked: int
    reads: list[BlockRead]
    port: Job | None
    at: int | None = None


@dataclass(eq=False)
class Store:
    """Bytes that leave one SM: its write port and the partitions that take them."""

    jobs: list[Job]


Piece = tuple[int, int]
"""(address, bytes) of a piece of a block, none larger than an interleave."""


@dataclass
class Tag:
    block: int
    pieces: list[Piece]
    dirty: bool

    @property
    def size(self) -> int:
        return sum(nbytes for _, nbytes in self.pieces)


class Memory:
    """Tags, partitions and channels of the machine."""

    def __init__(self, machine: dict[str, int], tags: list[list[Tag]], dirty_strangers: int) -> None:
        self._m = machine
        self._dirty_strangers = dirty_strangers
        """Bytes that an earlier kernel left: the first blocks placed push them out, piece by piece."""
        self.tags = tags or [[] for _ in range(machine["partition_mask"] + 1)]
        """By partition, least recently used first."""
        self._fills: dict[tuple[int, int], Fill | CopyFill] = {}
        """By partition and block."""
        self._unfilled: list[Fill] = []
        self.partitions = [Server() for _ in range(machine["partition_mask"] + 1)]
        self.channels = [Channel(machine, index) for index in range(machine["channels"])]
        self.lookups = self.misses = self.read_bytes = self.write_bytes = self.accesses = 0

    def read(self, tick: int, sm: int, home: int, block: int, pieces: list[Piece], nbytes: int) -> BlockRead:
        """From the SM's own partition where that has a copy, else from the block's home."""
        own = sm & self._m["partition_mask"]
        copies = self._m["l2_copies"]
        partition = own if copies and any(tag.block == block for tag in self.tags[own]) else home
        job = self.partitions[partition].put(tick, nbytes * self._m["l2_rate"])
        latency = self._latency(sm, partition)
        self.lookups += 1
        tag = self._touch(partition, block)
        if tag is None:
            self.misses += 1
            accesses = [self._access(job, latency // 2, piece, False) for piece in pieces]
            fill = Fill(accesses, self._m["controller"])
            self._fills[home, block] = fill
            self._unfilled.append(fill)
            self._push_strangers_out(pieces, job, latency // 2)
            self._place(home, Tag(block, pieces, False), job, latency // 2)
        read = BlockRead(job, latency, tag is None, self._fills.get((partition, block)))
        if copies and partition != own:
            self._fills[own, block] = CopyFill(read, self._m["l2_near"] - self._m["l2_near"] // 2)
            self._place(own, Tag(block, pieces, False), job, latency // 2)
        return read

    def write(self, tick: int, sm: int, home: int, block: int, pieces: list[Piece], nbytes: int) -> Job:
        """At home; other partitions lose their copies."""
        job = self.partitions[home].put(tick, nbytes * self._m["l2_rate"])
        self.lookups += 1
        tag = self._touch(home, block)
        if tag is None:
            self.misses += 1
            self._push_strangers_out(pieces, job, self._latency(sm, home) // 2)
            self._place(home, Tag(block, pieces, True), job, self._latency(sm, home) // 2)
        else:
            tag.dirty = True
        for partition, tags in enumerate(self.tags):
            if partition != home:
                self.tags[partition] = [tag for tag in tags if tag.block != block]
        return job

    def _latency(self, sm: int, partition: int) -> int:
        return self._m["l2_near"] if partition == sm & self._m["partition_mask"] else self._m["l2_far"]

    def _touch(self, partition: int, block: int) -> Tag | None:
        tags = self.tags[partition]
        for position, tag in enumerate(tags):
            if tag.block == block:
                tags.append(tags.pop(position))
                return tag
        return None

    def _push_strangers_out(self, pieces: list[Piece], cause: Job, delay: int) -> None:
        for address, nbytes in pieces:
            pushed_out = min(nbytes, self._dirty_strangers)
            if pushed_out:
                self._dirty_strangers -= pushed_out
                self._access(cause, delay, (address, pushed_out), True)

    def _place(self, partition: int, tag: Tag, cause: Job, delay: int) -> None:
        tags = self.tags[partition]
        tags.append(tag)
        while len(tags) > 1 and sum(resident.size for resident in tags) > self._m["l2_capacity"]:
            victim = tags.pop(0)
            if victim.dirty:
                for piece in victim.pieces:
                    self._access(cause, delay, piece, True)

    def _access(self, cause: Job, delay: int, piece: Piece, writes: bool) -> Access:
        address, nbytes = piece
        channels = self._m["channels"]
        stripe, place = divmod(address // 2 ** self._m["interleave_shift"], channels)
        rotation = (stripe * SPREAD // 128 % 1024) * channels // 1024
        row = stripe // 2 ** self._m["row_shift"]
        bank = (row * SPREAD // 32) % (self._m["bank_mask"] + 1)
        self.accesses += 1
        if writes:
            self.write_bytes += nbytes
        else:
            self.read_bytes += nbytes
        return self.channels[(place + rotation) % channels].put(cause, delay, bank, row, nbytes, writes)

    @property
    def draining(self) -> bool:
        """Some bus still has to carry something."""
        return any(channel.has_transfers for channel in self.channels)

    @property
    def drained(self) -> int:
        """Tick at which the last bus fell idle."""
        return max(channel.bus_idle_since for channel in self.channels)

    def advance(self) -> None:
        for partition in self.partitions:
            partition.advance()

    def settle(self, tick: int) -> bool:
        changed = False
        for partition in self.partitions:
            changed |= partition.settle(tick)
        for channel in self.channels:
            changed |= channel.settle(tick)
        for fill in self._unfilled:
            if all(access.landed(tick) for access in fill.accesses):
                fill.at = tick + fill.controller
                changed = True
        if changed:
            self._unfilled = [fill for fill in self._unfilled if fill.at is None]
        return changed
