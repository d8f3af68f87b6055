"""Which kernels fit, which instruction they use, and what a plan of one executes."""

from math import ceil, prod
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.arch.load import load_gpu
from nmsim.arch.spec import GpuSpec, TileSpec
from nmsim.errors import InputError
from nmsim.mapping.candidates import best_mma, build_plan, mainloop_key, rank
from nmsim.mapping.lower import lower_dense, lower_nm
from nmsim.mapping.occupancy import MAX_REGISTERS_PER_THREAD, WARP_LANES, occupancy, registers_per_thread
from nmsim.mapping.plan import KernelPlan, MainloopKey
from nmsim.mapping.problem import Problem
from nmsim.rules.fragments import Fragments, fragments_of
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.catalogue import linear_gemms

TWO_FOUR = NMPattern(2, 4)


def problem_of(m: int, n: int, k: int, pattern: NMPattern | None = None, dtype: str = "fp16") -> Problem:
    gemm = linear_gemms("fc", m, k, n, dtype)[0]
    return lower_dense(gemm) if pattern is None else lower_nm(gemm, "b", pattern)


def footprint(spec: GpuSpec, key: MainloopKey, fragments: Fragments, ctas: int) -> dict[str, bool]:
    """Whether that many CTAs fit each resource of an SM."""
    accumulators = key.warp_tile[0] * key.warp_tile[1] / WARP_LANES
    registers = min(MAX_REGISTERS_PER_THREAD, accumulators + spec.kernels.registers_per_thread)
    shared = key.stages * key.copy_bytes
    return {
        "shared_memory": ctas * (shared + spec.sm.shared_memory_reserved_per_cta_bytes) <= spec.sm.shared_memory_bytes
        and (ctas == 0 or shared <= spec.sm.shared_memory_per_cta_bytes),
        "registers": ctas * fragments.warps * WARP_LANES * registers <= spec.sm.registers,
        "warps": ctas * fragments.warps <= spec.sm.max_warps,
        "ctas": ctas <= spec.sm.max_ctas,
    }


@settings(max_examples=100, deadline=None)
@given(
    warps=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    warp=st.tuples(st.sampled_from([16, 32, 64, 128]), st.sampled_from([8, 16, 32, 64, 128])),
    k_bytes=st.sampled_from([64, 128]),
    stages=st.integers(2, 8),
    pattern=st.sampled_from([None, TWO_FOUR]),
    max_warps=st.sampled_from([4, 16, 64]),
    max_ctas=st.sampled_from([2, 32]),
)
def test_the_resident_ctas_fit_every_limit_and_one_more_breaks_the_limiter(
    warps: tuple[int, int],
    warp: tuple[int, int],
    k_bytes: int,
    stages: int,
    pattern: NMPattern | None,
    max_warps: int,
    max_ctas: int,
    spec: GpuSpec,
) -> None:
    spec = spec.model_copy(update={"sm": spec.sm.model_copy(update={"max_warps": max_warps, "max_ctas": max_ctas})})
    tile = TileSpec(cta=(warps[0] * warp[0], warps[1] * warp[1], k_bytes), warp=warp, stages=stages)
    mma = best_mma(spec, "fp16", str(pattern or "dense"))
    assert mma is not None
    key = mainloop_key(tile, problem_of(64, 64, 64, pattern), mma)
    fragments = fragments_of(key, mma)
    resident, limiter = occupancy(spec.sm, key, fragments, spec.kernels.registers_per_thread)
    assert all(footprint(spec, key, fragments, resident).values())
    assert not footprint(spec, key, fragments, resident + 1)[limiter]


def test_accumulators_beyond_the_instruction_set_are_capped() -> None:
    key = MainloopKey("mma", "fp16", "dense", (256, 256, 32), (128, 128), 2, (16, 8, 16), 32768)
    assert registers_per_thread(key, 90) == MAX_REGISTERS_PER_THREAD


@settings(max_examples=40, deadline=None)
@given(m=st.integers(1, 5000), n=st.integers(1, 5000), k=st.integers(1, 5000), pattern=st.sampled_from([None, TWO_FOUR]))
def test_every_candidate_fits_and_splits_k_no_further_than_it_has_k_tiles(
    m: int, n: int, k: int, pattern: NMPattern | None, spec: GpuSpec
) -> None:
    found = rank(spec, problem_of(m, n, k, pattern), keep=1000)
    for one in found:
        assert one.occupancy >= 1
        assert all(footprint(spec, one.key, one.fragments, one.occupancy).values())
        assert 1 <= one.split_k <= min(spec.kernels.max_split_k, ceil(k / one.key.cta_tile[2]))
    estimates = [one.estimate_cycles for one in found]
    assert estimates == sorted(estimates)


def test_a_tile_that_does_not_fit_is_never_a_candidate(spec: GpuSpec) -> None:
    sm = spec.sm.model_copy(update={"shared_memory_per_cta_bytes": 65536})
    small = spec.model_copy(update={"sm": sm})
    offered = {one.key.cta_tile for one in rank(small, problem_of(4096, 4096, 4096), keep=1000)}
    assert offered
    assert all(one.key.stages * one.key.copy_bytes <= 65536 for one in rank(small, problem_of(4096, 4096, 4096), keep=1000))
    assert offered < {one.key.cta_tile for one in rank(spec, problem_of(4096, 4096, 4096), keep=1000)}


def test_a_machine_on_which_nothing_fits_is_refused_in_words(spec: GpuSpec) -> None:
    tiny = spec.model_copy(update={"sm": spec.sm.model_copy(update={"registers": 1024})})
    with pytest.raises(InputError, match=r"no kernel of .* fits an SM"):
        rank(tiny, problem_of(64, 64, 64))


def test_a_type_without_an_instruction_is_refused_with_those_there_are(spec: GpuSpec) -> None:
    with pytest.raises(InputError, match=r"no dense matrix instruction for fp32.*fp16"):
        rank(spec, problem_of(64, 64, 64, dtype="fp32"))


@pytest.mark.parametrize(("dtype", "pattern"), [("fp16", "dense"), ("fp16", "2:4"), ("int8", "2:4"), ("tf32", "1:2"), ("bf16", "dense")])
def test_the_best_instruction_has_the_highest_rate_and_then_the_longest_k(dtype: str, pattern: str, spec: GpuSpec) -> None:
    def rate(mma) -> float:
        return prod(mma.shape) / mma.issue_interval_cycles

    best = best_mma(spec, dtype, pattern)
    assert best is not None
    fitting = [mma for mma in spec.tensor_core.mma if (mma.dtype, mma.pattern) == (dtype, pattern)]
    assert rate(best) == max(map(rate, fitting))
    assert best.shape[2] == max(mma.shape[2] for mma in fitting if rate(mma) == rate(best))


def test_there_is_no_instruction_for_a_pattern_that_the_machine_does_not_hold(spec: GpuSpec) -> None:
    assert best_mma(spec, "fp16", "1:4") is None
    assert best_mma(spec, "fp8", "dense") is None


def plans(spec: GpuSpec, problem: Problem) -> list[KernelPlan]:
    return [build_plan(spec, candidate) for candidate in rank(spec, problem, keep=1000)]


@pytest.mark.parametrize("pattern", [None, TWO_FOUR])
@pytest.mark.parametrize("shape", [(256, 256, 256), (100, 70, 50), (1, 1, 1)])
def test_executed_macs_are_the_padded_tiles_after_compression(
    shape: tuple[int, int, int], pattern: NMPattern | None, spec: GpuSpec
) -> None:
    """Edge tiles pay full tensor time; 2:4 executes half of what it stands for."""
    problem = problem_of(*shape, pattern)
    (group,) = problem.groups
    for plan in plans(spec, problem):
        tile_m, tile_n, tile_k = plan.mainloop.cta_tile
        padded = ceil(group.m / tile_m) * tile_m * ceil(group.n / tile_n) * tile_n * ceil(group.k / tile_k) * tile_k
        executed = plan.k_tiles * plan.executed_macs_per_k_tile
        assert executed == padded if pattern is None else 2 * executed == padded
        assert plan.dense_equivalent_macs == prod(shape)
        codes = padded // 2 // tile_n if pattern else 0
        # Each warp decodes the codes of its own rows of A, once for every 8 columns that an instruction spans.
        assert plan.k_tiles * plan.codes_per_k_tile == codes * tile_n // 8


def test_an_epilogue_strip_is_eight_rows_of_each_row_of_warps(spec: GpuSpec) -> None:
    for plan in plans(spec, problem_of(200, 300, 4096)):
        (tile_m, _, _), (warp_m, _) = plan.mainloop.cta_tile, plan.mainloop.warp_tile
        assert plan.strip_rows == 8 * tile_m // warp_m


def test_waves_are_ctas_over_those_that_run_at_once(spec: GpuSpec) -> None:
    for plan in plans(spec, problem_of(2048, 2048, 512)):
        assert plan.waves(spec.sm.count) == len(plan.ctas) / (spec.sm.count * plan.occupancy)


def test_tensors_larger_than_the_memory_are_refused_with_both_sizes(spec: GpuSpec) -> None:
    """1 Mi x 16 Mi FP16 of A are 32 TiB, with a little of B and D."""
    with pytest.raises(InputError, match=r"fc:forward: the tensors take 32,768 GiB, and the machine has 80 GiB of DRAM"):
        rank(spec, problem_of(1 << 20, 1, 1 << 24))


def test_a_tile_is_offered_to_its_types_and_on_its_instructions_only(arch_configs: Path) -> None:
    """The H100's library has two INT8 kernels, one on warpgroup instructions and one on a warp's own."""
    machine = load_gpu(arch_configs / "hopper.yaml")
    assert (128, 80) in {candidate.key.cta_tile[:2] for candidate in rank(machine, problem_of(512, 512, 512), keep=1000)}
    kernels = rank(machine, problem_of(512, 512, 512, dtype="int8"), keep=1000)
    assert {(candidate.key.cta_tile[:2], candidate.mma.warps) for candidate in kernels} == {((128, 256), 4), ((64, 128), 1)}
