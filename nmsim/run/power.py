"""Energy and power of kernel runs on a machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nmsim.arch.spec import GpuSpec
from nmsim.energy.clock import clock_under_cap
from nmsim.energy.model import energy_by_unit_j, static_energy_j, total_energy_j
from nmsim.rules.stalls import Stall
from nmsim.run.kernel import KernelRun

_IMBALANCE = Stall.IMBALANCE.name.lower()
_DRAM_BINDS, _L2_BINDS = (0.6, 0.8), (0.8, 0.97)
"""Shares of a memory's peak rate between which a kernel's time passes from going with the clock to not going with it at all: read
off the kernels of a ResNet-50 and a BERT-large step on the A100 at two clocks. Only the first guesses of a search rest on them."""


@dataclass(frozen=True)
class KernelEnergy:
    """Joules of one launch by unit, its time with the launch, and the power while every SM holds a CTA."""

    launch_us: float
    time_us: float
    """Launch included."""
    by_unit_j: Mapping[str, float]
    energy_j: float
    busy_power_w: float
    """Averaged while every SM holds a CTA: the tail in which SMs idle neither warms the chip nor raises its clock."""


def kernel_energy(spec: GpuSpec, run: KernelRun) -> KernelEnergy:
    """Counts x costs at the voltage of the run's clock, plus static power over the time of the kernel and of its launch.

    For the busy power, energy is taken as spent evenly over the time in which SMs hold CTAs. A kernel of less than one wave counts
    as a whole.
    """
    dtype = run.plan.mainloop.dtype
    launch_us = spec.launch.kernel_us + (spec.launch.nm_extra_us if run.plan.mainloop.pattern != "dense" else 0.0)
    time_us = run.time_us + launch_us
    ratio = spec.power.switching_energy_ratio(run.clock_mhz)
    by_unit = energy_by_unit_j(run.counters, spec.energy, spec.power, dtype, time_us, switching_energy_ratio=ratio)
    energy_j = total_energy_j(by_unit)
    dynamic_j = energy_j - static_energy_j(spec.power, time_us)
    occupied = 1.0
    if len(run.plan.ctas) >= spec.sm.count and run.cycles:
        occupied = 1 - run.stall_cycles[_IMBALANCE] / run.cycles
    busy_us = run.time_us * occupied
    busy_power = spec.power.static_w + (dynamic_j / busy_us * 1e6 if busy_us else 0.0)
    return KernelEnergy(launch_us, time_us, by_unit, energy_j, busy_power)


def clock_under_limit(
    spec: GpuSpec, power_at: Callable[[int], float], work: Sequence[tuple[float, KernelRun]], *, near: float = 0.0
) -> int:
    """The clock that the board's limit leaves for `work`, which draws `power_at(clock_mhz)` watts: one of those it is asked for.

    `work` is how often each kernel runs, and a run of it at the top clock (or near: only guesses rest on it). For `near` see
    `clock_under_cap`.
    """
    chip_j = dram_j = time_us = clocked_us = 0.0
    for often, run in work:
        energy = kernel_energy(spec, run)
        dynamic_j = energy.energy_j - static_energy_j(spec.power, energy.time_us)
        dram_j += often * energy.by_unit_j["dram"]
        chip_j += often * (dynamic_j - energy.by_unit_j["dram"]) / spec.power.switching_energy_ratio(run.clock_mhz)
        time_us += often * energy.time_us
        clocked_us += often * run.time_us * _clocked_share(spec, run)

    def energy_ratio(clock_mhz: float) -> float:
        return chip_j * spec.power.switching_energy_ratio(clock_mhz) + dram_j if chip_j + dram_j > 0 else 1.0

    limit_w, idle_w = spec.power.board_limit_w, spec.power.static_w
    share = clocked_us / time_us if time_us > 0 else 1.0
    return clock_under_cap(power_at, spec.clock, limit_w, idle_w, energy_ratio=energy_ratio, clocked_share=share, near=near).clock_mhz


def _clocked_share(spec: GpuSpec, run: KernelRun) -> float:
    """How much of a run's time probably goes with the clock."""
    counters, bytes_per_gb_per_s = run.counters, run.time_us * 1e3
    if not bytes_per_gb_per_s:
        return 1.0
    dram = (counters.dram_read_bytes + counters.dram_write_bytes) / spec.dram.bandwidth_gb_per_s / bytes_per_gb_per_s
    l2 = (counters.l2_read_bytes + counters.l2_write_bytes) / spec.l2.bandwidth_gb_per_s / bytes_per_gb_per_s
    shares = [(bound - used) / (bound - free) for used, (free, bound) in ((dram, _DRAM_BINDS), (l2, _L2_BINDS))]
    return min(max(min(shares), 0.0), 1.0)
