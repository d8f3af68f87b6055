"""A k-step's loads and a k-tile's copies: every byte once, at the cost that the banks ask for."""

from __future__ import annotations

import pytest

from nmsim.arch.spec import MmaSpec
from nmsim.mapping.plan import MainloopKey
from nmsim.rules.fragments import WARP_LOAD_BYTES, instruction_of
from nmsim.rules.loads import Access, copies, step_loads

BANKS = (32, 4)


def key(layout: str, pattern: str = "dense", mma: tuple[int, int, int] = (16, 8, 16), tile_k: int = 64) -> MainloopKey:
    return MainloopKey("mma", "fp16", pattern, (64, 64, tile_k), (32, 32), 2, mma, 0, layout=layout)


def instruction(pattern: str = "dense", shape: tuple[int, int, int] = (16, 8, 16)) -> MmaSpec:
    return MmaSpec(dtype="fp16", pattern=pattern, shape=shape, issue_interval_cycles=8.0, latency_cycles=25)


@pytest.mark.parametrize(("layout", "passes"), [("swizzled", 1), ("padded", 1), ("permuted", 2), ("linear", 8)])
@pytest.mark.parametrize("step", range(4))
def test_a_dense_step_loads_its_rows_at_the_passes_of_the_layout(layout: str, passes: int, step: int) -> None:
    """32 rows of A and 32 of B, 32 bytes each, of a tile of 128-byte rows."""
    loads = step_loads(key(layout), instruction_of(instruction(), "fp16"), 32, step, BANKS)
    assert loads == (Access(512, 512 * passes),) * 4


def test_a_compressed_a_has_its_own_pitch_and_its_metadata_meet_no_conflicts() -> None:
    """2:4 of 64 columns: rows of 64 bytes of A (4-way as they lie), 128 of B (8-way), and 32 x 16 x 2 bits of E."""
    one = instruction_of(instruction("2:4", (16, 8, 32)), "fp16")
    loads = step_loads(key("linear", "2:4", (16, 8, 32)), one, 32, 0, BANKS)
    assert [(load.nbytes, load.port_bytes // load.nbytes) for load in loads] == [(512, 4), (512, 4)] + [(512, 8)] * 4 + [(128, 1)]


@pytest.mark.parametrize(("row_bytes", "nbytes"), [(128, 4096), (64, 1000), (16, 40)])
def test_copies_write_every_byte_once_and_conflict_free_where_rows_follow_one_another(row_bytes: int, nbytes: int) -> None:
    for layout in ("linear", "swizzled"):
        written = copies(layout, row_bytes, nbytes, BANKS)
        assert sum(access.nbytes for access in written) == sum(access.port_bytes for access in written) == nbytes
        assert all(access.nbytes <= WARP_LOAD_BYTES for access in written)
