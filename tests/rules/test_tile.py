"""Sides and partial sums of an output tile."""

from __future__ import annotations

from nmsim.rules.tile import partial_box, partial_bytes, side


def test_a_tensor_follows_its_own_dimension_first() -> None:
    assert side(0, 1, 2, 3, 4) == (1, 2, 3, 4)
    assert side(1, 1, 2, 3, 4) == (3, 4, 1, 2)


def test_partial_sums_of_tiles_lie_one_after_another_without_overlap() -> None:
    boxes = [partial_box(tile, 16, 32) for tile in range(3)]
    assert boxes == [(0, 16, 0, 128), (16, 32, 0, 128), (32, 48, 0, 128)]
    assert partial_bytes(16, 32) == 16 * 128
    assert partial_bytes(5, 7) == 140
