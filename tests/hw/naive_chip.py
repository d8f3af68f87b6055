"""A deliberately naive, time-stepped model of the whole chip level: every tick is walked. Imports nothing of nmsim.

Two engines that share their rules can share an error. This third one shares only plain data (machine numbers, CTA rows,
tensor descriptors, all by name) and the documented meanings. In each tick the memory moves until nothing changes; then, of
all CTAs that can take their next step, the first in the canonical order takes it; until none can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.hw.naive_account import Account
from tests.hw.naive_boxes import BlockPart, Box, Descriptor, blocks_of, box_of, bytes_of
from tests.hw.naive_dram import Job, Server
from tests.hw.naive_memory import Load, Memory, Store, Tag

END, BEGIN, EPILOGUE, WRITE, START, FETCH = range(6)
"""Same-tick order: what frees a resource comes before what takes one."""


@dataclass(frozen=True)
class PlainKernel:
    """A launch as plain lists and names."""

    ctas: list[Mapping[str, int]]
    operands: list[list[Descriptor]]
    outputs: list[Descriptor]
    gather: list[int]
    accumulate: list[int]
    tile: tuple[int, int, int]
    lookahead: int
    occupancy: int
    period: tuple[int, ...]
    fill: int
    drain: int
    exchange: int
    strip_rows: int


@dataclass(eq=False)
class Sm:
    index: int
    read_port: Server = field(default_factory=Server)
    write_port: Server = field(default_factory=Server)
    pipe: Server = field(default_factory=Server)
    in_mainloop: int = 0
    booked: list[tuple[int, Job]] = field(default_factory=list)
    """(CTAs in their mainloop, reservation) of every k-tile."""
    account: Account = field(default_factory=Account)
    last_end: int = 0


@dataclass(eq=False)
class Cta:
    number: int
    sm: Sm
    due: int | None
    """Tick of the next step, None while it is not known yet."""
    step: int = BEGIN
    k_tile: int = 0
    has_asked: bool = False
    """This k-tile's START has asked for the k-tile that takes the freed stage, and now waits for the pipe."""
    loads: list[list[Load]] = field(default_factory=list)
    k_tile_in_pipe: Job | None = None
    source: Load | None = None
    """What the present strip of the output tile is added to, if anything."""
    asked: int = 0
    """Tick at which the present strip was begun."""
    strip: int = 0
    stores: list[Store] = field(default_factory=list)
    in_line: bool = False
    began: int = 0
    drained: int = 0
    waited: int = 0
    """Ticks in line for the slice before."""


@dataclass(frozen=True)
class NaiveOutcome:
    ticks: int
    k_tiles: list[list[int]]
    reserved_ticks: list[list[int]]
    stalls: list[dict[str, int]]
    l2_read_bytes: int
    l2_write_bytes: int
    dram_read_bytes: int
    dram_write_bytes: int
    dram_activates: int
    dram_accesses: int
    block_lookups: int
    block_misses: int
    longest_cta: int
    drained: int


class NaiveChip:
    """One launch; `tags` are what an earlier one left in the L2."""

    def __init__(self, machine: Mapping[str, int], kernel: PlainKernel, tags: list[list[Tag]], dirty_strangers: int) -> None:
        self._m, self._k = dict(machine), kernel
        self.memory = Memory(self._m, tags, dirty_strangers)
        self._sms = [Sm(index) for index in range(machine["sms"])]
        self._waiting_ctas = list(range(len(kernel.ctas)))
        self._resident: list[Cta] = []
        self._pending_loads: list[Load] = []
        self._slices_done: dict[int, int] = {}
        self._seen_from: dict[int, int] = {}
        self._read = self._written = self._longest = 0

    def run(self) -> NaiveOutcome:
        for _ in range(self._k.occupancy):
            for sm in self._sms:
                self._launch(sm, 0)
        tick = 0
        while self._resident:
            self._settle(tick)
            ready = [cta for cta in self._resident if self._can_step(cta, tick)]
            if ready:
                self._take_step(min(ready, key=lambda cta: (cta.step, cta.sm.index, cta.number)), tick)
            else:
                tick += 1
                self._advance()
        while self.memory.draining:
            tick += 1
            self._advance()
            self._settle(tick)
        return self._outcome()

    def _advance(self) -> None:
        self.memory.advance()
        for sm in self._sms:
            sm.read_port.advance()
            sm.write_port.advance()
            sm.pipe.advance()

    def _settle(self, tick: int) -> None:
        changed = True
        while changed:
            changed = self.memory.settle(tick)
            for sm in self._sms:
                changed |= sm.read_port.settle(tick) | sm.write_port.settle(tick) | sm.pipe.settle(tick)
        for load in self._pending_loads:
            if (load.port is None or load.port.end is not None) and all(read.landed(tick) for read in load.reads):
                load.at = tick
        self._pending_loads = [load for load in self._pending_loads if load.at is None]

    def _can_step(self, cta: Cta, tick: int) -> bool:
        if cta.due is None:
            cta.due = self._due(cta)
        if cta.due is None or cta.due > tick:
            return False
        if cta.step == START and cta.has_asked:
            return self._pipe_is_free(cta.sm, tick)
        return not cta.in_line or self._may_go_on(cta)

    @staticmethod
    def _pipe_is_free(sm: Sm, tick: int) -> bool:
        end = sm.booked[-1][1].end if sm.booked else 0
        return end is not None and end <= tick

    def _may_go_on(self, cta: Cta) -> bool:
        """The slice before this one of its output tile has ended."""
        row = self._k.ctas[cta.number]
        return self._slices_done.get(row["tile"], 0) >= row["slice"]

    def _due(self, cta: Cta) -> int | None:
        """When what the CTA waits for has happened: its operands and its turn in the pipe, its strip, its stores."""
        if cta.step in (START, EPILOGUE, FETCH):
            in_pipe = 0 if cta.k_tile_in_pipe is None else cta.k_tile_in_pipe.end
            if in_pipe is None:
                return None
            if cta.step == EPILOGUE:
                return in_pipe + self._k.drain
            if cta.step == FETCH:
                return in_pipe
            landed = [load.at for load in cta.loads[cta.k_tile]]
            if any(at is None for at in landed):
                return None
            last = max(at for at in landed if at is not None)
            return max(in_pipe, last + (self._k.fill if cta.k_tile == 0 else 0))
        if cta.step == WRITE:
            there = cta.asked if cta.source is None else cta.source.at
            return None if there is None else there + self._k.exchange
        jobs = [job for store in cta.stores for job in store.jobs]
        ends = [job.end for job in jobs if job.end is not None]
        return max(ends) if len(ends) == len(jobs) else None

    def _take_step(self, cta: Cta, tick: int) -> None:
        steps = {BEGIN: self._begin, START: self._start, FETCH: self._fetch, EPILOGUE: self._epilogue, WRITE: self._write, END: self._end}
        steps[cta.step](cta, tick)

    def _launch(self, sm: Sm, tick: int) -> None:
        if self._waiting_ctas:
            self._resident.append(Cta(self._waiting_ctas.pop(0), sm, tick + self._m["cta_launch"]))

    def _begin(self, cta: Cta, tick: int) -> None:
        cta.sm.in_mainloop += 1
        cta.began = tick
        for k_tile in range(min(max(1, self._k.lookahead), self._k_tiles(cta))):
            self._ask(cta, k_tile, tick)
        cta.step, cta.due = START, None

    def _fetch(self, cta: Cta, tick: int) -> None:
        """Nothing was asked for ahead: the k-tile before is through, and now the next one is."""
        self._ask(cta, cta.k_tile, tick)
        cta.step, cta.due = START, None

    def _start(self, cta: Cta, tick: int) -> None:
        """The stage freed by the k-tile before is asked for again; this k-tile takes the pipe, or waits: the oldest CTA goes first."""
        if not cta.has_asked:
            cta.has_asked = True
            ahead = cta.k_tile + self._k.lookahead
            if self._k.lookahead and ahead < self._k_tiles(cta):
                self._ask(cta, ahead, tick)
        if not self._pipe_is_free(cta.sm, tick):
            return
        cta.has_asked = False
        self._account(cta, tick)
        cta.k_tile_in_pipe = cta.sm.pipe.put(tick, self._k.period[cta.sm.in_mainloop - 1])
        cta.sm.booked.append((cta.sm.in_mainloop, cta.k_tile_in_pipe))
        cta.k_tile += 1
        following = START if self._k.lookahead else FETCH
        cta.step, cta.due = (EPILOGUE if cta.k_tile == self._k_tiles(cta) else following), None

    def _account(self, cta: Cta, tick: int) -> None:
        """Name the reasons of the ticks for which the pipe has had nothing to do, if any."""
        idle_since = cta.sm.booked[-1][1].end if cta.sm.booked else 0
        if idle_since is None or idle_since >= tick:
            return
        latest = max(cta.loads[cta.k_tile], key=lambda load: load.at or 0)
        if cta.k_tile == 0:
            cta.sm.account.before_first_k_tile(idle_since, cta.began, tick, self._m["cta_launch"], self._k.drain, self._k.fill, latest)
        else:
            cta.sm.account.late_operands(tick - idle_since, latest)

    def _epilogue(self, cta: Cta, tick: int) -> None:
        """Out of the mainloop; with K split, only once the slice before has added its sums."""
        row = self._k.ctas[cta.number]
        if not cta.in_line:
            cta.sm.in_mainloop -= 1
            cta.in_line, cta.drained = True, tick
            self._longest = max(self._longest, tick - cta.began)
            if self._slices_done.get(row["tile"], 0) < row["slice"]:
                return
            if row["slice"] > 0 and self._seen_from[row["tile"]] > tick:
                cta.due = self._seen_from[row["tile"]]
                return
        cta.in_line, cta.waited = False, tick - cta.drained
        self._next_strip(cta, tick)

    def _next_strip(self, cta: Cta, tick: int) -> None:
        row = self._k.ctas[cta.number]
        cta.asked, cta.source = tick, None
        if row["slice"] > 0 or self._k.accumulate[row["group"]]:
            cta.source = self._load(cta.sm, tick, *self._output(row, cta.strip))
        cta.step, cta.due = WRITE, None

    def _write(self, cta: Cta, tick: int) -> None:
        row = self._k.ctas[cta.number]
        cta.stores.append(self._store(cta.sm, tick, *self._output(row, cta.strip)))
        cta.strip += 1
        if row["m0"] + cta.strip * self._k.strip_rows < row["m1"]:
            self._next_strip(cta, tick)
        else:
            cta.step, cta.due = END, None

    def _end(self, cta: Cta, tick: int) -> None:
        row = self._k.ctas[cta.number]
        self._resident.remove(cta)
        self._slices_done[row["tile"]] = row["slice"] + 1
        self._seen_from[row["tile"]] = tick + self._m["handover"]
        for other in self._resident:
            if other.in_line and self._k.ctas[other.number]["tile"] == row["tile"] and self._may_go_on(other):
                other.due = tick + self._m["handover"]
        cta.sm.last_end, cta.sm.account.last_split_wait = tick, cta.waited
        self._launch(cta.sm, tick)

    def _k_tiles(self, cta: Cta) -> int:
        row = self._k.ctas[cta.number]
        return -(-(row["k1"] - row["k0"]) // self._k.tile[2])

    def _ask(self, cta: Cta, k_tile: int, tick: int) -> None:
        row = self._k.ctas[cta.number]
        k0 = row["k0"] + k_tile * self._k.tile[2]
        k1 = min(row["k1"], k0 + self._k.tile[2])
        loads = []
        for t in self._k.operands[row["group"]]:
            x0, x1 = (row["m0"], row["m1"]) if t["dimension"] == 0 else (row["n0"], row["n1"])
            box = box_of(t, self._k.gather, x0, x1, k0, k1, row["batch"])
            loads.append(self._load(cta.sm, tick, t, box, bytes_of(t, x1 - x0, k1 - k0)))
        cta.loads.append(loads)

    def _output(self, row: Mapping[str, int], strip: int) -> tuple[Descriptor, Box, int]:
        """A strip of rows of the output tile."""
        t = self._k.outputs[row["group"]]
        first = row["m0"] + strip * self._k.strip_rows
        sides = (first, min(row["m1"], first + self._k.strip_rows)), (row["n0"], row["n1"])
        (x0, x1), (y0, y1) = sides if t["dimension"] == 0 else sides[::-1]
        return t, box_of(t, self._k.gather, x0, x1, y0, y1, row["batch"]), bytes_of(t, x1 - x0, y1 - y0)

    def _load(self, sm: Sm, tick: int, t: Descriptor, box: Box, nbytes: int) -> Load:
        if self._m["ideal_memory"]:
            return Load(tick, [], None, tick)
        asked = -(-nbytes // t["shared_by"])  # the rest of the tile is what others of the cluster ask for
        reads = [
            self.memory.read(tick, sm.index, self._partition(t, part), part.block, part.pieces, share)
            for part, share in blocks_of(t, box, asked, self._m["interleave_shift"])
        ]
        port = sm.read_port.put(tick + self._m["l2_near"], nbytes * self._m["port_rate"])
        self._read += asked
        load = Load(tick, reads, port)
        self._pending_loads.append(load)
        return load

    def _store(self, sm: Sm, tick: int, t: Descriptor, box: Box, nbytes: int) -> Store:
        if self._m["ideal_memory"]:
            return Store([Job(tick, 0, tick, tick)])
        jobs = [sm.write_port.put(tick, nbytes * self._m["write_port_rate"])]
        for part, share in blocks_of(t, box, nbytes, self._m["interleave_shift"]):
            jobs.append(self.memory.write(tick, sm.index, self._partition(t, part), part.block, part.pieces, share))
        self._written += nbytes
        return Store(jobs)

    def _partition(self, t: Descriptor, part: BlockPart) -> int:
        """Neighbouring blocks of a tensor lie in different partitions, and tensors start in different ones."""
        return (part.row + part.column + t["tensor"]) % (self._m["partition_mask"] + 1)

    def _outcome(self) -> NaiveOutcome:
        levels = range(1, len(self._k.period) + 1)
        memory, total = self.memory, max(sm.last_end for sm in self._sms)
        for sm in self._sms:
            idle_since = (sm.booked[-1][1].end if sm.booked else 0) or 0
            sm.account.after_last_k_tile(idle_since, sm.last_end, total, self._k.drain)
        return NaiveOutcome(
            ticks=total,
            k_tiles=[[sum(level == c for level, _ in sm.booked) for c in levels] for sm in self._sms],
            reserved_ticks=[[sum(job.ticks for level, job in sm.booked if level == c) for c in levels] for sm in self._sms],
            stalls=[dict(sm.account.ticks) for sm in self._sms],
            l2_read_bytes=self._read,
            l2_write_bytes=self._written,
            dram_read_bytes=memory.read_bytes,
            dram_write_bytes=memory.write_bytes,
            dram_activates=sum(channel.activates for channel in memory.channels),
            dram_accesses=memory.accesses,
            block_lookups=memory.lookups,
            block_misses=memory.misses,
            longest_cta=self._longest,
            drained=memory.drained,
        )


def run_naive(machine: Mapping[str, int], kernel: PlainKernel, *, warm: bool) -> NaiveOutcome:
    """Run a launch; `warm` after one untimed run of the same launch, keeping tags and dirty marks but no times.

    A cold launch finds as many dirty bytes of strangers in the L2 as its output tiles have, as far as the L2 can hold them.
    """
    cold = NaiveChip(machine, kernel, [], min(machine["l2_capacity"] * (machine["partition_mask"] + 1), output_bytes(kernel)))
    if not warm:
        return cold.run()
    cold.run()
    return NaiveChip(machine, kernel, cold.memory.tags, 0).run()


def output_bytes(kernel: PlainKernel) -> int:
    """Bytes of the output tiles."""
    total = 0
    for row in kernel.ctas:
        rows, columns = row["m1"] - row["m0"], row["n1"] - row["n0"]
        if row["slice"] > 0:
            continue
        t = kernel.outputs[row["group"]]
        total += bytes_of(t, rows, columns) if t["dimension"] == 0 else bytes_of(t, columns, rows)
    return total
