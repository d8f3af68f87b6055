"""Suite monotone: its draw, its improved machines, and a few of its GEMMs."""

from __future__ import annotations

import pytest

from nmsim.arch.load import load_gpu
from nmsim.validation.measured import Context, find_arch
from nmsim.validation.suites import monotone
from nmsim.validation.suites.monotone import IMPROVEMENTS, LARGEST, SMALLEST, draw, improved, measure


def test_the_draw_is_the_same_each_time_and_covers_its_range() -> None:
    gemms = draw(200)
    assert gemms[:20] == draw(20)
    assert len(set(gemms)) == 200
    sides = [side for gemm in gemms for side in (gemm.m, gemm.n, gemm.k)]
    assert min(sides) >= SMALLEST
    assert max(sides) <= LARGEST
    assert min(sides) < 2 * SMALLEST < LARGEST / 2 < max(sides)
    assert sum(gemm.pattern is not None for gemm in gemms) == 100


@pytest.mark.parametrize("name", IMPROVEMENTS)
def test_an_improvement_changes_one_value_for_the_better(name: str) -> None:
    spec = load_gpu(find_arch("ampere.yaml"))
    block, key, factor = IMPROVEMENTS[name]
    better = improved(spec, block, key, factor)
    changed = [field for field, value in spec if getattr(better, field) != value]
    assert changed == ["tensor_core" if block == "decoder" else block]
    old, new = (one.tensor_core.decoder if block == "decoder" else getattr(one, block) for one in (spec, better))
    assert getattr(new, key) == pytest.approx(factor * getattr(old, key), rel=0.01)


def test_a_machine_that_is_really_worse_is_not_taken_for_an_anomaly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the L2's bandwidth, called an improvement: every gentler one costs time too."""
    monkeypatch.setattr(monotone, "IMPROVEMENTS", {"a narrow L2": ("l2", "sustained_fraction", 0.25)})
    monkeypatch.setattr(monotone, "QUICK_GEMMS", 4)
    (check,) = measure(Context(most_macs=1)).checks
    assert not check.holds
    assert "slower with any improvement" in check.evidence


@pytest.mark.slow
def test_twenty_gemms_are_never_slower_on_a_better_machine() -> None:
    checks = measure(Context(most_macs=1)).checks
    assert [check.name for check in checks] == list(IMPROVEMENTS)
    assert all(check.holds for check in checks), [check.evidence for check in checks]
