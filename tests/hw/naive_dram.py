"""Servers and DRAM of a time-stepped machine: queues, banks and buses moved on one tick at a time. Imports nothing of nmsim.

Written from the documented meaning of each unit, not from its code; slow and plain on purpose. `settle(tick)` may be called
any number of times in a tick and says whether anything changed; `advance()` is called once, between two ticks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

ONE_TICK = 1 << 20
"""Work is counted in 2**-20 ticks: a server works off exactly this much in a tick."""


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
