from __future__ import annotations

import pytest

from nmsim.errors import InputError
from nmsim.result.whole_run import run_totals


def test_a_run_is_the_sum_of_its_steps_over_the_stages(make_result):
    sparse, tail = make_result(0), make_result(1)
    schedule = [{"steps": 250, "trace": "sparse"}, {"steps": 50, "trace": "tail"}]
    totals = run_totals(schedule, {"sparse": sparse, "tail": tail})
    assert list(totals) == list(sparse.total)
    for scheme, total in totals.items():
        one, other = sparse.total[scheme], tail.total[scheme]
        assert total.steps == 300
        assert total.time_s == pytest.approx((250 * one.time_us + 50 * other.time_us) / 1e6)
        assert total.energy_j == pytest.approx(250 * one.energy_j + 50 * other.energy_j)
    assert totals["traced"].speedup_vs_dense == pytest.approx(totals["dense"].time_s / totals["traced"].time_s)
    assert totals["dense"].speedup_vs_dense == 1


def test_a_run_of_one_kind_of_step_has_the_speed_up_of_the_step(make_result):
    step = make_result(2)
    totals = run_totals([{"steps": 7, "trace": "a"}], {"a": step})
    assert totals["traced"].speedup_vs_dense == pytest.approx(step.total["traced"].speedup_vs_dense)


def test_schemes_that_a_stage_lacks_are_left_out_and_a_missing_stage_is_named(make_result):
    full, narrow = make_result(0), make_result(1, schemes=("traced", "dense"))
    assert set(run_totals([{"steps": 1, "trace": "a"}, {"steps": 1, "trace": "b"}], {"a": full, "b": narrow})) == {"traced", "dense"}
    with pytest.raises(InputError, match="a trace that the schedule names was not simulated, got 'b'"):
        run_totals([{"steps": 1, "trace": "a"}, {"steps": 1, "trace": "b"}], {"a": full})
    with pytest.raises(InputError, match="the trace has no schedule"):
        run_totals([], {"a": full})
