"""The memory of a time-stepped machine: queues, banks and tags moved on one tick at a time. Imports nothing of nmsim.

Written from the documented meaning of each unit, not from its code; slow and plain on purpose. `settle(tick)` may be called
any number of times in a tick and says whether anything changed; `advance()` is called once, between two ticks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

ONE_TICK = 1 << 20
"""Work is counted in 2**-20 ticks: a server works off exactly this much in a tick."""
SPREAD = 40503
"""Multiplier of the published address hash of the model."""


@dataclass(eq=False)
class Job:
    """Work for a server; `start` and `end` are set when it happens."""

    arrival: int
    work: int
    start: int | None = None
    end: int | None = None

    @property
    def ticks(self) -> int:
        assert self.start is not None
        assert self.end is not None
        return self.end - self.start


class Server:
    """One job at a time, first come first served; what is left of a tick when a job ends is spent on the next one."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._serving: Job | None = None
        self._left = 0
        self._owed = 0

    def put(self, arrival: int, work: int) -> Job:
        job = Job(arrival, work)
        self._waiting.append(job)
        return job

    def advance(self) -> None:
        if self._serving is not None:
            self._left -= ONE_TICK

    def settle(self, tick: int) -> bool:
        changed = False
        while True:
            if self._serving is not None:
                if self._left >= ONE_TICK:
                    return changed
                self._serving.end, self._owed, self._serving = tick, self._left, None
            elif self._waiting and self._waiting[0].arrival <= tick:
                self._serving = self._waiting.popleft()
                self._serving.start = tick
                self._left = self._serving.work + self._owed
            else:
                return changed
            changed = True


@dataclass(eq=False)
class Access:
    """One access of a channel: at most an interleave of one row. It arrives `delay` after `cause` started."""

    cause: Job
    delay: int
    bank: int
    row: int
    writes: bool
    burst: int
    opens: bool = False
    follows_open_row: bool = False
    turn: int = 0
    """Ticks for which the bus turns around before it, with the batch of writes that it completes."""
    before: Access | None = None
    """The access of the same bank before it."""
    began: int | None = None
    activated: int | None = None
    column: int | None = None
    data: int | None = None
    """Tick at which the bank could give the first byte."""
    slot: int | None = None
    slot_end: int | None = None

    def arrived(self, tick: int) -> bool:
        return self.cause.start is not None and self.arrival <= tick

    @property
    def arrival(self) -> int:
        assert self.cause.start is not None
        return self.cause.start + self.delay

    def landed(self, tick: int) -> bool:
        """Both the bank and the bus are through with it."""
        return self.slot_end is not None and self.data is not None and self.landing <= tick

    @property
    def landing(self) -> int:
        assert self.slot_end is not None
        assert self.data is not None
        return max(self.slot_end, self.data + self.burst)


@dataclass(eq=False)
class Bank:
    waiting: deque[Access] = field(default_factory=deque)
    """Accesses that had no column command yet; they get it in order."""
    last: Access | None = None
    opener: Access | None = None


class Channel:
    """Banks that work through their rows, and a bus that gives slots in order; neither waits for the other."""

    def __init__(self, machine: dict[str, int], index: int) -> None:
        self._m = machine
        self._first_refresh = machine["refresh_interval"] * (index + 1) // machine["channels"]
        self._banks = [Bank() for _ in range(machine["bank_mask"] + 1)]
        self._bus: deque[Access] = deque()
        self._transfer: Access | None = None
        self.bus_idle_since = 0
        self._work = 0
        self._buffered_writes = 0
        self.activates = 0

    def put(self, cause: Job, delay: int, bank_index: int, row: int, nbytes: int, writes: bool) -> Access:
        ticks_before = self._work // ONE_TICK
        self._work += nbytes * self._m["bus_rate"]
        access = Access(cause, delay, bank_index, row, writes, self._work // ONE_TICK - ticks_before)
        bank = self._banks[bank_index]
        access.before = bank.last
        if bank.opener is None or bank.opener.row != row:
            access.opens, access.follows_open_row = True, bank.opener is not None
            bank.opener = access
            self.activates += 1
        bank.last = access
        bank.waiting.append(access)
        if writes:
            self._buffered_writes += 1
            if self._buffered_writes >= self._m["write_batch"]:
                self._buffered_writes = 0
                access.turn = 2 * self._m["turnaround"]
        self._bus.append(access)
        return access

    @property
    def has_transfers(self) -> bool:
        return bool(self._bus) or self._transfer is not None

    def settle(self, tick: int) -> bool:
        changed = False
        for bank in self._banks:
            while bank.waiting and self._bank_step(bank.waiting[0], tick):
                bank.waiting.popleft()
                changed = True
        while self._bus_step(tick):
            changed = True
        return changed

    def _bank_step(self, access: Access, tick: int) -> bool:
        """Precharge, activate, column command, each once what it waits for is over; True at the column command."""
        m, before = self._m, access.before
        if not access.arrived(tick):
            return False
        if not access.opens:
            assert before is not None
            if before.column is None or tick < before.column + before.burst:
                return False
            access.began = tick
            return self._column(access, tick)
        if access.began is None:
            if before is not None and not self._row_may_close(before, tick):
                return False
            access.began = tick
            access.activated = tick + (m["precharge"] if access.follows_open_row else 0)
        assert access.activated is not None
        if tick < access.activated + m["activate"]:
            return False
        return self._column(access, tick)

    def _column(self, access: Access, tick: int) -> bool:
        access.column, access.data = tick, tick + self._m["column_access"]
        return True

    def _row_may_close(self, last: Access, tick: int) -> bool:
        """tRAS is over and the data of every access to the open row have left the bank."""
        access: Access | None = last
        while access is not None:
            if access.data is None or tick < access.data:
                return False
            if access.opens:
                assert access.activated is not None
                return tick >= access.activated + self._m["row_active"]
            access = access.before
        return True

    def _bus_step(self, tick: int) -> bool:
        if self._transfer is not None:
            assert self._transfer.slot is not None
            if tick < self._transfer.slot + self._transfer.burst:
                return False
            self._transfer.slot_end = self.bus_idle_since = tick
            self._transfer = None
            return True
        if not self._bus or not self._bus[0].arrived(tick):
            return False
        access = self._bus[0]
        if tick < max(access.arrival, self.bus_idle_since) + access.turn or self._refreshing(tick):
            return False
        self._transfer = self._bus.popleft()
        self._transfer.slot = tick
        return True

    def _refreshing(self, tick: int) -> bool:
        since = tick - self._first_refresh
        return since >= 0 and since % self._m["refresh_interval"] < self._m["refresh"]


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
