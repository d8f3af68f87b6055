"""The two wirings of the chip level are one machine: equal to the tick and in every counter and stall, on any launch."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmsim.hw.chip_compiled import run_compiled
from nmsim.hw.chip_events import run_events
from nmsim.hw.outcome import ChipOutcome
from tests.hw.chip_cases import LARGE, MEDIUM, PRODUCTS, Case, cases

RELAXED = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)


def assert_equal(events: ChipOutcome, compiled: ChipOutcome) -> None:
    for name in ChipOutcome.__dataclass_fields__:
        here, there = getattr(events, name), getattr(compiled, name)
        assert (here == there) if isinstance(here, int) else (here == there).all(), f"{name}: simpy {here}, compiled {there}"
    assert events.equals(compiled)


def check(case: Case) -> None:
    events = run_events(case.timing, case.plan, case.mainloop, warm=case.warm)
    compiled = run_compiled(case.timing, case.plan, case.mainloop, warm=case.warm)
    assert_equal(events, compiled)


@pytest.mark.parametrize("kind", PRODUCTS)
@settings(max_examples=100, deadline=None, database=None, print_blob=True, suppress_health_check=RELAXED)
@given(data=st.data())
def test_the_compiled_chip_is_the_simpy_chip_on_any_launch(kind: str, data: st.DataObject) -> None:
    check(data.draw(cases(MEDIUM, kind)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", PRODUCTS)
@settings(max_examples=3_500, deadline=None, database=None, print_blob=True, suppress_health_check=RELAXED)
@given(data=st.data())
def test_the_compiled_chip_is_the_simpy_chip_on_twenty_thousand_launches(kind: str, data: st.DataObject) -> None:
    check(data.draw(cases(LARGE, kind)))
