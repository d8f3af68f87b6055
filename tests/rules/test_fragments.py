"""A CTA tile falls apart into warps, MMAs and loads that add up to it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from nmsim.rules.fragments import WARP_LOAD_BYTES, fragments_of
from nmsim.sparsity.encoding import group_code
from nmsim.sparsity.pattern import NMPattern


@dataclass(frozen=True)
class Key:
    dtype: str
    cta_tile: tuple[int, int, int]
    warp_tile: tuple[int, int]


@dataclass(frozen=True)
class Mma:
    shape: tuple[int, int, int]
    nm: NMPattern | None = None
    warps: int = 1
    reads_shared_memory: bool = False


def test_a_dense_fp16_tile_by_hand() -> None:
    """128 x 128 x 32 in warps of 64 x 64: 4 warps, 2 k-steps of 4 x 8 MMAs; A and B give 64 x 16 x 2 bytes = 4 loads each."""
    fragments = fragments_of(Key("fp16", (128, 128, 32), (64, 64)), Mma((16, 8, 16)))
    assert (fragments.warps, fragments.k_steps, fragments.mmas_per_step, fragments.mmas_per_k_tile) == (4, 2, 32, 64)
    assert fragments.loads == (512,) * 8
    assert fragments.codes_per_mma == 0
    assert fragments.register_bytes_per_mma == 16 * 16 * 2 + 16 * 8 * 2 + 16 * 8 * 4
    assert fragments.kept_per_mma == 0


def test_a_two_of_four_tile_reads_half_of_a_and_two_bits_for_each_kept_element() -> None:
    fragments = fragments_of(Key("fp16", (128, 128, 64), (64, 64)), Mma((16, 8, 32), NMPattern(2, 4)))
    assert fragments.mmas_per_k_tile == 64
    assert sum(fragments.loads) == 64 * 16 * 2 + 64 * 32 * 2 + 64 * 16 * 2 // 8
    assert fragments.codes_per_mma == fragments.kept_per_mma == 16 * 16
    assert fragments.register_bytes_per_mma == 16 * 16 * 2 + 32 * 8 * 2 + 16 * 8 * 4 + 128  # E takes a register, half of it used


@pytest.mark.parametrize(
    ("encoding", "codes", "metadata"),
    [("index", 16 * 4 * 2, 64 * 4 * 6 // 8), ("bitmap", 16 * 4, 64 * 4 * 8 // 8), ("combinatorial", 16 * 4, 64 * 4 * 5 // 8)],
)
def test_the_encoding_decides_the_codes_and_bytes_of_metadata_and_not_what_is_kept(encoding: str, codes: int, metadata: int) -> None:
    """2:8 over k 32: 4 groups a row, each 2 x 3, 8 or ceil(log2 28) = 5 bits."""
    pattern = NMPattern(2, 8)
    fragments = fragments_of(Key("fp16", (128, 128, 64), (64, 64)), Mma((16, 8, 32), pattern), group_code(pattern, encoding))
    assert (fragments.codes_per_mma, fragments.kept_per_mma) == (codes, 16 * 8)
    assert sum(fragments.loads) == 64 * 8 * 2 + 64 * 32 * 2 + metadata


@pytest.mark.parametrize("pattern", [None, NMPattern(2, 4), NMPattern(1, 4), NMPattern(2, 8), NMPattern(1, 16)])
@pytest.mark.parametrize("dtype", ["fp16", "int8", "tf32"])
def test_macs_of_all_warps_are_those_of_the_tile_and_loads_are_cut_at_an_ldmatrix(pattern: NMPattern | None, dtype: str) -> None:
    key, mma = Key(dtype, (128, 64, 128), (64, 32)), Mma((16, 8, 32), pattern)
    fragments = fragments_of(key, mma)
    m, n, k = mma.shape
    assert fragments.warps * fragments.mmas_per_k_tile * m * n * k == 128 * 64 * 128
    assert all(0 < nbytes <= WARP_LOAD_BYTES for nbytes in fragments.loads)
    assert sum(nbytes < WARP_LOAD_BYTES for nbytes in fragments.loads) <= 3  # one short load of A, B and E at most


def test_an_edge_warp_and_an_edge_mma_are_whole_ones() -> None:
    fragments = fragments_of(Key("fp16", (100, 60, 40), (64, 32)), Mma((16, 8, 16)))
    assert (fragments.warps, fragments.k_steps, fragments.mmas_per_step) == (4, 3, 16)


def test_a_warpgroup_instruction_reads_its_operands_from_shared_memory_once_for_four_warps() -> None:
    """128 x 256 x 64 in two warpgroups: each warp 16 x 256, four k-steps of one instruction whose A and B are 10 KiB."""
    fragments = fragments_of(Key("fp16", (128, 256, 64), (16, 256)), Mma((64, 256, 16), warps=4, reads_shared_memory=True))
    assert (fragments.warps, fragments.k_steps, fragments.mmas_per_step) == (8, 4, 1)
    assert fragments.loads == ()
    assert fragments.streamed_bytes == (64 + 256) * 16 * 2
    assert fragments.register_bytes_per_mma == 16 * 256 * 4
    sparse = fragments_of(Key("fp16", (64, 256, 64), (16, 256)), Mma((64, 256, 32), NMPattern(2, 4), 4, True))
    assert sparse.streamed_bytes == (64 * 16 + 256 * 32) * 2
    assert sum(sparse.loads) == 16 * 16 * 2 // 8  # a warp's metadata still comes through registers
    assert sparse.codes_per_mma == 16 * 16
