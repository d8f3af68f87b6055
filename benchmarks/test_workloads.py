"""Whole training steps under three schemes, and each GEMM of BERT-base, with memory modelled."""

from __future__ import annotations

import time
from typing import Any

import pytest

from benchmarks.step_traces import bert_step, resnet50_step
from nmsim.api import simulate
from nmsim.arch.spec import GpuSpec
from nmsim.mapping.lower import lower_dense
from nmsim.run.choice import RunOptions, best_kernel, run_at
from nmsim.workload.trace import Trace

RESNET50_S, BERT_LARGE_S = 10.0, 5.0
BERT_BASE_GEMM_S = 0.1


@pytest.mark.parametrize(
    ("trace", "bar_s"),
    [(resnet50_step(256), RESNET50_S), (bert_step(24, 1024, 4096, 16, 32, 512), BERT_LARGE_S)],
    ids=["resnet50 batch 256", "bert-large 32 x 512"],
)
def test_a_training_step_under_three_schemes_is_simulated_in_seconds(benchmark: Any, ampere: GpuSpec, trace: Trace, bar_s: float) -> None:
    taken: list[float] = []

    def step() -> None:
        begin = time.process_time()
        result = simulate(ampere, trace)
        taken.append(time.process_time() - begin)
        assert set(result.total) == {"traced", "dense", "tile_wise"}

    benchmark.pedantic(step, rounds=2, warmup_rounds=1)
    benchmark.extra_info |= {"cpu_s": min(taken), "gemms": len(trace.gemms)}
    assert min(taken) <= bar_s


def test_each_gemm_of_bert_base_is_simulated_in_a_tenth_of_a_second(benchmark: Any, ampere: GpuSpec) -> None:
    options = RunOptions()
    shapes = {(gemm.m, gemm.n, gemm.k, gemm.l): gemm for gemm in bert_step(1, 768, 3072, 12, 32, 128).gemms}
    slowest: dict[str, float] = {}
    plans = {gemm.id: best_kernel(ampere, lower_dense(gemm), options).plan for gemm in shapes.values()}

    def all_gemms() -> None:
        for name, plan in plans.items():
            begin = time.process_time()
            run_at(ampere, plan, ampere.clock.boost_mhz, options)
            slowest[name] = min(slowest.get(name, 1e9), time.process_time() - begin)

    benchmark.pedantic(all_gemms, rounds=5)
    benchmark.extra_info |= {"gemms": len(plans), "slowest_cpu_s": max(slowest.values())}
    assert max(slowest.values()) < BERT_BASE_GEMM_S
