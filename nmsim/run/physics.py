"""What must hold of every run, whatever the machine and the kernel: conservation, bounds, the account of cycles."""

from __future__ import annotations

from nmsim.errors import PhysicsError
from nmsim.hw.mainloop import MainloopTiming
from nmsim.hw.outcome import ChipOutcome
from nmsim.hw.timing import ChipTiming
from nmsim.mapping.plan import KernelPlan
from nmsim.mapping.traffic import planned_read_bytes, planned_write_bytes
from nmsim.run.least import least_ticks
from nmsim.units import RATE_BITS, TICKS_PER_CYCLE


def check_outcome(timing: ChipTiming, plan: KernelPlan, mainloop: MainloopTiming, outcome: ChipOutcome) -> None:
    """PhysicsError naming the kernel and the law that broke."""
    _account(plan, outcome)
    _conserve(timing, plan, outcome)
    _bound(timing, plan, mainloop, outcome)


def _account(plan: KernelPlan, outcome: ChipOutcome) -> None:
    """Each SM's reserved ticks and named stalls add up to the kernel's ticks; nothing is left unexplained."""
    accounted = outcome.reserved_ticks.sum(axis=1) + outcome.stalls.sum(axis=1)
    if (accounted != outcome.ticks).any():
        sm = int((accounted != outcome.ticks).argmax())
        raise PhysicsError(f"{plan.name}: SM {sm} accounts for {accounted[sm]} of {outcome.ticks} ticks")
    if outcome.unexplained or (outcome.stalls < 0).any():
        raise PhysicsError(f"{plan.name}: {outcome.unexplained} ticks of waiting have no cause")


def _conserve(timing: ChipTiming, plan: KernelPlan, outcome: ChipOutcome) -> None:
    """k-tiles run and bytes moved are the planned ones; DRAM served what the L2 fetched and pushed out."""
    if int(outcome.k_tiles.sum()) != plan.k_tiles:
        raise PhysicsError(f"{plan.name}: ran {int(outcome.k_tiles.sum())} of {plan.k_tiles} k-tiles")
    if timing.ideal_memory:
        return
    for what, moved, planned in (
        ("read", outcome.l2_read_bytes, planned_read_bytes(plan)),
        ("wrote", outcome.l2_write_bytes, planned_write_bytes(plan)),
    ):
        if moved != planned:
            raise PhysicsError(f"{plan.name}: {what} {moved} bytes of L2, planned {planned}")
    for what, served, asked in (
        ("read", outcome.dram_read_bytes, outcome.fetched_bytes),
        ("wrote", outcome.dram_write_bytes, outcome.written_back_bytes),
    ):
        if served != asked:
            raise PhysicsError(f"{plan.name}: DRAM {what} {served} bytes where the L2 asked for {asked}")


def _bound(timing: ChipTiming, plan: KernelPlan, mainloop: MainloopTiming, outcome: ChipOutcome) -> None:
    """No faster than any unit's peak rate over all it had to do."""
    busy = mainloop.busy_cycles[0] / mainloop.busy_cycles[1] * TICKS_PER_CYCLE
    bounds = {"tensor": plan.k_tiles * busy / timing.sms}
    bounds |= least_ticks(timing, plan, mainloop.ticks(), outcome.l2_read_bytes, outcome.l2_write_bytes)
    if not timing.ideal_memory:
        moved = outcome.dram_read_bytes + outcome.dram_write_bytes
        bounds["DRAM"] = moved * timing.bus_rate / (1 << RATE_BITS) / timing.channels
    slack = len(outcome.stalls) + timing.channels  # each server may hold back less than a tick
    for unit, ticks in bounds.items():
        if max(outcome.ticks, outcome.drained) + slack < ticks:
            raise PhysicsError(f"{plan.name}: {outcome.ticks} ticks is faster than the {unit} bound of {ticks:.0f}")
