"""Energy and power of kernel runs on a machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nmsim.arch.spec import GpuSpec
from nmsim.energy.model import energy_by_unit_j, static_energy_j, total_energy_j
from nmsim.rules.stalls import Stall
from nmsim.run.kernel import KernelRun

_IMBALANCE = Stall.IMBALANCE.name.lower()


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
