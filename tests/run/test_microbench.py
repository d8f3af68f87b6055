"""One matrix instruction on the SM's own units: latency at ILP 1, peak rate with enough warps, nothing beyond the peak."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.api import microbench
from nmsim.arch.spec import GpuSpec
from nmsim.errors import InputError

DENSE, SPARSE = (16, 8, 16), (16, 8, 32)


def test_a_dependent_chain_of_one_warp_shows_the_latency(spec: GpuSpec) -> None:
    for mma in spec.tensor_core.mma:
        timing = microbench(spec, shape=mma.shape, dtype=mma.dtype, pattern=mma.pattern, warps=1, ilp=1)
        assert timing.latency_cycles == timing.iteration_cycles == mma.latency_cycles


@pytest.mark.parametrize(("shape", "pattern", "peak"), [(DENSE, "dense", 1024), (SPARSE, "2:4", 2048)])
def test_enough_warps_reach_the_peak_of_the_sm(shape: tuple[int, int, int], pattern: str, peak: int, spec: GpuSpec) -> None:
    timing = microbench(spec, shape=shape, pattern=pattern, warps=8, ilp=4)
    assert timing.throughput_fma_per_cycle_per_sm == pytest.approx(peak, rel=0.01)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), warps=st.integers(1, 16), ilp=st.integers(1, 6))
def test_no_instruction_passes_its_peak_and_more_work_in_flight_never_slows_the_rate(
    data: st.DataObject, warps: int, ilp: int, spec: GpuSpec
) -> None:
    mma = data.draw(st.sampled_from(spec.tensor_core.mma))
    peak = mma.shape[0] * mma.shape[1] * mma.shape[2] / mma.issue_interval_cycles * spec.tensor_core.per_sm
    timing = microbench(spec, shape=mma.shape, dtype=mma.dtype, pattern=mma.pattern, warps=warps, ilp=ilp)
    more = microbench(spec, shape=mma.shape, dtype=mma.dtype, pattern=mma.pattern, warps=warps, ilp=ilp + 1)
    assert timing.throughput_fma_per_cycle_per_sm <= 1.01 * peak
    assert more.throughput_fma_per_cycle_per_sm >= 0.99 * timing.throughput_fma_per_cycle_per_sm
    assert timing.latency_cycles == mma.latency_cycles  # whatever the warps and the ILP


def test_one_warp_uses_one_tensor_core(spec: GpuSpec) -> None:
    rates = [microbench(spec, shape=DENSE, warps=warps, ilp=8).throughput_fma_per_cycle_per_sm for warps in (1, 2, 4)]
    assert rates == pytest.approx([256, 512, 1024], rel=0.01)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shape": (16, 8, 99)}, "has no such instruction, got 'm16n8k99 fp16 dense'; it has m16n8k16 fp16 dense"),
        ({"shape": DENSE, "dtype": "fp8"}, "has no such instruction"),
        ({"shape": DENSE, "warps": 0}, "an SM runs 1 to 64 warps"),
        ({"shape": DENSE, "ilp": 65}, "each with 1 to 64 chains"),
    ],
)
def test_what_the_machine_does_not_have_is_refused(options: dict[str, Any], words: str, spec: GpuSpec) -> None:
    with pytest.raises(InputError, match=words):
        microbench(spec, **options)
