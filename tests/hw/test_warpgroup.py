"""Warpgroup instructions: the tensor cores' rate where shared memory allows it, the port's pace where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmsim.arch.load import load_gpu
from nmsim.arch.spec import GpuSpec
from nmsim.hw.mainloop import MainloopTiming
from nmsim.hw.sm_level import simulate_mainloop
from nmsim.mapping.plan import MainloopKey
from nmsim.run.microbench import microbench_mma


@pytest.fixture(scope="module")
def hopper() -> GpuSpec:
    return load_gpu(Path(__file__).parents[2] / "arch_configs" / "hopper.yaml")


def key(pattern: str, tile: tuple[int, int, int], warp: tuple[int, int], mma: tuple[int, int, int]) -> MainloopKey:
    m, n, k = tile
    kept = k if pattern == "dense" else k // 2
    copied = (m * kept + n * k) * 2 + (0 if pattern == "dense" else m * kept // 4)
    return MainloopKey("mma", "fp16", pattern, tile, warp, 3, mma, copied)


DENSE = key("dense", (128, 256, 64), (16, 256), (64, 256, 16))
SPARSE = key("2:4", (128, 256, 128), (16, 256), (64, 256, 32))


def cycles(timing: MainloopTiming, residents: int = 1) -> float:
    numerator, denominator = timing.period[residents - 1]
    return numerator / denominator


def test_a_dense_warpgroup_mainloop_runs_within_a_twentieth_of_the_tensor_cores_rate(hopper: GpuSpec) -> None:
    """Two warpgroups x four k-steps x 128 cycles; the port serves 8 x 80 + 384 of these 1024 cycles."""
    timing = simulate_mainloop(hopper, DENSE, 1)
    assert timing.busy_cycles[0] / timing.busy_cycles[1] == 2 * 4 * 128
    assert 1024 <= cycles(timing) <= 1024 * 1.05


def test_a_sparse_warpgroup_mainloop_is_bound_by_the_port_that_feeds_it(hopper: GpuSpec) -> None:
    """An instruction of 128 cycles streams 18 KiB, 144 cycles of the port, and copies of 73 KiB take the port too."""
    timing = simulate_mainloop(hopper, SPARSE, 1)
    port = (2 * 4 * ((64 * 16 + 256 * 32) * 2 + 4 * 16 * 16 * 2 // 8) + SPARSE.copy_bytes) / 128
    assert cycles(timing) == pytest.approx(port, rel=0.02)
    assert timing.stall_share[0]["shared_memory"] > 0.9
    assert timing.shared_memory_bytes == pytest.approx(port * 128)


def test_a_small_tile_of_one_warpgroup_needs_a_second_cta(hopper: GpuSpec) -> None:
    small = key("dense", (64, 128, 64), (16, 128), (64, 128, 16))
    timing = simulate_mainloop(hopper, small, 2)
    assert 4 * 64 <= cycles(timing, 2) <= cycles(timing, 1)


def test_a_warpgroup_instruction_saturates_the_sm_with_four_warps_and_one_chain(hopper: GpuSpec) -> None:
    """512 FMA a cycle and tensor core; with A and B from shared memory the 2:4 form runs at 128 / 144 of its rate."""
    dense = microbench_mma(hopper, (64, 256, 16), "fp16", pattern="dense", warps=4, ilp=1)
    assert dense.latency_cycles == 128
    assert dense.throughput_fma_per_cycle_per_sm == pytest.approx(2048, rel=0.001)
    sparse = microbench_mma(hopper, (64, 256, 32), "fp16", pattern="2:4", warps=4, ilp=2)
    assert sparse.throughput_fma_per_cycle_per_sm == pytest.approx(4096 * 128 / 144, rel=0.01)
