"""Three deliberately bad kernels of a publication, through the ordinary GEMM path: shared-memory conflicts and copies that block.

Sun et al., IEEE TPDS 34(1) 2023, arXiv:2206.02874, appendix A: BF16 2048^3 on an A100, CTA 64x64x64, 4 warps of 32x32. The authors'
code (sunlex0717/DissectingTensorCores, microbench/appendix) says what the cycles are: the longest time from a CTA's first instruction to
the end of its mainloop, over all CTAs. All three load B's fragments again for each row of MMAs; ptxas 11.7 to 13.0 give them 72, 64
and 70 registers, so that 7, 4 (two stages of 16 KiB) and 7 CTAs share an SM.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from nmsim.api import simulate_gemm
from nmsim.arch.spec import TileSpec
from nmsim.run.single import GemmResult


def kernel(**values: object) -> TileSpec:
    return TileSpec.model_validate({"cta": (64, 64, 128), "warp": (32, 32), "fragments": "reloaded", **values})


PUBLISHED = {
    "mma_baseline": (913_363, 7, kernel(stages=1, layout="linear", copy="sync", registers=72)),
    "mma_pipeline": (451_560, 4, kernel(stages=2, layout="linear", copy="async", registers=64)),
    "mma_permuted": (303_227, 7, kernel(stages=1, layout="permuted", copy="sync", registers=70)),
}


def run(ampere: Path, tile: TileSpec, engine: str | None = None) -> GemmResult:
    return simulate_gemm(ampere, m=2048, n=2048, k=2048, dtype="bf16", out_dtype="fp32", kernel=tile, engine=engine)


@pytest.fixture(scope="module")
def simulated(ampere: Path) -> dict[str, GemmResult]:
    return {name: run(ampere, tile) for name, (_, _, tile) in PUBLISHED.items()}


def test_the_longest_cta_takes_what_was_published_within_a_fifth_and_in_the_published_order(simulated: dict[str, GemmResult]) -> None:
    for name, (published, residents, _) in PUBLISHED.items():
        assert simulated[name].longest_cta_cycles == pytest.approx(published, rel=0.2), name
        assert simulated[name].occupancy == residents
    longest = [result.longest_cta_cycles for result in simulated.values()]
    assert longest == sorted(longest, reverse=True)


def test_shared_memory_is_what_binds_them_and_the_whole_kernel_tells_another_story(simulated: dict[str, GemmResult]) -> None:
    """Four CTAs with asynchronous copies finish sooner than seven that block, each of them; the kernel hardly gains from it."""
    assert all(result.bound == "shared_memory" for result in simulated.values())
    whole = {name: result.cycles for name, result in simulated.items()}
    assert 0.8 < whole["mma_pipeline"] / whole["mma_baseline"] < 1
    assert whole["mma_permuted"] < 0.5 * whole["mma_pipeline"]
    assert all(result.longest_cta_cycles < result.cycles for result in simulated.values())


def test_the_library_s_own_kernel_is_several_times_faster(simulated: dict[str, GemmResult], ampere: Path) -> None:
    chosen = simulate_gemm(ampere, m=2048, n=2048, k=2048, dtype="bf16", out_dtype="fp32")
    assert chosen.cycles < 0.35 * simulated["mma_permuted"].cycles
