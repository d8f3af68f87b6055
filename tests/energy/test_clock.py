"""The clock under a power limit always fits, is the highest that does on physical curves, and costs few evaluations."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.arch.spec import ClockSpec, PowerSpec
from nmsim.energy.clock import MAX_RUNS, ClockChoice, clock_of_share, clock_steps_mhz, clock_under_cap, worst_gap_steps

A100_LIKE = ClockSpec(boost_mhz=1410, min_mhz=210, step_mhz=15)
watts = st.floats(0.1, 1000)


class Meter:
    """A power curve that counts its evaluations."""

    def __init__(self, power_at: Callable[[int], float]) -> None:
        self.power_at, self.asked = power_at, list[int]()

    def __call__(self, clock_mhz: int) -> float:
        self.asked.append(clock_mhz)
        return self.power_at(clock_mhz)


def highest_that_fits(power_at: Callable[[int], float], clock_spec: ClockSpec, limit_w: float) -> int:
    steps = clock_steps_mhz(clock_spec)
    return max((mhz for mhz in steps if power_at(mhz) <= limit_w), default=steps[0])


clock_specs = st.builds(
    lambda low, span, step: ClockSpec(boost_mhz=low + span, min_mhz=low, step_mhz=step),
    st.integers(1, 600),
    st.integers(0, 2000),
    st.integers(1, 60),
)


@given(clock_spec=clock_specs)
def test_steps_are_ascending_and_include_both_ends(clock_spec: ClockSpec) -> None:
    steps = clock_steps_mhz(clock_spec)
    assert steps[0] == clock_spec.min_mhz
    assert steps[-1] == clock_spec.boost_mhz
    gaps = [high - low for low, high in itertools.pairwise(steps)]
    assert all(0 < gap <= clock_spec.step_mhz for gap in gaps)
    assert all(gap == clock_spec.step_mhz for gap in gaps[1:])


@given(power_w=watts, spare_w=st.floats(0, 100))
def test_boost_is_the_only_evaluation_where_it_fits(power_w: float, spare_w: float) -> None:
    meter = Meter(lambda mhz: power_w * (mhz / 1410))
    assert clock_under_cap(meter, A100_LIKE, power_w + spare_w, 0.0) == ClockChoice(1410, power_w, runs=1, capped=False)
    assert meter.asked == [1410]


@given(
    clock_spec=clock_specs,
    jumps=st.lists(st.tuples(st.integers(1, 2600), watts), max_size=8),
    slope_w_per_mhz=st.floats(0, 1),
    limit_w=st.floats(0.1, 3000),
    idle_w=st.floats(0, 200),
    max_runs=st.integers(2, 9),
)
def test_on_any_rising_curve_the_choice_was_evaluated_fits_and_is_within_the_stated_gap(
    clock_spec: ClockSpec, jumps: list[tuple[int, float]], slope_w_per_mhz: float, limit_w: float, idle_w: float, max_runs: int
) -> None:
    meter = Meter(lambda mhz: 1 + slope_w_per_mhz * mhz + sum(jump_w for at_mhz, jump_w in jumps if mhz >= at_mhz))
    choice = clock_under_cap(meter, clock_spec, limit_w, idle_w, max_runs)
    steps = clock_steps_mhz(clock_spec)
    assert choice.clock_mhz in meter.asked
    assert choice.runs == len(meter.asked) == len(set(meter.asked)) <= max_runs
    assert choice.power_w == meter.power_at(choice.clock_mhz)
    assert choice.power_w <= limit_w or choice.clock_mhz == clock_spec.min_mhz
    best = highest_that_fits(meter.power_at, clock_spec, limit_w)
    assert 0 <= steps.index(best) - steps.index(choice.clock_mhz) <= worst_gap_steps(len(steps), max_runs)


@given(
    static_w=st.floats(10, 150),
    dynamic_j=st.floats(1e-5, 1e-1),
    core_cycles=st.floats(1e3, 1e8),
    memory_us=st.floats(0, 1e5),
    limit_w=watts,
    rise=st.floats(0, 2),
    flat_mhz=st.integers(210, 1410),
)
def test_a_kernel_of_known_energy_with_core_and_memory_time_gets_the_very_highest_clock(
    static_w: float, dynamic_j: float, core_cycles: float, memory_us: float, limit_w: float, rise: float, flat_mhz: int
) -> None:
    board = PowerSpec(board_limit_w=limit_w, static_w=static_w, flat_voltage_mhz=flat_mhz, voltage_rise_per_ghz=rise)

    def power_at(mhz: int) -> float:
        return static_w + dynamic_j * board.switching_energy_ratio(mhz) / (core_cycles / mhz + memory_us) * 1e6

    choice = clock_under_cap(power_at, A100_LIKE, limit_w, static_w, energy_ratio=board.switching_energy_ratio)
    assert choice.clock_mhz == highest_that_fits(power_at, A100_LIKE, limit_w)
    assert choice.runs <= 4


@given(
    static_w=st.floats(10, 150),
    energy_j=st.tuples(st.floats(1e-5, 1e-1), st.floats(0, 1e-1)),
    kernels=st.lists(st.tuples(st.floats(1, 1e7), st.floats(0, 1e4), st.booleans()), min_size=1, max_size=5),
    limit_w=watts,
    rise=st.floats(0, 2),
    flat_mhz=st.integers(210, 1410),
    clocked_share=st.floats(0, 1),
    near=st.sampled_from([0.0, 0.0025, 0.05]),
)
def test_of_any_mix_of_core_and_memory_bound_kernels_no_higher_clock_fits_than_one_found_before_the_last_run(
    static_w: float,
    energy_j: tuple[float, float],
    kernels: list[tuple[float, float, bool]],
    limit_w: float,
    rise: float,
    flat_mhz: int,
    clocked_share: float,
    near: float,
) -> None:
    """Kernels whose core and memory work overlap, or follow one another: clock x time is convex, so the curve errs to one side."""
    board = PowerSpec(board_limit_w=limit_w, static_w=static_w, flat_voltage_mhz=flat_mhz, voltage_rise_per_ghz=rise)
    chip_j, dram_j = energy_j

    def energy_ratio(mhz: float) -> float:
        return chip_j * board.switching_energy_ratio(mhz) + dram_j

    def power_at(mhz: int) -> float:
        time_us = sum(max(cycles / mhz, us) if overlap else cycles / mhz + us for cycles, us, overlap in kernels)
        return static_w + energy_ratio(mhz) / time_us * 1e6

    choice = clock_under_cap(power_at, A100_LIKE, limit_w, static_w, energy_ratio=energy_ratio, clocked_share=clocked_share, near=near)
    if choice.runs < MAX_RUNS and choice.clock_mhz != highest_that_fits(power_at, A100_LIKE, limit_w):
        assert power_at(choice.clock_mhz + A100_LIKE.step_mhz) > limit_w * (1 - near)


@pytest.mark.parametrize("clocked_share", [0.5, 0.6, 0.7])
@pytest.mark.parametrize("limit_w", range(280, 450, 10))
def test_where_the_curve_is_known_beforehand_the_top_clock_and_the_answer_are_all_that_is_run(limit_w: int, clocked_share: float) -> None:
    """The cost of a training step: each clock asked for is a run of all its kernels. Not too far down: there, another run narrows."""
    board = PowerSpec(board_limit_w=limit_w, static_w=60, flat_voltage_mhz=1065, voltage_rise_per_ghz=1.1)

    def power_at(mhz: int) -> float:
        return 60 + 220 * board.switching_energy_ratio(mhz) / (0.6 * 1410 / mhz + 0.4)

    share, ratio = clocked_share, board.switching_energy_ratio
    choice = clock_under_cap(power_at, A100_LIKE, limit_w, 60.0, energy_ratio=ratio, clocked_share=share)
    assert choice.clock_mhz == highest_that_fits(power_at, A100_LIKE, limit_w)
    assert choice.runs <= (2 if share == 0.6 else 3)


@given(share=st.floats(0.01, 1.5), rise=st.floats(0, 5), flat_mhz=st.integers(210, 1410), clock=st.integers(0, 80))
def test_a_share_of_the_power_is_met_by_a_step_and_by_none_above_it(share: float, rise: float, flat_mhz: int, clock: int) -> None:
    board = PowerSpec(board_limit_w=400, static_w=0, flat_voltage_mhz=flat_mhz, voltage_rise_per_ghz=rise)
    steps = clock_steps_mhz(A100_LIKE)

    def power(mhz: float) -> float:
        return mhz * board.switching_energy_ratio(mhz)

    chosen = clock_of_share(share, A100_LIKE, steps[clock], board.switching_energy_ratio)
    fitting = [step for step in steps if power(step) <= share * power(steps[clock])]
    assert chosen == (fitting[-1] if fitting else steps[0])


@given(flat_mhz=st.integers(210, 1400), rise=st.floats(0.01, 5), clocks=st.tuples(st.integers(210, 1410), st.integers(210, 1410)))
def test_voltage_is_lowest_up_to_a_clock_and_never_falls_beyond(flat_mhz: int, rise: float, clocks: tuple[int, int]) -> None:
    board = PowerSpec(board_limit_w=400, static_w=80, flat_voltage_mhz=flat_mhz, voltage_rise_per_ghz=rise)
    low, high = (board.switching_energy_ratio(mhz) for mhz in sorted(clocks))
    assert 1 <= low <= high
    assert board.switching_energy_ratio(flat_mhz) == 1
    assert board.switching_energy_ratio(flat_mhz + 1000) == pytest.approx((1 + rise) ** 2)
    assert PowerSpec(board_limit_w=400, static_w=80).switching_energy_ratio(max(clocks)) == 1


@given(flat_from_mhz=st.integers(1000, 1410), flat_w=st.floats(410, 600), ripple_w=st.floats(0, 2))
def test_a_flat_top_where_memory_is_the_limit_hides_the_rise_below_it_by_two_steps_at_most(
    flat_from_mhz: int, flat_w: float, ripple_w: float
) -> None:
    def power_at(mhz: int) -> float:
        return 60 + (flat_w - 60) * min(mhz / flat_from_mhz, 1) + (ripple_w * (mhz % 2) if mhz > flat_from_mhz else 0)

    choice = clock_under_cap(power_at, A100_LIKE, 400.0, 60.0)
    assert 0 <= highest_that_fits(power_at, A100_LIKE, 400.0) - choice.clock_mhz <= 2 * A100_LIKE.step_mhz


@given(power_w=st.lists(watts, min_size=81, max_size=81), limit_w=watts)
def test_a_curve_that_is_not_rising_still_gives_an_evaluated_clock_that_fits(power_w: list[float], limit_w: float) -> None:
    meter = Meter(lambda mhz: power_w[(mhz - 210) // 15])
    choice = clock_under_cap(meter, A100_LIKE, limit_w, 0.0)
    assert choice.clock_mhz in meter.asked
    assert len(meter.asked) <= MAX_RUNS
    assert choice.power_w <= limit_w or choice.clock_mhz == 210


def test_a_limit_below_the_lowest_clock_returns_that_clock_and_its_power() -> None:
    choice = clock_under_cap(lambda mhz: 100.0 + mhz, A100_LIKE, 50.0, 40.0)
    assert (choice.clock_mhz, choice.power_w, choice.capped) == (210, 310.0, True)


def test_a_machine_of_one_clock_is_evaluated_once() -> None:
    fixed = ClockSpec(boost_mhz=940, min_mhz=940, step_mhz=1)
    assert clock_under_cap(lambda mhz: 500.0, fixed, 300.0, 60.0) == ClockChoice(940, 500.0, runs=1, capped=True)


def test_a_lower_limit_never_gives_a_higher_clock_on_a_straight_curve() -> None:
    chosen = [clock_under_cap(lambda mhz: 60 + 0.2 * mhz, A100_LIKE, limit, 60.0).clock_mhz for limit in range(50, 400, 10)]
    assert chosen == sorted(chosen)


def test_fewer_than_two_runs_cannot_promise_a_clock_that_fits() -> None:
    with pytest.raises(ValueError, match="max_runs must be at least 2"):
        clock_under_cap(float, A100_LIKE, 100.0, 0.0, max_runs=1)
