"""The chip level as simpy processes: the readable reference of the two wirings.

A CTA is a process that reads like a multistage mainloop: fill the stages, then for each k-tile wait for its operands,
ask for the k-tile that takes the freed stage, reserve the tensor pipe (one that copies synchronously asks for a k-tile only
once it is through with the one before); at the end drain, wait for the previous slice of
a split reduction, write the tile strip by strip, and let the next CTA have the slot.

Modelled: launch order, occupancy, stages, exposed waits, split-K in slice order (each slice adds to the output in place, and
its turn takes a semaphore's way through the L2), epilogues in strips, each after what it adds to has been read.
Not modelled: anything finer than a k-tile, pre-emption, several kernels at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Hashable, Sequence
from dataclasses import replace

import numpy as np
from simpy.events import Event

from nmsim.engine.environment import KeyedEnvironment
from nmsim.hw.contents import Contents, bring_forward
from nmsim.hw.dram import Dram
from nmsim.hw.l2 import L2, Descriptor
from nmsim.hw.leftover import dirty_strangers
from nmsim.hw.mainloop import MainloopTicks
from nmsim.hw.outcome import ChipOutcome
from nmsim.hw.sm import Box, Sm
from nmsim.hw.timing import ChipTiming
from nmsim.mapping.plan import BATCH, GROUP, K0, K1, M0, M1, N0, N1, SLICE, SLICES, TILE, KernelPlan
from nmsim.rules.box import DIMENSION, operand_box, operand_bytes
from nmsim.rules.event import BEGIN, END, EPILOGUE, FETCH, START, WRITE, event_key
from nmsim.rules.tile import side, strip

Process = Generator[Event, None, None]
Placement = tuple[tuple[int, ...], ...]
"""Of each SM: the CTAs that it runs, in the order in which they begin."""


class Chip:
    """A whole machine running one kernel; build it, `run` it once, read the outcome.

    A slot that falls free takes the next CTA of all, or with a `placement` the next one of its SM.
    """

    def __init__(
        self,
        timing: ChipTiming,
        plan: KernelPlan,
        mainloop: MainloopTicks,
        *,
        dirty_strangers: int = 0,
        placement: Placement | None = None,
    ) -> None:
        self._t = timing
        self._plan = plan
        self._mainloop = mainloop
        self._ctas: list[list[int]] = plan.ctas.tolist()
        self._operands: list[list[Descriptor]] = plan.operands.tolist()
        self._outputs: list[Descriptor] = plan.outputs.tolist()
        self._accumulate: list[int] = plan.accumulate.tolist()
        self._gather: list[int] = plan.gather.tolist()
        self._tile: tuple[int, int, int] = plan.mainloop.cta_tile
        self._env = KeyedEnvironment()
        self.dram = self._build_dram()
        self.l2 = self._build_l2(dirty_strangers)
        self.sms = [self._build_sm(index) for index in range(timing.sms)]
        self._pending = deque(range(len(self._ctas)))
        self._pending_of = None if placement is None else _queues(placement, timing.sms, len(self._ctas))
        self._placed: list[list[int]] = [[] for _ in self.sms]
        self._longest_cta = 0
        self._released: dict[tuple[int, int], int] = {}
        """(tile, slice) that has ended -> tick at which the next slice sees it."""
        self._waiting: dict[tuple[int, int], tuple[Sm, int, Event]] = {}

    def run(self) -> ChipOutcome:
        """Run every CTA to its end."""
        self._launch_first()
        self._env.run()
        total = max((sm.last_end for sm in self.sms), default=0)
        for sm in self.sms:
            sm.close(total)
        return self._outcome(total)

    @property
    def placement(self) -> Placement:
        """Where the CTAs that have begun were put."""
        return tuple(map(tuple, self._placed))

    def _build_dram(self) -> Dram:
        return Dram(self._t)

    def _build_l2(self, dirty_strangers: int) -> L2:
        return L2(self._t, self.dram, self._plan.tensors.tolist(), dirty_strangers)

    def _build_sm(self, index: int) -> Sm:
        return Sm(index, self._t, self.l2, self._mainloop, self._gather)

    def _launch_first(self) -> None:
        """A CTA for every slot, SM by SM."""
        for _ in range(self._plan.occupancy):
            for sm in self.sms:
                self._launch_next(sm)

    def _launch_next(self, sm: Sm) -> None:
        pending = self._pending if self._pending_of is None else self._pending_of[sm.index]
        if pending:
            cta = pending.popleft()
            self._placed[sm.index].append(cta)
            self._env.process(self._cta(sm, cta, self._env.tick + self._t.cta_launch))

    def _cta(self, sm: Sm, cta: int, begin: int) -> Process:
        env, lookahead = self._env, self._plan.mainloop.lookahead
        row = self._ctas[cta]
        k_tiles = -(-(row[K1] - row[K0]) // self._tile[2])
        yield env.until(begin, event_key(BEGIN, sm.index, cta))
        sm.in_mainloop += 1
        landed = [self._load(sm, row, k_tile) for k_tile in range(min(max(1, lookahead), k_tiles))]
        ready = landed[0][0] + self._mainloop.fill
        for k_tile in range(k_tiles):
            yield env.until(ready, event_key(START, sm.index, cta))
            if lookahead and k_tile + lookahead < k_tiles:
                landed.append(self._load(sm, row, k_tile + lookahead))
            while sm.pipe_free > env.tick:
                yield env.until(sm.pipe_free, event_key(START, sm.index, cta))
            start = env.tick
            if k_tile == 0:
                sm.charge_first_gap(start, begin, landed[0][1])
            else:
                sm.charge_gap(start, landed[k_tile][1])
            _, done = sm.reserve_pipe(env.tick)
            if k_tile + 1 == k_tiles:
                ready = done
                continue
            if not lookahead:
                yield env.until(done, event_key(FETCH, sm.index, cta))
                landed.append(self._load(sm, row, k_tile + 1))
            ready = max(done, landed[k_tile + 1][0])
        self._longest_cta = max(self._longest_cta, ready + self._mainloop.drain - begin)
        yield from self._epilogue(sm, cta, row, ready + self._mainloop.drain)

    def _epilogue(self, sm: Sm, cta: int, row: list[int], drained: int) -> Process:
        env = self._env
        yield env.until(drained, event_key(EPILOGUE, sm.index, cta))
        sm.in_mainloop -= 1
        split = row[SLICES] > 1
        waited = 0
        if row[SLICE] > 0:
            before = (row[TILE], row[SLICE] - 1)
            if before not in self._released:
                turn = env.event()
                self._waiting[before] = (sm, cta, turn)
                yield turn
            elif self._released[before] > env.tick:
                yield env.until(self._released[before], event_key(EPILOGUE, sm.index, cta))
            waited = env.tick - drained
        adds = row[SLICE] > 0 or self._accumulate[row[GROUP]]
        end, rows = env.tick, self._plan.strip_rows
        for index in range(-(-(row[M1] - row[M0]) // rows)):
            written = self._strip(row, *strip(row[M0], row[M1], rows, index))
            source = sm.load(env.tick, *written)[0] if adds else env.tick
            yield env.until(source + self._mainloop.exchange, event_key(WRITE, sm.index, cta))
            end = max(end, sm.store(env.tick, *written))
        yield env.until(end, event_key(END, sm.index, cta))
        sm.last_end, sm.last_split_wait = env.tick, waited
        if split:
            self._release(row[TILE], row[SLICE])
        self._launch_next(sm)

    def _strip(self, row: list[int], m0: int, m1: int) -> tuple[Descriptor, Box, int]:
        """(descriptor, box, bytes) of rows [m0, m1) of a CTA's output tile."""
        t = self._outputs[row[GROUP]]
        x0, x1, y0, y1 = side(t[DIMENSION], m0, m1, row[N0], row[N1])
        return t, operand_box(t, x0, x1, y0, y1, row[BATCH]), operand_bytes(t, x1 - x0, y1 - y0)

    def _release(self, tile: int, slice_: int) -> None:
        """Let the next slice of this output tile go on once it can see the semaphore."""
        seen = self._released[tile, slice_] = self._env.tick + self._t.handover
        waiter = self._waiting.pop((tile, slice_), None)
        if waiter is not None:
            sm, cta, turn = waiter
            resume = self._env.until(seen, event_key(EPILOGUE, sm.index, cta))
            resume.callbacks.append(lambda _: self._resume(turn))

    @staticmethod
    def _resume(turn: Event) -> None:
        """Run the waiting process inside this very event, so that its place in the order is the event's key."""
        turn._ok = True
        turn._value = None
        callbacks, turn.callbacks = turn.callbacks, None  # type: ignore[assignment]
        for callback in callbacks:
            callback(turn)

    def _load(self, sm: Sm, row: list[int], k_tile: int) -> tuple[int, list[int]]:
        """Ask for all operands of a k-tile. Returns (tick the last has landed, its time by part)."""
        k0 = row[K0] + k_tile * self._tile[2]
        k1 = min(row[K1], k0 + self._tile[2])
        landed, parts = -1, [0]
        for t in self._operands[row[GROUP]]:
            x0, x1, _, _ = side(t[DIMENSION], row[M0], row[M1], row[N0], row[N1])
            box = operand_box(t, x0, x1, k0, k1, row[BATCH])
            data, data_parts = sm.load(self._env.tick, t, box, operand_bytes(t, x1 - x0, k1 - k0))
            if data > landed:
                landed, parts = data, data_parts
        return landed, parts

    def _outcome(self, total: int) -> ChipOutcome:
        return ChipOutcome(
            ticks=total,
            reserved_ticks=np.array([sm.reserved_ticks for sm in self.sms], dtype=np.int64),
            k_tiles=np.array([sm.k_tiles for sm in self.sms], dtype=np.int64),
            stalls=np.array([sm.stalls for sm in self.sms], dtype=np.int64),
            unexplained=sum(sm.unexplained for sm in self.sms),
            l2_read_bytes=sum(sm.l2_read_bytes for sm in self.sms),
            l2_write_bytes=sum(sm.write_port.bytes for sm in self.sms),
            dram_read_bytes=self.dram.read_bytes,
            dram_write_bytes=self.dram.write_bytes,
            dram_activates=self.dram.activates,
            dram_accesses=self.dram.accesses,
            block_lookups=self.l2.lookups,
            block_misses=self.l2.misses,
            fetched_bytes=self.l2.fetched_bytes,
            written_back_bytes=self.l2.written_back_bytes,
            longest_cta=self._longest_cta,
            drained=self.dram.drained,
        )


def _queues(placement: Placement, sms: int, ctas: int) -> list[deque[int]]:
    """A queue for each SM. Each must be in launch order: a slice of a split reduction waits for one with a lower number."""
    if sorted(cta for queue in placement for cta in queue) != list(range(ctas)):
        raise ValueError(f"a placement has to name each of the {ctas} CTAs once")
    if any(list(queue) != sorted(queue) for queue in placement) or any(placement[sms:]):
        raise ValueError(f"a placement has to keep the launch order on each SM and to use no more than {sms} SMs")
    return [deque(queue) for queue in (*placement, *((),) * sms)][:sms]


def run_events(timing: ChipTiming, plan: KernelPlan, mainloop: MainloopTicks, *, warm: bool = False) -> ChipOutcome:
    """Run one kernel with simpy; `warm` starts from the L2 contents that one untimed run of the same kernel leaves."""
    cold = Chip(timing, plan, mainloop, dirty_strangers=dirty_strangers(timing, plan))
    if not warm:
        return cold.run()
    cold.run()
    chip = Chip(timing, plan, mainloop)
    chip.l2.warm_from(cold.l2)
    return chip.run()


def run_events_placed(
    timing: ChipTiming, plan: KernelPlan, mainloop: MainloopTicks, placement: Placement | None = None
) -> tuple[ChipOutcome, Placement]:
    """`run_events` on a cold L2 with each CTA on the SM that a placement names (None: where it falls), and where each was."""
    chip = Chip(timing, plan, mainloop, dirty_strangers=dirty_strangers(timing, plan), placement=placement)
    return chip.run(), chip.placement


def run_events_after(
    timing: ChipTiming, plan: KernelPlan, mainloop: MainloopTicks, names: Sequence[Hashable], before: Contents | None
) -> tuple[ChipOutcome, Contents]:
    """Run one kernel on what the kernels before it left in the L2 (None: cold), and say what it leaves; `names` are of `plan.tensors`."""
    if before is None:
        chip = Chip(timing, plan, mainloop, dirty_strangers=dirty_strangers(timing, plan))
        start = Contents(tuple(names), plan.tensors, ())
    else:
        extended, start = bring_forward(plan, names, before)
        chip = Chip(timing, extended, mainloop)
        chip.l2.fill(start.held)
    outcome = chip.run()
    return outcome, replace(start, held=chip.l2.held())
