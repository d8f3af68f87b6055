"""Stream-K: every k-tile once, equal shares, and an order in which no slot waits for a share that has not begun."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.api import simulate_gemm
from nmsim.arch.load import load_gpu
from nmsim.mapping.candidates import build_plan, rank
from nmsim.mapping.lower import lower_dense
from nmsim.mapping.plan import CTA_FIELDS, K0, K1, SLICE, SLICES, TILE, Int64
from nmsim.mapping.stream_k import stream_k_table, streamed_tiles
from nmsim.run.choice import RunOptions, run_at
from nmsim.run.single import what_if_gemm

K_TILE = 32


def tiles_of(lengths: list[int]) -> tuple[Int64, Int64, Int64]:
    """(rows of one slice, their k-tiles, their K): K ends inside the last k-tile of each."""
    rows = np.zeros((len(lengths), CTA_FIELDS), dtype=np.int64)
    rows[:, TILE] = np.arange(len(lengths))
    k_tiles = np.array(lengths, dtype=np.int64)
    return rows, k_tiles, k_tiles * K_TILE - 5


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60), slots=st.integers(1, 24))
def test_every_k_tile_of_every_tile_belongs_to_one_part_and_parts_are_numbered_as_they_lie(lengths: list[int], slots: int) -> None:
    rows, k_tiles, k = tiles_of(lengths)
    table = stream_k_table(rows, k_tiles, k, K_TILE, slots)
    for tile in range(len(lengths)):
        parts = table[table[:, TILE] == tile]
        parts = parts[np.argsort(parts[:, SLICE])]
        assert parts[:, SLICE].tolist() == list(range(len(parts)))
        assert (parts[:, SLICES] == len(parts)).all()
        assert parts[0, K0] == 0
        assert parts[-1, K1] == k[tile]
        assert (parts[1:, K0] == parts[:-1, K1]).all()
        assert (parts[:, K1] > parts[:, K0]).all()
        assert (parts[:, K0] % K_TILE == 0).all()


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60), slots=st.integers(1, 24))
def test_slots_that_take_parts_in_launch_order_never_wait_for_one_that_has_not_begun(lengths: list[int], slots: int) -> None:
    """Each part waits at its end for the part before it in the same tile, holding its slot; time is in k-tiles."""
    rows, k_tiles, k = tiles_of(lengths)
    table = stream_k_table(rows, k_tiles, k, K_TILE, slots)
    launched = np.empty(len(table), dtype=np.int64)
    where = {(int(row[TILE]), int(row[SLICE])): number for number, row in enumerate(table)}
    for number, row in enumerate(table):
        launched[number] = number
        if row[SLICE]:
            before = where[int(row[TILE]), int(row[SLICE]) - 1]
            # launched earlier, or in the first round, when every slot is free and all of them begin together
            assert before < number or before < slots


@given(tiles=st.integers(1, 200), length=st.integers(1, 64), slots=st.integers(1, 40))
def test_the_first_round_ends_together_but_for_a_k_tile(tiles: int, length: int, slots: int) -> None:
    rows, k_tiles, k = tiles_of([length] * tiles)
    table = stream_k_table(rows, k_tiles, k, K_TILE, slots)
    cut = streamed_tiles(tiles, slots)
    assert (tiles - cut) % slots == 0
    assert cut == 0 or cut < 2 * slots
    parts = table[table[:, TILE] < cut]
    work = -(-(parts[:, K1] - parts[:, K0]) // K_TILE)
    assert work.sum() == cut * length
    workers = min(slots, cut * length)
    if cut:
        assert -(-work.sum() // workers) - work.sum() // workers <= 1
        assert len(parts) <= cut + workers


def test_one_tile_more_than_the_sms_no_longer_costs_a_whole_wave(arch_configs: Path) -> None:
    """109 tiles on 108 SMs: 2 waves of whole tiles, 109 / 108 of one where they are cut. What remains are launch, fill, epilogue and
    handover of each slot's second part, a fifth of a tile's time at this depth."""
    tile = ["kernels.tiles.0.cta.0=128", "kernels.tiles.0.cta.1=128", "kernels.max_split_k=1"]
    problem = lower_dense(what_if_gemm(128, 128 * 109, 8192, 1, "fp16", "fp16"))
    times = {}
    for stream_k in (False, True):
        spec = load_gpu(arch_configs / "ampere.yaml", [*tile, f"kernels.stream_k={str(stream_k).lower()}"])
        spec = spec.model_copy(update={"kernels": spec.kernels.model_copy(update={"tiles": spec.kernels.tiles[:1]})})
        chosen = rank(spec, problem, 1, stream_k=stream_k)[0]
        assert chosen.occupancy == 1
        times[stream_k] = run_at(spec, build_plan(spec, chosen), spec.clock.boost_mhz, RunOptions()).cycles
    assert 0.5 < times[True] / times[False] < 0.7


def test_a_library_without_it_never_runs_it(arch_configs: Path) -> None:
    spec = load_gpu(arch_configs / "ampere.yaml")
    problem = lower_dense(what_if_gemm(128, 128 * 109, 8192, 1, "fp16", "fp16"))
    assert not rank(spec, problem, stream_k=True)


@pytest.mark.parametrize(("m", "n", "k", "pattern"), [(300, 700, 5000, "2:4"), (64, 3584, 3584, None), (1920, 1920, 4096, None)])
def test_a_library_that_has_it_too_is_never_the_slower_for_it(arch_configs: Path, m: int, n: int, k: int, pattern: str | None) -> None:
    with_it, without = (
        simulate_gemm(arch_configs / "ampere.yaml", m=m, n=n, k=k, pattern=pattern, overrides=[f"kernels.stream_k={has}"]).time_us
        for has in ("true", "false")
    )
    assert with_it <= without
