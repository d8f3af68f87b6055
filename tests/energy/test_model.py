"""Energy is a sum of counts times costs: linear, complete, and every action lands in its own unit."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.arch.spec import EnergySpec, PowerSpec
from nmsim.energy.model import (
    average_power_w,
    dynamic_energy_by_unit_j,
    energy_by_unit_j,
    static_energy_j,
    total_energy_j,
)
from nmsim.errors import InputError
from nmsim.hw.counters import Counters
from nmsim.result.rows import ENERGY_UNITS

COSTS = EnergySpec(
    mac_pj={"fp16": 1.25, "int8": 0.5},
    cuda_core_flop_pj=2.0,
    metadata_code_pj=0.25,
    shared_memory_pj_per_byte=4.0,
    l2_pj_per_byte=8.0,
    dram_pj_per_byte=64.0,
    dram_activate_pj=1024.0,
)
POWER = PowerSpec(board_limit_w=300.0, static_w=80.0)

UNIT_AND_COST_PJ = {
    "executed_macs": ("tensor_core", 1.25),
    "metadata_codes": ("metadata", 0.25),
    "cuda_core_flops": ("cuda_core", 2.0),
    "shared_memory_bytes": ("shared_memory", 4.0),
    "l2_read_bytes": ("l2", 8.0),
    "l2_write_bytes": ("l2", 8.0),
    "dram_read_bytes": ("dram", 64.0),
    "dram_write_bytes": ("dram", 64.0),
    "dram_activates": ("dram", 1024.0),
}
ON_THE_CHIP = {"tensor_core", "metadata", "cuda_core", "shared_memory", "l2"}
FED_WITH_OPERANDS = {"tensor_core", "shared_memory", "l2"}
counts = st.builds(Counters, **{f.name: st.integers(0, 10**12) for f in fields(Counters)})


@pytest.mark.parametrize("action", [f.name for f in fields(Counters)])
def test_one_action_costs_its_sourced_price_in_its_own_unit_and_nothing_elsewhere(action: str) -> None:
    energy_j = dynamic_energy_by_unit_j(Counters(**{action: 1_000_000}), COSTS, "fp16")
    unit, cost_pj = UNIT_AND_COST_PJ.get(action, ("tensor_core", 0.0))
    assert energy_j.pop(unit) == pytest.approx(cost_pj * 1e-6)
    assert set(energy_j.values()) == {0.0}


@given(first=counts, second=counts)
def test_energy_of_two_kernels_is_the_sum_of_their_energies(first: Counters, second: Counters) -> None:
    both = dynamic_energy_by_unit_j(first + second, COSTS, "int8")
    one, other = (dynamic_energy_by_unit_j(c, COSTS, "int8") for c in (first, second))
    assert both == pytest.approx({unit: one[unit] + other[unit] for unit in both})


@given(counters=counts, time_us=st.floats(0, 1e9))
def test_units_are_exactly_those_of_a_result_row_and_sum_to_the_total(counters: Counters, time_us: float) -> None:
    by_unit_j = energy_by_unit_j(counters, COSTS, POWER, "fp16", time_us)
    assert tuple(by_unit_j) == ENERGY_UNITS
    assert total_energy_j(by_unit_j) == sum(by_unit_j[unit] for unit in ENERGY_UNITS)
    assert total_energy_j(by_unit_j) >= static_energy_j(POWER, time_us)


def test_an_idle_board_burns_its_static_power() -> None:
    by_unit_j = energy_by_unit_j(Counters(), COSTS, POWER, "fp16", time_us=2_000_000.0)
    assert total_energy_j(by_unit_j) == pytest.approx(160.0)
    assert average_power_w(total_energy_j(by_unit_j), 2_000_000.0) == pytest.approx(80.0)


def test_no_time_has_no_power() -> None:
    assert average_power_w(0.0, 0.0) == 0.0


def test_padding_is_paid_for_but_skipped_zeros_are_not() -> None:
    padded = dynamic_energy_by_unit_j(Counters(executed_macs=128, dense_equivalent_macs=100), COSTS, "fp16")
    halved = dynamic_energy_by_unit_j(Counters(executed_macs=64, dense_equivalent_macs=100), COSTS, "fp16")
    assert padded["tensor_core"] == pytest.approx(128 * 1.25e-12)
    assert halved["tensor_core"] == padded["tensor_core"] / 2


def test_a_type_without_a_cost_is_refused_by_name() -> None:
    with pytest.raises(InputError) as refused:
        dynamic_energy_by_unit_j(Counters(executed_macs=1), COSTS, "fp8")
    assert str(refused.value) == (
        "energy.mac_pj: the machine has no energy per multiply-accumulate of this type (it has fp16, int8), got 'fp8'; "
        "add energy.mac_pj.fp8 with its source"
    )


def test_a_memory_bound_pass_needs_no_cost_per_mac() -> None:
    assert dynamic_energy_by_unit_j(Counters(dram_read_bytes=10), COSTS, "fp8")["dram"] == pytest.approx(640e-12)


@given(counters=counts, ratio=st.floats(1, 4), activity=st.floats(0.1, 1.5))
def test_voltage_scales_the_chip_and_operand_values_what_carries_them_and_neither_the_dram(
    counters: Counters, ratio: float, activity: float
) -> None:
    costs = COSTS.model_copy(update={"operand_values": "zeros", "switching_activity": {"normal": 1.0, "zeros": activity}})
    plain = dynamic_energy_by_unit_j(counters, COSTS, "fp16")
    scaled = dynamic_energy_by_unit_j(counters, costs, "fp16", switching_energy_ratio=ratio)
    for unit, joules in plain.items():
        factor = (ratio if unit in ON_THE_CHIP else 1.0) * (activity if unit in FED_WITH_OPERANDS else 1.0)
        assert scaled[unit] == pytest.approx(joules * factor)


def test_operand_values_must_be_known() -> None:
    with pytest.raises(ValueError, match="operand_values must be one of switching_activity"):
        EnergySpec.model_validate(COSTS.model_dump() | {"operand_values": "primes"})
