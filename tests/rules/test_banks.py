"""Where layouts put the pieces of a tile, and bank conflicts against a count of what each bank has to give."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.arch.coherence import ROW_PADDING_BYTES
from nmsim.rules.banks import LAYOUTS, PADDING_BYTES, copy_passes, ldmatrix_passes, phase_passes, piece_address

BANKS, BANK_BYTES = 32, 4
LINE = BANKS * BANK_BYTES
PITCHES = (16, 32, 64, 128, 256, 512)


def conflicts(addresses: list[int]) -> int:
    """Bytes one at a time: every bank gives one 4-byte word a pass, to as many lanes as want that word."""
    wanted = defaultdict(set)
    for address in addresses:
        for byte in range(address, address + 16):
            wanted[byte // 4 % 32].add(byte // 4)
    return max(len(words) for words in wanted.values())


@given(st.lists(st.integers(0, 500).map(lambda piece: 16 * piece), min_size=1, max_size=8))
def test_passes_are_the_words_of_the_fullest_bank(addresses: list[int]) -> None:
    assert phase_passes(addresses, BANKS, BANK_BYTES) == conflicts(addresses)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pitch", PITCHES)
def test_no_two_pieces_lie_in_one_place_and_a_tile_takes_what_its_stage_is_charged(layout: str, pitch: int) -> None:
    places = {piece_address(layout, pitch, row, piece, LINE) for row in range(64) for piece in range(pitch // 16)}
    assert len(places) == 64 * pitch // 16
    assert all(place % 16 == 0 for place in places)
    padding = PADDING_BYTES if layout == "padded" else 0
    assert max(places) + 16 <= 64 * (pitch + padding)


def test_the_padding_that_stages_are_charged_is_the_layout_s() -> None:
    assert ROW_PADDING_BYTES == PADDING_BYTES


@pytest.mark.parametrize("pitch", PITCHES)
@pytest.mark.parametrize("row", [0, 8, 56])
def test_the_swizzle_takes_every_conflict_away(pitch: int, row: int) -> None:
    for piece in range(pitch // 16):
        assert ldmatrix_passes("swizzled", pitch, row, piece, BANKS, BANK_BYTES) == 1
        assert copy_passes("swizzled", pitch, 8 * piece, BANKS, BANK_BYTES) == 1


@pytest.mark.parametrize(("pitch", "passes"), [(16, 1), (32, 2), (64, 4), (128, 8), (256, 8), (144, 1), (80, 1)])
def test_rows_as_they_lie_collide_unless_their_pitch_is_an_odd_number_of_pieces(pitch: int, passes: int) -> None:
    assert ldmatrix_passes("linear", pitch, 8, 0, BANKS, BANK_BYTES) == passes
    assert copy_passes("linear", pitch, 0, BANKS, BANK_BYTES) == 1


@pytest.mark.parametrize("pitch", [32, 64, 128, 256])
def test_one_piece_of_padding_makes_the_pitch_odd(pitch: int) -> None:
    assert {ldmatrix_passes("padded", pitch, 8 * row, piece, BANKS, BANK_BYTES) for row in range(8) for piece in range(pitch // 16)} == {1}


def test_the_permutation_of_the_published_kernel_leaves_a_two_way_conflict_to_ldmatrix_and_none_to_its_stores() -> None:
    """By its own index function: of eight rows, four and four share places, in other lines."""

    def offset(contiguous: int, strided: int, stride: int) -> int:
        k = contiguous % 8 // 2
        bank = (contiguous % 8 & 1) * 4 | (strided % 4 ^ k)
        return contiguous // 8 * 8 + bank + (strided // 4 * 4 + k) * stride

    for row in range(64):
        for piece in range(8):
            assert piece_address("permuted", 128, row, piece, LINE) == 16 * offset(piece, row, 8)
    assert {ldmatrix_passes("permuted", 128, 8 * row, piece, BANKS, BANK_BYTES) for row in range(8) for piece in range(8)} == {2}
    assert {copy_passes("permuted", 128, 8 * row, BANKS, BANK_BYTES) for row in range(64)} == {1}
