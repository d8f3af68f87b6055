"""How much energy did a kernel take: action counts times the machine's cost per action, plus static power over time.

Modelled: one cost per action (multiply-accumulate, metadata code, byte at each level, DRAM activate); static power; the
square of the supply voltage, which rises with the clock, on every action of the chip itself (the DRAM has a supply of its own);
one factor for how much the operands' values switch. Not modelled: that factor from the values of a trace, leakage that
rises with voltage and temperature, and the voltage margin of one card against another.
"""

from __future__ import annotations

from collections.abc import Mapping

from nmsim.arch.spec import EnergySpec, PowerSpec
from nmsim.errors import InputError
from nmsim.hw.counters import Counters

JOULES_PER_PJ = 1e-12


def dynamic_energy_by_unit_j(
    counters: Counters, energy_spec: EnergySpec, dtype: str, *, switching_energy_ratio: float = 1.0
) -> dict[str, float]:
    """Joules of the counted actions, keyed by `nmsim.result.rows.ENERGY_UNITS` except `static`, in their order.

    `dtype` picks the cost of a MAC; InputError where the machine has no cost for it and MACs were executed.
    `switching_energy_ratio` is what an action on the chip costs at the kernel's clock over what it costs at the lowest voltage.
    Padding is paid for: the count is of executed MACs, not of dense-equivalent ones.
    """
    chip = switching_energy_ratio
    operands = chip * energy_spec.switching_activity[energy_spec.operand_values]
    picojoules = {
        "tensor_core": operands * counters.executed_macs * _mac_pj(counters, energy_spec, dtype),
        "metadata": chip * counters.metadata_codes * energy_spec.metadata_code_pj,
        "cuda_core": chip * counters.cuda_core_flops * energy_spec.cuda_core_flop_pj,
        "shared_memory": operands * counters.shared_memory_bytes * energy_spec.shared_memory_pj_per_byte,
        "l2": operands * (counters.l2_read_bytes + counters.l2_write_bytes) * energy_spec.l2_pj_per_byte,
        "dram": (counters.dram_read_bytes + counters.dram_write_bytes) * energy_spec.dram_pj_per_byte
        + counters.dram_activates * energy_spec.dram_activate_pj,
    }
    return {unit: energy_pj * JOULES_PER_PJ for unit, energy_pj in picojoules.items()}


def static_energy_j(power_spec: PowerSpec, time_us: float) -> float:
    """Joules of constant and leakage power over `time_us`, launches included."""
    return power_spec.static_w * time_us * 1e-6


def energy_by_unit_j(
    counters: Counters, energy_spec: EnergySpec, power_spec: PowerSpec, dtype: str, time_us: float, *, switching_energy_ratio: float = 1.0
) -> dict[str, float]:
    """Dynamic and static joules together, `static` last."""
    dynamic = dynamic_energy_by_unit_j(counters, energy_spec, dtype, switching_energy_ratio=switching_energy_ratio)
    return dynamic | {"static": static_energy_j(power_spec, time_us)}


def total_energy_j(by_unit_j: Mapping[str, float]) -> float:
    """Sum over units in the order given."""
    return sum(by_unit_j.values())


def average_power_w(energy_j: float, time_us: float) -> float:
    """Joules over microseconds, 0 for no time."""
    return energy_j / time_us * 1e6 if time_us > 0 else 0.0


def _mac_pj(counters: Counters, energy_spec: EnergySpec, dtype: str) -> float:
    """Cost of one MAC; a kernel that executes none (a memory-bound pass) needs no entry for its type."""
    if counters.executed_macs == 0:
        return 0.0
    cost_pj = energy_spec.mac_pj.get(dtype)
    if cost_pj is None:
        known = ", ".join(sorted(energy_spec.mac_pj)) or "none"
        raise InputError(
            f"the machine has no energy per multiply-accumulate of this type (it has {known})",
            path="energy.mac_pj",
            value=dtype,
            fix=f"add energy.mac_pj.{dtype} with its source",
        )
    return cost_pj
