"""The area estimate: hand counts of small cases, and what must grow with what."""

from __future__ import annotations

from math import comb
from pathlib import Path

import pytest

from nmsim.arch.area import AND_GATES, MUX_GATES, REGISTER_GATES, TABLE_GATES_PER_BIT, Area, sparse_area
from nmsim.arch.load import load_gpu

ARCHS = Path(__file__).parents[2] / "arch_configs"


def area_of(machine: str, *overrides: str) -> Area:
    area = sparse_area(load_gpu(ARCHS / f"{machine}.yaml", overrides))
    assert area is not None
    return area


def test_the_a100_by_hand() -> None:
    """256 multipliers behind 4:1 multiplexers of 16 bits; 32 kept elements a cycle, 2 bits each; B is 16 x 2 elements wider."""
    area = area_of("ampere")
    assert area.selector == pytest.approx(256 * 16 * 3 * MUX_GATES)
    assert area.operand_registers == pytest.approx(256 / 16 * 16 * REGISTER_GATES)
    assert area.decoder == 0  # a position drives its multiplexer as it stands
    assert area.code_registers == pytest.approx(32 * 2 * REGISTER_GATES)
    assert 1 < area.overhead_percent < 10


def test_a_machine_without_sparse_instructions_has_no_such_area() -> None:
    assert sparse_area(load_gpu(ARCHS / "volta.yaml")) is None


def test_a_wider_selector_costs_more_and_each_part_grows_with_its_own_knob() -> None:
    areas = [area_of("ampere_flex_nm", f"tensor_core.decoder.selector_width={width}") for width in (4, 8, 16)]
    assert areas[0].selector < areas[1].selector < areas[2].selector
    assert {area.operand_registers for area in areas} == {areas[0].operand_registers}
    slow = area_of("ampere_flex_nm", "tensor_core.decoder.latency_cycles=3")
    assert slow.code_registers == pytest.approx(4 * areas[2].code_registers)


def test_a_bitmap_costs_detectors_and_a_combinatorial_code_a_table() -> None:
    bitmap = area_of("ampere_flex_nm", "tensor_core.decoder.encoding=bitmap")
    assert bitmap.decoder == pytest.approx(64 * 4 * 8 * (3 + AND_GATES))  # 4:8 needs most: 4 detectors of 8 bits
    table = area_of("ampere_flex_nm", "tensor_core.decoder.encoding=combinatorial")
    assert table.decoder == pytest.approx(64 * comb(8, 4) * 4 * 3 * TABLE_GATES_PER_BIT)
    fewer = area_of("ampere_flex_nm", "tensor_core.decoder.encoding=combinatorial", "tensor_core.decoder.codes_per_cycle=16")
    assert fewer.decoder == pytest.approx(table.decoder / 4)
