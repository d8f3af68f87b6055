"""Peak memory of a process of its own."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.measure import ARCH, peak_mib_of

LARGE_GEMM_MIB, BERT_BASE_GEMM_MIB = 1024, 200

ONE_KERNEL = """
import sys
from nmsim.api import load_arch
from nmsim.mapping.candidates import build_plan, rank
from nmsim.mapping.lower import lower_dense, lower_nm
from nmsim.run.choice import RunOptions, run_at
from nmsim.run.single import what_if_gemm
from nmsim.sparsity.pattern import NMPattern
path, m, n, k, pattern = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
spec, gemm = load_arch(path), what_if_gemm(m, n, k, 1, "fp16", "fp16")
problem = lower_dense(gemm) if pattern == "dense" else lower_nm(gemm, "b", NMPattern.parse(pattern))
run_at(spec, build_plan(spec, rank(spec, problem)[0]), spec.clock.boost_mhz, RunOptions())
"""


@pytest.mark.parametrize("pattern", ["dense", "2:4"])
def test_a_gemm_of_22_million_k_tiles_fits_a_gibibyte(benchmark: Any, environment: dict[str, str], pattern: str) -> None:
    arguments = [str(ARCH), "65536", "37888", "18944", pattern]
    peak_mib = benchmark.pedantic(peak_mib_of, (ONE_KERNEL, arguments, environment), rounds=1)
    benchmark.extra_info["peak_mib"] = peak_mib
    assert peak_mib < LARGE_GEMM_MIB


@pytest.mark.parametrize(("n", "k"), [(768, 768), (3072, 768), (768, 3072)])
def test_a_gemm_of_bert_base_fits_200_mebibytes(benchmark: Any, environment: dict[str, str], n: int, k: int) -> None:
    arguments = [str(ARCH), str(32 * 128), str(n), str(k), "dense"]
    peak_mib = benchmark.pedantic(peak_mib_of, (ONE_KERNEL, arguments, environment), rounds=1)
    benchmark.extra_info["peak_mib"] = peak_mib
    assert peak_mib < BERT_BASE_GEMM_MIB
