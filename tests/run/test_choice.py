"""The kernels that are simulated hold the fastest one, or one as good: what the closed form does not know must not decide."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kernel_choice import ARCH_CONFIGS, loss, problems
from nmsim.arch.load import load_gpu
from nmsim.mapping.candidates import rank
from nmsim.mapping.lower import lower_dense, lower_nm
from nmsim.run.choice import CANDIDATES, CHEAP_CANDIDATES, CHEAP_K_TILES, LONG_ESTIMATE, worth_running
from nmsim.run.single import what_if_gemm
from nmsim.sparsity.pattern import NMPattern


@pytest.mark.parametrize(("arch", "pattern"), [("ampere_pcie.yaml", "2:4"), ("ampere_flex_nm.yaml", "1:8")])
def test_no_kernel_that_was_left_out_is_much_faster(arch: str, pattern: str) -> None:
    """In the mean of short GEMMs, where the ranking errs most, within 1 % of the best of some hundred kernels."""
    spec = load_gpu(ARCH_CONFIGS / arch)
    losses = [loss(spec, problem) for problem in problems(spec, 8, 64, 1500, [None, pattern])]
    assert sum(losses) / len(losses) < 0.01, losses


def test_more_kernels_are_simulated_where_that_is_cheap(ampere: Path) -> None:
    spec = load_gpu(ampere)

    def simulated(m: int, n: int, k: int, pattern: NMPattern | None = None) -> int:
        gemm = what_if_gemm(m, n, k, 1, "fp16", "fp16")
        problem = lower_nm(gemm, "b", pattern, spec.metadata_code("fp16", pattern)) if pattern else lower_dense(gemm)
        found, ranked = worth_running(spec, problem), rank(spec, problem, CHEAP_CANDIDATES)
        cheap = sum(one.k_tiles for one in ranked[:CANDIDATES]) <= CHEAP_K_TILES
        assert len(found) <= (CHEAP_CANDIDATES if cheap else CANDIDATES)
        assert len(found) <= CANDIDATES or sum(one.k_tiles for one in found) <= CHEAP_K_TILES
        left_out = ranked[len(found) : CANDIDATES]
        assert not cheap or not left_out
        assert all(one.estimate_cycles > LONG_ESTIMATE * ranked[0].estimate_cycles for one in left_out)
        return len(found)

    assert simulated(888, 1512, 72) > CANDIDATES
    assert simulated(8192, 8192, 8192) == CANDIDATES
    assert simulated(65536, 64, 1024, NMPattern(2, 4)) < CANDIDATES
