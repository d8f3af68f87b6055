"""Watching a chip changes none of its ticks, and what is written down adds up to what the chip counts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmsim.engine.probe import Probe, Span, Window
from nmsim.hw.chip_events import run_events
from nmsim.hw.outcome import ChipOutcome
from nmsim.hw.probed import DEPTH_COUNTERS, PIPE_COUNTER, run_probed
from nmsim.rules.stalls import STALL_NAMES
from tests.hw.chip_cases import MEDIUM, PRODUCTS, Case, cases

RELAXED = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)
ENDLESS = 1 << 50


def watch(case: Case, *, until: int | None = None, end: int = ENDLESS) -> tuple[ChipOutcome | None, Probe]:
    probe = Probe(Window(0, end, ENDLESS, 1 << 20))
    everyone = range(case.timing.sms)
    return run_probed(case.timing, case.plan, case.mainloop, probe, everyone, warm=case.warm, until=until), probe


def ticks_of(spans: list[Span]) -> int:
    return sum(span.end - span.start for span in spans)


def assert_nested(spans: list[Span]) -> None:
    open_ends: list[int] = []
    for span in spans:
        while open_ends and open_ends[-1] <= span.start:
            open_ends.pop()
        assert not open_ends or span.end <= open_ends[-1]
        open_ends.append(span.end)


@pytest.mark.parametrize("kind", PRODUCTS)
@settings(max_examples=15, deadline=None, database=None, print_blob=True, suppress_health_check=RELAXED)
@given(data=st.data())
def test_a_watched_launch_is_the_same_launch_and_its_record_adds_up(kind: str, data: st.DataObject) -> None:
    case = data.draw(cases(MEDIUM, kind))
    plain = run_events(case.timing, case.plan, case.mainloop, warm=case.warm)
    outcome, probe = watch(case)
    assert outcome is not None
    assert outcome.equals(plain)
    tracks = probe.cut()
    for spans in tracks.values():
        assert_nested(spans)
    for sm in range(case.timing.sms):
        pipe, idle = tracks[f"SM {sm}", "tensor pipe"], tracks[f"SM {sm}", "stalls"]
        assert ticks_of(pipe) == plain.reserved_ticks[sm].sum()
        by_name = {name: ticks_of([span for span in idle if span.name == name]) for name in STALL_NAMES}
        assert list(by_name.values()) == plain.stalls[sm].tolist()
        day = sorted((span.start, span.end) for span in (*pipe, *idle))
        assert all(one[1] == other[0] for one, other in pairwise(day))
        assert not day or (day[0][0], day[-1][1]) == (0, plain.ticks)
    assert probe.amounts["DRAM reads"] == pytest.approx([plain.dram_read_bytes])
    assert probe.amounts["DRAM writes"] == pytest.approx([plain.dram_write_bytes])
    assert probe.amounts["L2 reads"] == pytest.approx([plain.l2_read_bytes])
    assert probe.amounts["L2 writes"] == pytest.approx([plain.l2_write_bytes])
    assert probe.amounts[PIPE_COUNTER] == pytest.approx([plain.reserved_ticks.sum()])
    bus = [span for (group, _), spans in tracks.items() if group == "DRAM" for span in spans if span.name in ("read", "write")]
    bursts = 0 if case.timing.bus_rate == 0 else plain.dram_accesses
    assert sum(span.amounts["count"] for span in bus) <= bursts
    assert all(value >= 0 for name in DEPTH_COUNTERS for value in probe.amounts[name])


@pytest.mark.parametrize("kind", PRODUCTS)
@settings(max_examples=6, deadline=None, database=None, print_blob=True, suppress_health_check=RELAXED)
@given(data=st.data())
def test_a_run_that_stops_early_has_done_the_same_by_then(kind: str, data: st.DataObject) -> None:
    case = data.draw(cases(MEDIUM, kind))
    outcome, _ = watch(case)
    assert outcome is not None
    stop = data.draw(st.integers(1, max(1, outcome.ticks)))
    _, early = watch(case, until=stop, end=stop)
    _, cut = watch(case, end=stop)
    found = early.cut()
    for track, spans in cut.cut().items():
        if track[1] == "tensor pipe" or track[0] in ("L2", "DRAM"):
            assert [(span.name, span.start, span.end) for span in found[track]] == [(span.name, span.start, span.end) for span in spans]
        elif track[1].startswith("CTA slot"):
            assert whole_ctas(found[track]) == whole_ctas(spans)


def whole_ctas(spans: list[Span]) -> list[tuple[str, int, int]]:
    """What a CTA does inside is written down as it ends, the CTA itself also where the run stops before."""
    return [(span.name, span.start, span.end) for span in spans if span.name.startswith("CTA")]
