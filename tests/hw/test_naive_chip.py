"""Both wirings agree to the tick with a third model that walks every tick and shares no code with them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.hw.chip_compiled import run_compiled
from nmsim.hw.chip_events import run_events
from nmsim.rules.stalls import STALL_NAMES
from tests.hw.chip_cases import PRODUCTS, SMALL, Case, cases
from tests.hw.naive_chip import run_naive
from tests.hw.plain import plain_kernel, plain_machine
from tests.hw.test_engines_agree import RELAXED


def check(case: Case) -> None:
    naive = run_naive(plain_machine(case), plain_kernel(case), warm=case.warm)
    for run in (run_compiled, run_events):
        outcome = run(case.timing, case.plan, case.mainloop, warm=case.warm)
        for name, value in vars(naive).items():
            if name == "stalls":
                found = [named_stalls(row.tolist()) for row in outcome.stalls]
                value = [{reason: ticks for reason, ticks in account.items() if ticks} for account in value]
            else:
                found = getattr(outcome, name)
            assert (found if isinstance(found, int | list) else found.tolist()) == value, f"{run.__name__}: {name}"


def named_stalls(ticks: list[int]) -> dict[str, int]:
    return {name: spent for name, spent in zip(STALL_NAMES, ticks, strict=True) if spent}


@pytest.mark.parametrize("kind", PRODUCTS)
@settings(max_examples=25, deadline=None, database=None, print_blob=True, suppress_health_check=RELAXED)
@given(data=st.data())
def test_both_engines_are_the_machine_that_walks_every_tick(kind: str, data: st.DataObject) -> None:
    check(data.draw(cases(SMALL, kind)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", PRODUCTS)
@settings(max_examples=500, deadline=None, database=None, print_blob=True, suppress_health_check=RELAXED)
@given(data=st.data())
def test_both_engines_are_the_machine_that_walks_every_tick_on_three_thousand_launches(kind: str, data: st.DataObject) -> None:
    check(data.draw(cases(SMALL, kind)))
