"""The memory microbenchmarks: plateaus by hand, curves that do not fall, rates that no level exceeds."""

from itertools import pairwise
from pathlib import Path

import pytest

from nmsim.api import microbench_chase, microbench_stream
from nmsim.arch.load import load_gpu
from nmsim.arch.spec import GpuSpec
from nmsim.errors import InputError

KIB = 1024
QUIET = ["dram.refresh_ns=0", "l1.capacity_bytes=16384", "l2.capacity_bytes=1048576", "l2.block_bytes=4096", "dram.banks=1"]
"""Small caches, no refresh, no row that is still open: a chase then takes one time a level."""
SMALL = [*QUIET, "dram.banks=16", "sm.count=8", "l2.slices_per_partition=4", "dram.channels=4", "dram.bandwidth_gb_per_s=200"]


@pytest.fixture(scope="module")
def quiet(ampere: Path) -> GpuSpec:
    return load_gpu(ampere, QUIET)


@pytest.fixture(scope="module")
def small(ampere: Path) -> GpuSpec:
    return load_gpu(ampere, SMALL)


def cycles(spec: GpuSpec, kib: int) -> float:
    return microbench_chase(spec, working_set_bytes=kib * KIB).latency_cycles


def miss_cycles(spec: GpuSpec, l2_cycles: int) -> float:
    """A miss in a bank with another row open: precharge, activate, column access, one interleave on a channel, the controller's path."""
    dram = spec.dram
    burst_ns = dram.interleave_bytes / (dram.bandwidth_gb_per_s / dram.channels)
    row_ns = dram.precharge_ns + dram.row_to_column_ns + dram.cas_ns
    return l2_cycles + (row_ns + burst_ns + dram.controller_ns) * spec.clock.boost_mhz / 1000


def test_each_plateau_of_a_chase_is_the_sum_of_what_a_load_meets(quiet: GpuSpec) -> None:
    """128 bytes take two cycles of an SM's port; half of the buffer is at home in the far partition."""
    assert quiet.l1 is not None
    near, far, port = quiet.l2.near_latency_cycles, quiet.l2.far_latency_cycles, 2
    near_miss, far_miss = miss_cycles(quiet, near), miss_cycles(quiet, far)
    assert cycles(quiet, 16) == quiet.l1.latency_cycles
    assert cycles(quiet, 500) == pytest.approx(near + port, abs=1)
    assert cycles(quiet, 900) == pytest.approx((far + near_miss) / 2, rel=0.02)  # copies leave no room for what is at home near
    assert cycles(quiet, 4096) == pytest.approx((near_miss + far_miss) / 2, rel=0.02)


def test_without_copies_a_chase_pays_the_mean_of_near_and_far_as_far_as_the_l2_reaches(ampere: Path) -> None:
    spec = load_gpu(ampere, [*QUIET, "l2.copies_far_blocks=false"])
    mean = (spec.l2.near_latency_cycles + spec.l2.far_latency_cycles) / 2
    for kib in (200, 900):
        assert cycles(spec, kib) == pytest.approx(mean, abs=2)


def test_latency_does_not_fall_as_the_working_set_grows(quiet: GpuSpec) -> None:
    curve = [cycles(quiet, kib) for kib in (1, 15, 17, 40, 250, 510, 515, 700, 1000, 1030, 2000, 6000)]
    for smaller, larger in pairwise(curve):
        assert larger >= smaller * 0.99  # which banks the measured loads meet is a matter of chance
    assert curve[-1] > 10 * curve[0]


def test_who_serves_a_chase_is_who_holds_the_buffer(quiet: GpuSpec) -> None:
    shares = {kib: microbench_chase(quiet, working_set_bytes=kib * KIB) for kib in (8, 400, 900, 2000)}
    assert [shares[kib].l1_hits for kib in (8, 400, 900, 2000)] == [1, 0, 0, 0]
    assert [shares[kib].dram_reads for kib in (8, 400, 2000)] == [0, 0, 1]
    assert shares[900].dram_reads == pytest.approx(0.5, abs=0.02)


def test_refresh_adds_to_the_latency_what_a_channel_stands_still_on_average(ampere: Path) -> None:
    """A load that comes at any time waits for half of a refresh in the share of the time that refresh takes."""
    latency = {ns: cycles(load_gpu(ampere, [*QUIET, f"dram.refresh_ns={ns}"]), 4096) for ns in (0, 450)}
    expected_ns = 450 / 3900 * 450 / 2
    assert latency[450] - latency[0] == pytest.approx(expected_ns * 1.41, rel=0.25)


def test_a_stream_is_as_fast_as_the_level_that_holds_it_and_no_faster(small: GpuSpec) -> None:
    held = microbench_stream(small, working_set_bytes=384 * KIB)
    assert held.dram_share == 0
    assert 0.9 * small.l2.bandwidth_gb_per_s < held.bandwidth_gb_per_s <= small.l2.bandwidth_gb_per_s * 1.001
    beyond = microbench_stream(small, working_set_bytes=8 << 20)
    assert beyond.dram_share == pytest.approx(1, abs=0.02)
    assert 0.9 * small.dram.bandwidth_gb_per_s < beyond.bandwidth_gb_per_s <= small.dram.bandwidth_gb_per_s * 1.001


def test_refresh_costs_a_stream_its_share_of_the_time(ampere: Path) -> None:
    rates = {
        ns: microbench_stream(load_gpu(ampere, [*SMALL, f"dram.refresh_ns={ns}"]), working_set_bytes=8 << 20).bandwidth_gb_per_s
        for ns in (0, 450)
    }
    assert rates[450] / rates[0] == pytest.approx(1 - 450 / 3900, abs=0.02)


def test_bandwidth_falls_from_one_level_to_the_next_as_the_working_set_grows(small: GpuSpec) -> None:
    curve = [microbench_stream(small, working_set_bytes=kib * KIB) for kib in (256, 512, 768, 896, 1536, 4096)]
    for smaller, larger in pairwise(curve):
        assert larger.dram_share >= smaller.dram_share - 0.02
        assert larger.bandwidth_gb_per_s <= smaller.bandwidth_gb_per_s * 1.05


def test_a_place_to_walk_is_needed(quiet: GpuSpec) -> None:
    with pytest.raises(InputError, match="at least 128"):
        microbench_chase(quiet, working_set_bytes=64)
    with pytest.raises(InputError, match="80 GiB"):
        microbench_stream(quiet, working_set_bytes=1 << 40)
    with pytest.raises(InputError, match="no L1"):
        microbench_chase(quiet.model_copy(update={"l1": None}), working_set_bytes=4096)
