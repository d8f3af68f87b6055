"""The closed form that kernels are ranked by: a better machine never worsens it, and of a long kernel it is near the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.arch.load import load_gpu
from nmsim.arch.spec import GpuSpec
from nmsim.mapping.candidates import Candidate, build_plan, rank
from nmsim.mapping.estimate import estimator
from nmsim.mapping.lower import lower_dense, lower_nm
from nmsim.mapping.problem import Problem
from nmsim.run.kernel import run_kernel
from nmsim.run.single import what_if_gemm
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.catalogue import linear_gemms

ARCH_CONFIGS = Path(__file__).resolve().parents[2] / "arch_configs"
PATTERNS = (None, "2:4", "1:4", "1:8", "1:16")


@dataclass(frozen=True)
class Better:
    """One value of the machine multiplied."""

    block: str
    key: str

    def of(self, spec: GpuSpec, factor: float) -> GpuSpec:
        if self.block == "decoder":
            core = spec.tensor_core
            decoder = core.decoder.model_copy(update={self.key: getattr(core.decoder, self.key) * int(factor + 1)})
            return spec.model_copy(update={"tensor_core": core.model_copy(update={"decoder": decoder})})
        part = getattr(spec, self.block)
        return spec.model_copy(update={self.block: part.model_copy(update={self.key: getattr(part, self.key) * factor})})


WIDER = (
    Better("tensor_core", "register_read_bytes_per_cycle"),
    Better("decoder", "codes_per_cycle"),
    Better("decoder", "selector_width"),
    Better("noc", "sm_port_bytes_per_cycle"),
    Better("noc", "sm_write_bytes_per_cycle"),
    Better("l2", "sustained_fraction"),
    Better("dram", "bandwidth_gb_per_s"),
    Better("power", "board_limit_w"),
)


@pytest.fixture(scope="module")
def flexible() -> GpuSpec:
    """The A100 with decoder, selector and register port all in the way of the wide patterns."""
    overrides = ["tensor_core.register_read_bytes_per_cycle=213", "tensor_core.decoder.codes_per_cycle=16", "power.board_limit_w=250"]
    return load_gpu(ARCH_CONFIGS / "ampere_flex_nm.yaml", [*overrides, "tensor_core.decoder.selector_width=4"])


def problem_of(spec: GpuSpec, m: int, n: int, k: int, pattern: str | None) -> Problem:
    gemm = what_if_gemm(m, n, k, 1, "fp16", "fp16")
    if pattern is None:
        return lower_dense(gemm)
    kept = NMPattern.parse(pattern)
    return lower_nm(gemm, "b", kept, spec.metadata_code("fp16", kept))


def estimate(spec: GpuSpec, one: Candidate) -> float:
    return estimator(spec, one.problem, one.key, one.fragments, one.mma, one.occupancy)(one.split_k)


@settings(max_examples=20, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 5000)),
    pattern=st.sampled_from(PATTERNS),
    better=st.sampled_from(WIDER),
    factor=st.floats(1, 8),
)
def test_a_better_machine_never_worsens_the_estimate_of_a_kernel(
    sides: tuple[int, int, int], pattern: str | None, better: Better, factor: float, flexible: GpuSpec
) -> None:
    improved = better.of(flexible, factor)
    for one in rank(flexible, problem_of(flexible, *sides, pattern), keep=10_000):
        assert estimate(improved, one) <= estimate(flexible, one) * 1.005  # the clock under a limit is found to a few MHz


@pytest.mark.parametrize("narrow", ["register_read_bytes_per_cycle=24", "decoder.codes_per_cycle=2", "decoder.selector_width=1"])
def test_what_feeds_the_tensor_cores_is_in_the_estimate(narrow: str) -> None:
    """Each of the three, alone in the way, takes longer than all else."""
    wide, narrowed = (load_gpu(ARCH_CONFIGS / "ampere_flex_nm.yaml", overrides) for overrides in ([], [f"tensor_core.{narrow}"]))
    one = rank(wide, problem_of(wide, 4096, 4096, 4096, "1:8"))[0]
    assert estimate(narrowed, one) > 1.1 * estimate(wide, one)


@pytest.mark.parametrize("arch", ["ampere.yaml", "volta.yaml", "hopper.yaml", "ampere_flex_nm.yaml"])
def test_of_a_long_kernel_the_estimate_is_near_the_simulated_cycles(arch: str) -> None:
    """Within 15 % for the kernel ranked first: it knows no queues. Without a limit on power, of which simulated cycles know nothing."""
    spec = load_gpu(ARCH_CONFIGS / arch, ["power.board_limit_w=100000"])
    patterns = [None] if arch == "volta.yaml" else ["1:8", "1:16"] if arch == "ampere_flex_nm.yaml" else [None, "2:4"]
    for pattern in patterns:
        one = rank(spec, problem_of(spec, 4096, 4096, 4096, pattern))[0]
        simulated = run_kernel(spec, build_plan(spec, one), spec.clock.top_mhz).cycles
        assert simulated == pytest.approx(estimate(spec, one), rel=0.15), (pattern, one.key.cta_tile, one.split_k)


def test_a_walk_over_more_than_the_l2_holds_is_known_to_the_ranking() -> None:
    """Narrow bands read a weight of 150 MB again and again: cut in slices of K it stays in 72 MB, and wide bands need no cut."""
    spec = load_gpu(ARCH_CONFIGS / "ada.yaml")
    problem = lower_nm(linear_gemms("fc", 16384, 16384, 16384, "int8")[0], "b", NMPattern(2, 4))
    wide = spec.model_copy(update={"kernels": spec.kernels.model_copy(update={"nm_raster_width": 8})})
    roomy = spec.model_copy(update={"l2": spec.l2.model_copy(update={"capacity_bytes": 4 * spec.l2.capacity_bytes})})
    walked = rank(spec, problem)[0]
    assert walked.split_k > 1
    for better in (wide, roomy):
        best = rank(better, problem)[0]
        assert best.split_k == 1
        assert best.estimate_cycles < walked.estimate_cycles
