"""CTAs of a cluster fetch one operand's tiles together: which one, what that spares the L2, and what it must not change."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.api import load_arch, simulate_gemm
from nmsim.arch.spec import GpuSpec
from nmsim.mapping.candidates import build_plan, rank
from nmsim.mapping.cluster import l2_bytes_per_k_tile, shared_side
from nmsim.mapping.lower import lower_dense, lower_nm
from nmsim.mapping.plan import MainloopKey
from nmsim.mapping.problem import Problem
from nmsim.mapping.traffic import planned_read_bytes, planned_write_bytes
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.catalogue import linear_gemms

TILES = st.tuples(st.sampled_from([64, 128, 192, 256]), st.sampled_from([32, 64, 128, 256]))


def problem_of(tokens: int, outputs: int, inputs: int, pattern: str | None = None) -> Problem:
    gemm = linear_gemms("fc", tokens, inputs, outputs, "fp16")[0]
    return lower_dense(gemm) if pattern is None else lower_nm(gemm, "b", NMPattern.parse(pattern))


def key_of(tile: tuple[int, int]) -> MainloopKey:
    return MainloopKey("mma", "fp16", "dense", (*tile, 64), (64, tile[1]), 3, (64, 32, 16), (tile[0] + tile[1]) * 128)


@given(tile=TILES, cluster=st.integers(2, 8))
def test_the_larger_tile_is_shared_where_it_has_neighbours(tile: tuple[int, int], cluster: int) -> None:
    key = key_of(tile)
    wide = problem_of(cluster * tile[0], cluster * tile[1], 64).groups[0]
    assert shared_side(key, wide, cluster) == (0 if tile[0] >= tile[1] else 1)
    one_row = problem_of(tile[0], cluster * tile[1], 64).groups[0]
    assert shared_side(key, one_row, cluster) == 0  # CTAs beside each other along n read the same rows
    one_column = problem_of(cluster * tile[0], tile[1], 64).groups[0]
    assert shared_side(key, one_column, cluster) == 1
    assert shared_side(key, problem_of(*tile, 64).groups[0], cluster) is None


@given(tile=TILES, cluster=st.integers(1, 8), tiles=st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_a_cta_asks_for_no_less_than_its_share(tile: tuple[int, int], cluster: int, tiles: tuple[int, int]) -> None:
    key, group = key_of(tile), problem_of(tiles[0] * tile[0], tiles[1] * tile[1], 64).groups[0]
    assert key.copy_bytes / cluster <= l2_bytes_per_k_tile(key, group, cluster) <= key.copy_bytes


@pytest.mark.parametrize("pattern", [None, "2:4"])
@settings(max_examples=20, deadline=None)
@given(tokens=st.integers(1, 6), outputs=st.integers(1, 6), inputs=st.integers(1, 5))
def test_a_plan_reads_the_shared_operand_once_a_cluster(pattern: str | None, tokens: int, outputs: int, inputs: int, spec: GpuSpec) -> None:
    """Whole tiles of a whole number of clusters: the L2 is asked for the shared operand's bytes over the cluster, no other byte less."""
    clustered = spec.model_copy(update={"kernels": spec.kernels.model_copy(update={"cluster": 2})})
    problem = problem_of(512 * tokens, 512 * outputs, 64 * inputs, pattern)
    for candidate in rank(spec, problem, keep=1000):
        if 512 % candidate.key.cta_tile[0] or 512 % candidate.key.cta_tile[1]:
            continue
        alone, together = build_plan(spec, candidate), build_plan(clustered, candidate)
        side = shared_side(candidate.key, problem.groups[0], 2)
        of_b = candidate.key.cta_tile[1] * candidate.key.cta_tile[2] * 2
        shared = (candidate.key.copy_bytes - of_b, of_b)[side or 0] * alone.k_tiles
        assert planned_read_bytes(alone) - planned_read_bytes(together) == pytest.approx(0 if side is None else shared / 2, rel=0.01)
        assert planned_write_bytes(alone) == planned_write_bytes(together)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_cluster_spares_the_l2_and_not_the_sms(engine: str, arch_configs: Path) -> None:
    """A GEMM that the L2's bandwidth bounds gets faster; MACs, and what passes the SMs' shared memory, are the same."""
    found = []
    for cluster in (1, 2):
        machine = load_arch(
            arch_configs / "hopper.yaml", (f"kernels.cluster={cluster}", "l2.sustained_fraction=0.2", "power.board_limit_w=5000")
        )
        found.append(simulate_gemm(machine, m=2048, n=2048, k=512, l2="warm", engine=engine))
    alone, together = found
    assert together.bytes["l2"] < 0.8 * alone.bytes["l2"]
    assert together.bytes["shared"] == alone.bytes["shared"] or together.kernel != alone.kernel
    assert together.cycles < alone.cycles
