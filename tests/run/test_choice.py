"""The kernels that are simulated hold the fastest one, or one as good: what the closed form does not know must not decide."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kernel_choice import ARCH_CONFIGS, loss, problems
from nmsim.arch.load import load_gpu
from nmsim.mapping.lower import lower_dense
from nmsim.run.choice import CANDIDATES, CHEAP_CANDIDATES, CHEAP_K_TILES, worth_running
from nmsim.run.single import what_if_gemm


@pytest.mark.parametrize(("arch", "pattern"), [("ampere_pcie.yaml", "2:4"), ("ampere_flex_nm.yaml", "1:8")])
def test_no_kernel_that_was_left_out_is_much_faster(arch: str, pattern: str) -> None:
    """In the mean of short GEMMs, where the ranking errs most, within 1 % of the best of some hundred kernels."""
    spec = load_gpu(ARCH_CONFIGS / arch)
    losses = [loss(spec, problem) for problem in problems(spec, 8, 64, 1500, [None, pattern])]
    assert sum(losses) / len(losses) < 0.01, losses


def test_more_kernels_are_simulated_where_that_is_cheap(ampere: Path) -> None:
    spec = load_gpu(ampere)

    def simulated(m: int, n: int, k: int) -> int:
        found = worth_running(spec, lower_dense(what_if_gemm(m, n, k, 1, "fp16", "fp16")))
        assert CANDIDATES <= len(found) <= CHEAP_CANDIDATES
        assert len(found) == CANDIDATES or sum(one.k_tiles for one in found) <= CHEAP_K_TILES
        return len(found)

    assert simulated(888, 1512, 72) > CANDIDATES
    assert simulated(8192, 8192, 8192) == CANDIDATES
