"""The chip of `chip_events` with a probe on its SMs, L2 partitions and DRAM channels: the same machine, watched.

Each unit is a subclass that lets its unit do the work and then writes down what happened, so that a run without a probe
executes none of this.

Recorded of the SMs asked for: CTAs by slot, k-tiles on the tensor pipe, every idle tick of the pipe by its stall, both ports.
Recorded of the whole chip: service on each L2 partition and DRAM bus, bytes moved and requests in flight.
Not recorded: anything inside a k-tile.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nmsim.engine.probe import Probe, Track
from nmsim.hw.chip_events import Chip, Process
from nmsim.hw.dram import Dram
from nmsim.hw.l2 import L2, Descriptor
from nmsim.hw.leftover import dirty_strangers
from nmsim.hw.mainloop import MainloopTicks
from nmsim.hw.noc import Port
from nmsim.hw.outcome import ChipOutcome
from nmsim.hw.sm import Sm
from nmsim.hw.timing import ChipTiming
from nmsim.mapping.plan import K0, K1, M0, M1, N0, N1, KernelPlan
from nmsim.rules.dram import drain_ticks, locate
from nmsim.rules.stalls import STALL_NAMES, Stall

BYTE_COUNTERS = ("L2 reads", "L2 writes", "DRAM reads", "DRAM writes")
"""Amounts in bytes."""
DEPTH_COUNTERS = ("L2 reads in flight", "DRAM accesses in flight")
"""Amounts in ticks of waiting or being served: divided by the ticks they are spread over, the mean depth of the queue."""
PIPE_COUNTER = "busy tensor pipes"
"""Ticks of all SMs' pipes reserved: divided by the ticks they are spread over, the mean number of pipes at work."""
_WAITS = tuple(Stall(Stall.NOC_QUEUE + part) for part in range(6))


class ProbedPort(Port):
    """A port of a watched SM."""

    def __init__(self, rate: int, probe: Probe, track: Track) -> None:
        super().__init__(rate)
        self._probe, self._track = probe, track

    def book(self, arrival: int, nbytes: int) -> int:
        """As the port's, recorded."""
        start = max(arrival, self._free)
        end = super().book(arrival, nbytes)
        self._probe.joined(self._track, "transfer", start, end, bytes=nbytes)
        return end


class CountedSm(Sm):
    """An SM of which only the use of its pipe is counted."""

    def __init__(self, index: int, timing: ChipTiming, l2: L2, mainloop: MainloopTicks, gather: Sequence[int], probe: Probe) -> None:
        super().__init__(index, timing, l2, mainloop, gather)
        self._probe = probe

    def reserve_pipe(self, now: int) -> tuple[int, int]:
        """As the SM's, recorded."""
        start, end = super().reserve_pipe(now)
        self._probe.moved(PIPE_COUNTER, start, end, end - start)
        return start, end


class ProbedSm(CountedSm):
    """A watched SM: its k-tiles, and its stalls laid into the gaps of the pipe in the order in which they come about."""

    def __init__(self, index: int, timing: ChipTiming, l2: L2, mainloop: MainloopTicks, gather: Sequence[int], probe: Probe) -> None:
        super().__init__(index, timing, l2, mainloop, gather, probe)
        group = f"SM {index}"
        self._pipe: Track = (group, "tensor pipe")
        self._idle: Track = (group, "stalls")
        self.read_port = ProbedPort(timing.port_rate, probe, (group, "read port"))
        self.write_port = ProbedPort(timing.write_port_rate, probe, (group, "write port"))
        self._at = 0

    def reserve_pipe(self, now: int) -> tuple[int, int]:
        """As the SM's, recorded."""
        resident = self.in_mainloop
        start, end = super().reserve_pipe(now)
        self._probe.span(self._pipe, "k-tile", start, end, ctas_in_mainloop=resident)
        return start, end

    def charge_first_gap(self, start: int, began: int, parts: Sequence[int]) -> None:
        """As the SM's: the last epilogue, the launch, the wait for operands and the fill come one after another."""
        before = self.stalls.copy()
        self._at = self.pipe_free
        super().charge_first_gap(start, began, parts)
        for reason in (Stall.CTA_LAUNCH, *_WAITS):
            self._lay(reason, self.stalls[reason] - before[reason])
        self._lay(Stall.FILL_DRAIN, max(0, start - self._at))

    def charge_gap(self, start: int, parts: Sequence[int]) -> None:
        """As the SM's, recorded."""
        before = self.stalls.copy()
        self._at = self.pipe_free
        super().charge_gap(start, parts)
        for wait in _WAITS:
            self._lay(wait, self.stalls[wait] - before[wait])

    def close(self, total: int) -> None:
        """As the SM's, recorded."""
        before = self.stalls[Stall.IMBALANCE]
        self._at = self.pipe_free
        super().close(total)
        self._lay(Stall.IMBALANCE, self.stalls[Stall.IMBALANCE] - before)

    def _charge_epilogue(self, ticks: int) -> None:
        before = self.stalls.copy()
        super()._charge_epilogue(ticks)
        for reason in (Stall.FILL_DRAIN, Stall.SPLIT_K_WAIT, Stall.EPILOGUE):
            self._lay(reason, self.stalls[reason] - before[reason])

    def _lay(self, reason: Stall, ticks: int) -> None:
        """The next `ticks` of the gap are of this reason."""
        if ticks:
            self._probe.span(self._idle, STALL_NAMES[reason], self._at, self._at + ticks)
            self._at += ticks


class ProbedL2(L2):
    """The L2 with a track for each partition."""

    def __init__(self, timing: ChipTiming, dram: Dram, tensors: list[Descriptor], strangers: int, probe: Probe) -> None:
        super().__init__(timing, dram, tensors, strangers)
        self._probe = probe
        self._service = (0, 0, 0)

    def read(self, now: int, sm: int, t: Descriptor, row_block: int, column_block: int, nbytes: int) -> tuple[int, list[int]]:
        """As the L2's, recorded."""
        misses = self.misses
        data, parts = super().read(now, sm, t, row_block, column_block, nbytes)
        self._served("read miss" if self.misses > misses else "read", "L2 reads", nbytes)
        self._probe.moved("L2 reads in flight", now, data, data - now)
        return data, parts

    def write(self, now: int, sm: int, t: Descriptor, row_block: int, column_block: int, nbytes: int) -> int:
        """As the L2's, recorded."""
        end = super().write(now, sm, t, row_block, column_block, nbytes)
        self._served("write", "L2 writes", nbytes)
        return end

    def _served(self, name: str, counter: str, nbytes: int) -> None:
        partition, start, end = self._service
        self._probe.joined(("L2", f"partition {partition}"), name, start, end, bytes=nbytes)
        self._probe.moved(counter, start, end, nbytes)

    def _reserve(self, now: int, partition: int, nbytes: int) -> tuple[int, int]:
        start, end = super()._reserve(now, partition, nbytes)
        self._service = partition, start, end
        return start, end


class ProbedDram(Dram):
    """DRAM with a track for each channel's bus: bursts, and what held them up."""

    def __init__(self, timing: ChipTiming, probe: Probe) -> None:
        super().__init__(timing)
        self._probe = probe

    def access(self, arrival: int, address: int, nbytes: int, is_write: int) -> tuple[int, int, int, int]:
        """As the DRAM's, recorded."""
        t = self._t
        channel = locate(address >> t.interleave_shift, t.channels, t.per_channel, t.row_shift, t.bank_mask)[0]
        free, activates = max(arrival, self._bus_free[channel]), self.activates
        landed, queue, row, burst = super().access(arrival, address, nbytes, is_write)
        end = self._bus_free[channel]
        start, track = end - burst, ("DRAM", f"channel {channel}")
        drained = is_write and not self._pending_writes[channel]
        turned = free + (drain_ticks(t.write_batch, t.write_batch, t.turnaround) if drained else 0)
        self._probe.span(track, "turnaround", free, turned)
        self._probe.span(track, "refresh", turned, start)
        activated = self.activates - activates
        self._probe.joined(track, "write" if is_write else "read", start, end, bytes=nbytes, rows_activated=activated)
        self._probe.moved("DRAM writes" if is_write else "DRAM reads", start, end, nbytes)
        self._probe.moved("DRAM accesses in flight", arrival, landed, landed - arrival)
        return landed, queue, row, burst


class ProbedChip(Chip):
    """A chip whose units report to a probe; `watched` are the SMs that get tracks of their own."""

    def __init__(
        self, timing: ChipTiming, plan: KernelPlan, mainloop: MainloopTicks, probe: Probe, watched: Collection[int], strangers: int = 0
    ) -> None:
        self._probe = probe
        self._watched = frozenset(watched)
        self._free_slots = {sm: list(range(plan.occupancy)) for sm in self._watched}
        self._live: dict[int, _LiveCta] = {}
        for counter in (*BYTE_COUNTERS, *DEPTH_COUNTERS, PIPE_COUNTER):
            probe.moved(counter, 0, 0, 0)
        for sm in sorted(self._watched):
            for name in (*(f"CTA slot {slot}" for slot in range(plan.occupancy)), "tensor pipe", "stalls", "read port", "write port"):
                probe.tracks[f"SM {sm}", name] = []
        for group, name, count in (("L2", "partition", timing.partition_mask + 1), ("DRAM", "channel", timing.channels)):
            probe.tracks |= {(group, f"{name} {index}"): [] for index in range(count)}
        super().__init__(timing, plan, mainloop, dirty_strangers=strangers)

    def run_until(self, tick: int) -> None:
        """Run up to a tick and no further; CTAs that are not through by then are recorded up to it."""
        self._launch_first()
        self._env.run(until=tick)
        for cta in list(self._live):
            self._close(cta, self._ctas[cta], tick)

    def _build_dram(self) -> Dram:
        return ProbedDram(self._t, self._probe)

    def _build_l2(self, strangers: int) -> L2:
        return ProbedL2(self._t, self.dram, self._plan.tensors.tolist(), strangers, self._probe)

    def _build_sm(self, index: int) -> Sm:
        kind = ProbedSm if index in self._watched else CountedSm
        return kind(index, self._t, self.l2, self._mainloop, self._gather, self._probe)

    def _cta(self, sm: Sm, cta: int, begin: int) -> Process:
        if sm.index not in self._watched:
            yield from super()._cta(sm, cta, begin)
            return
        slot = self._free_slots[sm.index].pop(0)
        launched, row = begin - self._t.cta_launch, self._ctas[cta]
        self._live[cta] = _LiveCta((f"SM {sm.index}", f"CTA slot {slot}"), launched, begin)
        self._probe.span(self._live[cta].track, "launch", launched, begin)
        yield from super()._cta(sm, cta, begin)
        self._close(cta, row, self._env.tick)
        self._free_slots[sm.index] = sorted([*self._free_slots[sm.index], slot])

    def _epilogue(self, sm: Sm, cta: int, row: list[int], drained: int) -> Process:
        live = self._live.get(cta)
        if live is not None:
            self._probe.span(live.track, "mainloop", live.begin, drained)
            live.in_mainloop = False
        yield from super()._epilogue(sm, cta, row, drained)
        if live is not None:
            written_from = drained + sm.last_split_wait
            self._probe.span(live.track, "split-K wait", drained, written_from)
            self._probe.span(live.track, "epilogue", written_from, self._env.tick)

    def _close(self, cta: int, row: list[int], tick: int) -> None:
        """The slice of a whole CTA."""
        live = self._live.pop(cta)
        corner = {"m": row[M0], "m_end": row[M1], "n": row[N0], "n_end": row[N1], "k": row[K0], "k_end": row[K1]}
        if live.in_mainloop:
            self._probe.span(live.track, "mainloop", live.begin, tick)
        self._probe.span(live.track, f"CTA {cta}", live.launched, tick, **corner)


@dataclass
class _LiveCta:
    """A CTA of a watched SM that is not through yet."""

    track: Track
    launched: int
    begin: int
    in_mainloop: bool = True


def run_probed(
    timing: ChipTiming,
    plan: KernelPlan,
    mainloop: MainloopTicks,
    probe: Probe,
    watched: Collection[int],
    *,
    warm: bool = False,
    until: int | None = None,
) -> ChipOutcome | None:
    """`run_events` with a probe (not on the untimed run that warms the L2); None where it was stopped at tick `until`."""
    strangers = dirty_strangers(timing, plan)
    if warm:
        cold = Chip(timing, plan, mainloop, dirty_strangers=strangers)
        cold.run()
        chip = ProbedChip(timing, plan, mainloop, probe, watched)
        chip.l2.warm_from(cold.l2)
    else:
        chip = ProbedChip(timing, plan, mainloop, probe, watched, strangers)
    if until is None:
        return chip.run()
    chip.run_until(until)
    return None
