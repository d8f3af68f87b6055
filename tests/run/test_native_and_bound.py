"""Which native pattern runs a pattern, what a kernel is called bound by, and the sentence for a slower sparse one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.arch.spec import GpuSpec, MmaSpec
from nmsim.rules.stalls import BOUND_OF_STALL, BOUNDS, STALL_NAMES, Stall
from nmsim.run.bound import bound_of, why_slower
from nmsim.run.native import native_pattern
from nmsim.sparsity.pattern import NMPattern


@pytest.fixture(scope="module")
def three_patterns(spec: GpuSpec) -> GpuSpec:
    """A machine that holds 2:4, 1:4 and 4:8 for fp16."""
    extra = tuple(
        MmaSpec(dtype="fp16", shape=(16, 8, 64), pattern=pattern, issue_interval_cycles=8.0, latency_cycles=25)
        for pattern in ("1:4", "4:8")
    )
    return spec.model_copy(update={"tensor_core": spec.tensor_core.model_copy(update={"mma": (*spec.tensor_core.mma, *extra)})})


@given(n=st.integers(1, 16), m=st.integers(1, 16), k=st.integers(1, 400))
def test_the_native_pattern_contains_the_asked_one_saves_work_and_is_the_cheapest(n: int, m: int, k: int, three_patterns: GpuSpec) -> None:
    pattern = NMPattern(min(n, m), m)
    held = [NMPattern(2, 4), NMPattern(1, 4), NMPattern(4, 8)]
    found = native_pattern(three_patterns, "fp16", pattern, k)
    containing = [own for own in held if own.contains(pattern)]
    if found.pattern is None:
        cheapest = min((own.density for own in containing), default=None)
        assert cheapest is None or min(own.compressed_k(k) for own in containing if own.density == cheapest) >= k
        assert found.reason.endswith("runs dense")
        return
    assert found.pattern in containing
    assert found.pattern.density == min(own.density for own in containing)
    assert found.pattern.compressed_k(k) < k
    assert (found.reason == "") == (found.pattern == pattern)


def test_each_type_has_its_own_patterns(spec: GpuSpec) -> None:
    assert native_pattern(spec, "tf32", NMPattern(1, 2), 64).pattern == NMPattern(1, 2)
    assert native_pattern(spec, "tf32", NMPattern(2, 4), 64).pattern is None  # two in the same pair are legal in 2:4
    assert native_pattern(spec, "fp16", NMPattern(1, 2), 64).pattern == NMPattern(2, 4)
    assert "no sparse pattern" in native_pattern(spec, "int4", NMPattern(2, 4), 64).reason


def stalls(**cycles: float) -> dict[str, float]:
    return dict.fromkeys(STALL_NAMES, 0.0) | cycles


@pytest.mark.parametrize("stall", Stall)
def test_the_largest_family_of_stalls_bounds_a_kernel(stall: Stall) -> None:
    assert bound_of(10.0, stalls(**{stall.name.lower(): 11.0})) == BOUND_OF_STALL[stall]
    assert bound_of(10.0, stalls(**{stall.name.lower(): 9.0})) == "tensor"


def test_stalls_of_one_family_add_up_and_a_launch_counts_as_latency() -> None:
    assert bound_of(10.0, stalls(dram_queue=4.0, dram_row=4.0, dram_bus=4.0)) == "dram"
    assert bound_of(10.0, stalls(imbalance=9.0), launch_cycles=11.0) == "latency"
    assert set(BOUND_OF_STALL.values()) | {"tensor"} == set(BOUNDS)


def test_why_slower_names_the_launch_or_the_bound() -> None:
    assert why_slower("2:4", 5.0, 4.0, 4.5, "latency") == (
        "2:4 is slower here (5.00 us against 4.00 us dense): launch, fill and waiting are 90% of the time"
    )
    assert why_slower("2:4", 50.0, 40.0, 24.2, "dram").endswith("(50.00 us against 40.00 us dense): it is bound by dram")


def test_a_tail_reads_the_length_of_one_tap(spec: GpuSpec) -> None:
    two_four = NMPattern(2, 4)
    assert native_pattern(spec, "fp16", two_four, 2, 9).pattern is None
    assert native_pattern(spec, "fp16", two_four, 18, 1).pattern == two_four
