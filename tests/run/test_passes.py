"""Memory-bound and flop-bound passes: every SM has its part, so that a pass takes what its flops and bytes take and little more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.arch.spec import GpuSpec
from nmsim.mapping.plan import KernelPlan
from nmsim.mapping.stream import plan_stream
from nmsim.run.choice import RunOptions, run_at
from nmsim.run.kernel import KernelRun

BYTES, FLOPS = st.integers(1_000, 10_000_000), st.integers(10_000, 2_000_000_000)
IN_AND_OUT_US = 2.8
"""The first operands from DRAM, the last ones to it, and (a small tensor lies in few blocks) a block of 32 KiB from each of a few channels
of 51 GB/s in turn."""
BLOCK_US = 0.65
"""One block from one channel."""


def planned(spec: GpuSpec, read: int, written: int, flops: int) -> KernelPlan:
    return plan_stream("pass", read, written, flops, spec.l2.block_bytes, spec.dram.interleave_bytes, spec.sm.count)


def run(spec: GpuSpec, read: int, written: int, flops: int) -> KernelRun:
    return run_at(spec, planned(spec, read, written, flops), spec.clock.boost_mhz, RunOptions())


def flops_us(spec: GpuSpec, flops: int) -> float:
    return flops / (2 * spec.sm.fp32_fma_per_cycle * spec.sm.count * spec.clock.boost_mhz)


@settings(max_examples=40, deadline=None)
@given(read=BYTES, written=BYTES, flops=FLOPS)
def test_a_pass_takes_its_flops_or_its_bytes_and_at_most_both(read: int, written: int, flops: int, spec: GpuSpec) -> None:
    """No overlap of the two at the worst, DRAM at no less than 80 % of its pins, where reads and writes take turns."""
    time_us, arithmetic_us = run(spec, read, written, flops).time_us, flops_us(spec, flops)
    assert max(arithmetic_us, read / spec.dram.bandwidth_gb_per_s / 1e3) <= time_us
    assert time_us <= arithmetic_us + (read + written) / (0.8 * spec.dram.bandwidth_gb_per_s * 1e3) + IN_AND_OUT_US


@settings(max_examples=40, deadline=None)
@given(read=BYTES, written=BYTES, flops=FLOPS, shares=st.tuples(*[st.floats(0, 1)] * 3))
def test_less_to_do_never_takes_longer(read: int, written: int, flops: int, shares: tuple[float, float, float], spec: GpuSpec) -> None:
    """But for a block that lies on a channel of its own: fewer bytes lie on fewer channels."""
    less = run(spec, *(round(share * one) for share, one in zip(shares, (read, written, flops), strict=True)))
    assert less.time_us <= 1.02 * run(spec, read, written, flops).time_us + BLOCK_US


@settings(max_examples=60, deadline=None)
@given(read=BYTES, written=BYTES, flops=st.integers(10**8, 2 * 10**9))
def test_where_flops_bound_a_pass_each_sm_has_as_many_of_them(read: int, written: int, flops: int, spec: GpuSpec) -> None:
    plan = planned(spec, read, written, flops)
    if flops > 8 * max(read, written):
        assert len(plan.ctas) % spec.sm.count == 0
        assert len(set(plan.k_tiles_per_cta.tolist())) == 1


@pytest.mark.parametrize("nbytes", [100 << 20, (100 << 20) + 4096, 105_172_172])
def test_what_lies_between_two_ctas_is_read_once(nbytes: int, spec: GpuSpec) -> None:
    """Far beyond the L2, whatever the length is: as a pass of whole CTAs reads."""
    whole = run(spec, 100 << 20, 100 << 20, 0)
    other = run(spec, nbytes, nbytes, 0)
    assert other.counters.dram_read_bytes / nbytes == pytest.approx(whole.counters.dram_read_bytes / (100 << 20), rel=0.01)
    assert other.time_us / nbytes == pytest.approx(whole.time_us / (100 << 20), rel=0.02)


def test_fewer_flops_or_bytes_of_half_a_weight_are_faster_on_a_small_shape(spec: GpuSpec) -> None:
    """512 x 512 x 512: the flops at 1/2 take 6.9 us on an A100; fewer index bytes never cost time."""
    side, times = 512, {}
    for index_bytes in (4.0, 0.5):
        for density in np.arange(0.1, 1.01, 0.1):
            read, flops = round(2 * side**2 + density * side**2 * (2 + index_bytes)), round(2 * density * side**3)
            times[index_bytes, round(density, 1)] = run(spec, read, 2 * side**2, flops).time_us
            assert times[index_bytes, round(density, 1)] < flops_us(spec, flops) + IN_AND_OUT_US
    for index_bytes in (4.0, 0.5):
        over_density = [times[index_bytes, round(density, 1)] for density in np.arange(0.1, 1.01, 0.1)]
        assert over_density == sorted(over_density)
    assert all(times[0.5, density] <= time_us for (index_bytes, density), time_us in times.items() if index_bytes == 4.0)
