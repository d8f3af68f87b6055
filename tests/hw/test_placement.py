"""A schedule handed to the simpy chip: it is kept, and the chip's own changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from nmsim.hw.chip_events import run_events, run_events_placed
from tests.hw.chip_cases import MEDIUM, Case, any_cases
from tests.hw.test_engines_agree import RELAXED


@settings(max_examples=30, deadline=None, database=None, print_blob=True, suppress_health_check=RELAXED)
@given(any_cases(MEDIUM))
def test_the_schedule_that_a_chip_used_gives_the_same_run_on_it_and_on_more_sms(case: Case) -> None:
    own, placement = run_events_placed(case.timing, case.plan, case.mainloop)
    assert own.equals(run_events(case.timing, case.plan, case.mainloop))
    again, same = run_events_placed(case.timing, case.plan, case.mainloop, placement)
    assert again.equals(own)
    assert same == placement
    more = replace(case.timing, sms=case.timing.sms + 1)
    wider, used = run_events_placed(more, case.plan, case.mainloop, placement)
    assert wider.ticks == own.ticks
    assert used == (*placement, ())


@settings(max_examples=30, deadline=None, database=None, print_blob=True, suppress_health_check=RELAXED)
@given(any_cases(MEDIUM))
def test_all_ctas_on_one_sm_run_there_and_leave_the_others_idle(case: Case) -> None:
    everything = tuple(range(len(case.plan.ctas)))
    outcome, used = run_events_placed(case.timing, case.plan, case.mainloop, (everything,))
    assert used == (everything, *((),) * (case.timing.sms - 1))
    assert not outcome.reserved_ticks[1:].any()
    assert outcome.k_tiles.sum() == case.plan.k_tiles


@settings(max_examples=5, deadline=None, database=None, print_blob=True, suppress_health_check=RELAXED)
@given(any_cases(MEDIUM))
def test_a_schedule_that_could_hang_or_lose_a_cta_is_refused(case: Case) -> None:
    ctas = len(case.plan.ctas)
    everything = tuple(range(ctas))
    for wrong in ((everything[1:],), (everything, (0,)), (*((),) * case.timing.sms, everything)):
        with pytest.raises(ValueError, match="a placement has to"):
            run_events_placed(case.timing, case.plan, case.mainloop, wrong)
    if ctas > 1:
        with pytest.raises(ValueError, match="launch order"):
            run_events_placed(case.timing, case.plan, case.mainloop, (everything[::-1],))
