"""Energy and power of one kernel: actions times costs, and a cap that heeds the time in which the SMs are at work."""

import pytest

from nmsim.arch.spec import GpuSpec, TileSpec
from nmsim.mapping.candidates import build_plan, rank
from nmsim.mapping.lower import lower_dense
from nmsim.run.choice import RunOptions, run_at, under_power_cap
from nmsim.run.kernel import KernelRun
from nmsim.run.power import kernel_energy
from nmsim.run.single import what_if_gemm

OPTIONS = RunOptions()


def one_tile(spec: GpuSpec) -> GpuSpec:
    """A library of one 128x128 tile, one CTA of it to an SM."""
    tile = TileSpec(cta=(128, 128, 128), warp=(64, 64), stages=5)
    return spec.model_copy(update={"kernels": spec.kernels.model_copy(update={"tiles": (tile,), "max_split_k": 1})})


def run_tiles(spec: GpuSpec, columns: int) -> KernelRun:
    """`columns` CTAs of 128 x 128 x 4096."""
    machine = one_tile(spec)
    plan = build_plan(machine, rank(machine, lower_dense(what_if_gemm(128, 128 * columns, 4096, 1, "fp16", "fp16")))[0])
    assert (len(plan.ctas), plan.occupancy) == (columns, 1)
    return run_at(machine, plan, machine.clock.boost_mhz, OPTIONS)


def average_w(spec: GpuSpec, run: KernelRun) -> float:
    """Dynamic energy over the kernel's own time, and static power."""
    dynamic = sum(joules for unit, joules in kernel_energy(spec, run).by_unit_j.items() if unit != "static")
    return spec.power.static_w + dynamic / run.time_us * 1e6


def test_less_than_a_wave_counts_as_a_whole(spec: GpuSpec) -> None:
    half = run_tiles(spec, 54)
    assert half.stall_cycles["imbalance"] > 0.4 * half.cycles
    assert kernel_energy(spec, half).busy_power_w == pytest.approx(average_w(spec, half))


def test_the_tail_in_which_sms_idle_does_not_count(spec: GpuSpec) -> None:
    """109 CTAs on 108 SMs: one SM works for as long again while the others wait; that halves the average, not the busy power."""
    full, tail = run_tiles(spec, 108), run_tiles(spec, 109)
    assert average_w(spec, tail) < 0.7 * average_w(spec, full)
    assert kernel_energy(spec, tail).busy_power_w == pytest.approx(kernel_energy(spec, full).busy_power_w, rel=0.05)


def test_the_cap_lowers_the_clock_of_the_tailed_kernel_as_of_the_full_one(spec: GpuSpec) -> None:
    full, tail = run_tiles(spec, 108), run_tiles(spec, 109)
    limit_w = spec.power.static_w + 0.8 * (kernel_energy(spec, full).busy_power_w - spec.power.static_w)
    capped = spec.model_copy(update={"power": spec.power.model_copy(update={"board_limit_w": limit_w})})
    clocks = [under_power_cap(capped, run, OPTIONS).clock_mhz for run in (full, tail)]
    assert max(clocks) < spec.clock.boost_mhz
    assert abs(clocks[0] - clocks[1]) <= 0.05 * spec.clock.boost_mhz
    assert average_w(spec, tail) < limit_w  # its average alone would have let it boost


def test_energy_is_counts_times_costs(spec: GpuSpec) -> None:
    run = run_tiles(spec, 20)
    energy, counters = kernel_energy(spec, run), run.counters
    volts = spec.power.switching_energy_ratio(spec.clock.boost_mhz)
    assert volts > 1.5
    assert energy.by_unit_j["tensor_core"] == pytest.approx(volts * 20 * 128 * 128 * 4096 * spec.energy.mac_pj["fp16"] * 1e-12)
    assert energy.by_unit_j["metadata"] == 0
    l2_bytes = counters.l2_read_bytes + counters.l2_write_bytes
    assert energy.by_unit_j["l2"] == pytest.approx(volts * l2_bytes * spec.energy.l2_pj_per_byte * 1e-12)
    assert energy.energy_j == pytest.approx(sum(energy.by_unit_j.values()))


def test_a_lower_clock_saves_energy_down_to_the_lowest_voltage_and_none_below(spec: GpuSpec) -> None:
    """The published power of this chip over its clock: above 1065 MHz an action costs more and more, below all the same."""
    plan = run_tiles(spec, 108).plan

    def dynamic_j(clock_mhz: int) -> float:
        by_unit = kernel_energy(spec, run_at(one_tile(spec), plan, clock_mhz, OPTIONS)).by_unit_j
        return by_unit["tensor_core"] + by_unit["shared_memory"]

    at_boost, between, flat, low = (dynamic_j(clock_mhz) for clock_mhz in (1410, 1230, 1065, 810))
    assert at_boost > 1.2 * between > 1.2 * flat
    assert flat == pytest.approx(low)
