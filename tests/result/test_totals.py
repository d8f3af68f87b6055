"""Totals are the sums of the rows: nothing is lost, nothing counted twice, and speed-ups are ratios of times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import PhysicsError
from nmsim.result.rows import PHASES, SimulationResult
from nmsim.result.totals import phase_totals, scheme_totals, speedup

MakeResult = Callable[..., SimulationResult]
QUANTITIES = ("cycles", "time_us", "energy_j")


@given(seed=st.integers(0, 2**32), kernels=st.integers(0, 12))
def test_phases_sum_to_the_total_to_the_last_bit(make_result: MakeResult, seed: int, kernels: int) -> None:
    rows = make_result(seed, kernels).rows
    phases, totals = phase_totals(rows), scheme_totals(rows)
    for scheme, total in totals.items():
        for quantity in QUANTITIES:
            added = 0.0
            for phase in phases:
                added += getattr(phase, quantity) if phase.scheme == scheme else 0.0
            assert added == getattr(total, quantity)


@given(seed=st.integers(0, 2**32))
def test_rows_sum_to_their_phase_to_the_last_bit(make_result: MakeResult, seed: int) -> None:
    rows = make_result(seed).rows
    for phase in phase_totals(rows):
        for quantity in QUANTITIES:
            added = 0.0
            for row in rows:
                added += getattr(row, quantity) if (row.phase, row.scheme) == (phase.phase, phase.scheme) else 0.0
            assert added == getattr(phase, quantity)


def test_every_scheme_has_every_phase_in_order_even_if_empty(make_result: MakeResult) -> None:
    phases = phase_totals(make_result(kernels=1).rows)
    assert [(phase.scheme, phase.phase) for phase in phases] == [
        (scheme, phase) for scheme in ("traced", "dense", "tile_wise") for phase in PHASES
    ]


def test_speed_up_is_the_ratio_of_times_and_one_against_itself(make_result: MakeResult) -> None:
    totals = scheme_totals(make_result().rows)
    assert totals["traced"].speedup_vs_dense == totals["dense"].time_us / totals["traced"].time_us
    assert totals["traced"].speedup_vs_tile_wise == totals["tile_wise"].time_us / totals["traced"].time_us
    assert totals["dense"].speedup_vs_dense == totals["tile_wise"].speedup_vs_tile_wise == 1.0


def test_a_scheme_that_was_not_simulated_gives_no_speed_up(make_result: MakeResult) -> None:
    totals = scheme_totals(make_result(schemes=("traced", "dense")).rows)
    assert totals["traced"].speedup_vs_tile_wise is None
    assert totals["traced"].speedup_vs_dense is not None


@pytest.mark.parametrize(("reference_us", "time_us"), [(None, 1.0), (1.0, None), (0.0, 1.0), (1.0, 0.0)])
def test_a_ratio_without_both_times_is_none(reference_us: float | None, time_us: float | None) -> None:
    assert speedup(reference_us, time_us) is None


def test_no_rows_have_no_totals() -> None:
    assert phase_totals(()) == ()
    assert scheme_totals(()) == {}


def test_a_row_that_no_total_would_count_is_refused(make_result: MakeResult) -> None:
    row = replace(make_result().rows[0], phase="warm-up")
    with pytest.raises(PhysicsError, match=r"gemm0 .* has the phase 'warm-up', which no total counts"):
        phase_totals((row,))
