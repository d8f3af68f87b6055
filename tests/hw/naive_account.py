"""Why the pipe of an SM was idle, told from the history of what it waited for. Imports nothing of nmsim."""

from __future__ import annotations

from collections import Counter

from tests.hw.naive_dram import Access
from tests.hw.naive_memory import BlockRead, Fill, Load

LATEST_FIRST = ("dram_bus", "dram_row", "dram_queue", "l2_latency", "l2_queue", "noc_queue")
"""A wait that shows is the end of a request's life; what was hidden is its beginning."""


class Account:
    """Idle ticks of one SM by reason."""

    def __init__(self) -> None:
        self.ticks: Counter[str] = Counter()
        self.last_split_wait = 0

    def before_first_k_tile(self, idle_since: int, began: int, start: int, launch: int, drain: int, fill: int, latest: Load) -> None:
        """Idle until the CTA began (the epilogue before it, its launch just before), then for its operands, then its fill."""
        until_began = max(0, began - idle_since)
        launching = min(until_began, launch)
        self.ticks["cta_launch"] += launching
        self._epilogue(until_began - launching, drain)
        waiting = start - max(began, idle_since)
        filling = min(waiting, fill)
        self.ticks["fill_drain"] += filling
        self.late_operands(waiting - filling, latest)

    def late_operands(self, wait: int, latest: Load) -> None:
        """The last of `wait` ticks belongs to the last thing that happened to the request, and so on backwards."""
        life = life_of(latest)
        for part in LATEST_FIRST:
            share = min(wait, life[part])
            self.ticks[part] += share
            wait -= share
        self.ticks["unexplained"] += wait

    def after_last_k_tile(self, idle_since: int, last_end: int, total: int, drain: int) -> None:
        if last_end > idle_since:
            self._epilogue(last_end - idle_since, drain)
        self.ticks["imbalance"] += total - max(last_end, idle_since)

    def _epilogue(self, ticks: int, drain: int) -> None:
        waited = min(ticks, self.last_split_wait)
        drained = min(ticks - waited, drain)
        self.ticks["split_k_wait"] += waited
        self.ticks["fill_drain"] += drained
        self.ticks["epilogue"] += ticks - waited - drained


def life_of(load: Load) -> Counter[str]:
    """The time of a load by part: that of its latest block, and what the SM's own port adds."""
    life: Counter[str] = Counter()
    data = load.asked
    for read in load.reads:
        at = read.at()
        assert at is not None
        if at > data:
            data, life = at, _life_of_block(load.asked, read, at)
    if load.port is not None and load.port.end is not None and load.port.end > data:
        life["noc_queue"] += load.port.end - data
    return life


def _life_of_block(asked: int, read: BlockRead, at: int) -> Counter[str]:
    assert read.job.start is not None
    assert read.job.end is not None
    life = Counter({"l2_queue": read.job.start - asked})
    if read.missed:
        assert isinstance(read.fill, Fill)
        life += _life_of_fill(read.fill.accesses, read.fill.controller)
    elif read.fill is not None:
        life["dram_queue"] = at - (read.job.end + read.latency)
    life["l2_latency"] = at - asked - sum(life.values())
    return life


def _life_of_fill(accesses: list[Access], controller: int) -> Counter[str]:
    """That of its last piece, the first of them where several end at once."""
    last = max(accesses, key=lambda access: access.landing)
    assert last.began is not None
    assert last.data is not None
    row = last.data - last.began
    queue = last.landing - last.arrival - row - last.burst
    return Counter({"dram_queue": queue, "dram_row": row, "dram_bus": last.burst + controller})
