"""Suite monotone: its draw, its improved machines, and a few of its GEMMs."""

from __future__ import annotations

import pytest

from nmsim.arch.load import load_gpu
from nmsim.validation.measured import Check, Context, find_arch
from nmsim.validation.suites import monotone
from nmsim.validation.suites.monotone import IMPROVEMENTS, LARGEST, SMALLEST, Improvement, RandomGemm, draw, measure


def test_the_draw_is_the_same_each_time_and_covers_its_range() -> None:
    gemms = draw(200)
    assert gemms[:20] == draw(20)
    assert len(set(gemms)) == 200
    sides = [side for gemm in gemms for side in (gemm.m, gemm.n, gemm.k)]
    assert min(sides) >= SMALLEST
    assert max(sides) <= LARGEST
    assert min(sides) < 2 * SMALLEST < LARGEST / 2 < max(sides)
    assert sum(gemm.pattern is not None for gemm in gemms) == 100
    assert {gemm.pattern for gemm in draw(20, ("1:4", "1:8"))} == {"1:4", "1:8"}


@pytest.mark.parametrize("name", IMPROVEMENTS)
def test_an_improvement_changes_one_value_for_the_better(name: str) -> None:
    improvement = IMPROVEMENTS[name]
    spec = load_gpu(find_arch(improvement.arch), improvement.overrides)
    better = improvement.better(spec)
    changed = [field for field, value in spec if getattr(better, field) != value]
    assert changed == ["tensor_core" if improvement.block == "decoder" else improvement.block]
    old, new = (one.tensor_core.decoder if improvement.block == "decoder" else getattr(one, improvement.block) for one in (spec, better))
    assert getattr(new, improvement.key) == pytest.approx(improvement.factor * getattr(old, improvement.key), rel=0.01)


def one_check(monkeypatch: pytest.MonkeyPatch, improvement: Improvement, gemms: list[RandomGemm]) -> Check:
    """The suite's check of one improvement on these GEMMs."""
    monkeypatch.setattr(monotone, "IMPROVEMENTS", {"the improvement": improvement})
    monkeypatch.setattr(monotone, "QUICK_GEMMS", len(gemms))
    monkeypatch.setattr(monotone, "draw", lambda count, patterns: gemms)
    (check,) = measure(Context(most_macs=1)).checks
    return check


def test_a_machine_that_is_really_worse_is_not_taken_for_an_anomaly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the L2's bandwidth, called an improvement, is slower with the old schedule too."""
    check = one_check(monkeypatch, Improvement("l2", "sustained_fraction", 0.25), [RandomGemm(512, 1024, 2048, None)])
    assert not check.holds
    with_the_old_schedule = float(check.evidence.split("with the old schedule ")[1].split("%")[0])
    assert with_the_old_schedule > 100 * monotone.ALLOWED


def test_an_anomaly_is_gone_with_the_old_schedule_and_still_may_not_be_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """This GEMM's CTAs need three rounds on 108 SMs and on 144. More SMs with the old schedule leave the added ones idle."""
    gemm = RandomGemm(2024, 2928, 320, "2:4")
    check = one_check(monkeypatch, IMPROVEMENTS["more SMs"], [gemm])
    assert "with the old schedule +0.0%" in check.evidence
    others = [RandomGemm(2048, 2048, 512, None)] * 60
    monkeypatch.setattr(monotone, "WORST_ANOMALY", 0.5)
    assert one_check(monkeypatch, IMPROVEMENTS["more SMs"], [gemm, *others]).holds
    monkeypatch.setattr(monotone, "WORST_ANOMALY", 0.05)
    assert not one_check(monkeypatch, IMPROVEMENTS["more SMs"], [gemm, *others]).holds


@pytest.mark.parametrize("name", ["a faster decoder", "more L2 capacity", "more power"])
def test_what_is_improved_binds_on_the_machine_of_its_check(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gemm = RandomGemm(2024, 2872, 3920, "1:8" if name == "a faster decoder" else "2:4")
    check = one_check(monkeypatch, IMPROVEMENTS[name], [gemm])
    assert check.holds
    assert "faster by more than that: 1" in check.evidence


def test_a_check_whose_improvement_moves_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The A100's own decoder never binds at 2:4."""
    check = one_check(monkeypatch, Improvement("decoder", "codes_per_cycle", 2), [RandomGemm(1024, 1024, 1024, "2:4")])
    assert not check.holds
    assert "faster by more than that: 0" in check.evidence


@pytest.mark.slow
def test_twenty_gemms_are_never_slower_on_a_better_machine() -> None:
    checks = measure(Context(most_macs=1)).checks
    assert [check.name for check in checks] == list(IMPROVEMENTS)
    assert all(check.holds for check in checks), [check.evidence for check in checks]
