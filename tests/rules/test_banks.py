"""Bank conflicts of ldmatrix, against a count of what each bank has to give."""

from __future__ import annotations

from collections import Counter

import pytest

from nmsim.rules.banks import ldmatrix_passes

BANKS, BANK_BYTES = 32, 4
LINE = BANKS * BANK_BYTES


def passes_by_counting(pitch: int, swizzled: bool) -> int:
    """The 8 rows' 16 bytes, word by word: a bank gives one word a pass."""
    words: Counter[int] = Counter()
    for row in range(8):
        address = row * pitch
        line, chunk = divmod(address, LINE)
        chunk //= 16
        if swizzled:  # the chunk is XORed with the number of its line; of rows wider than a line, with that of the row
            chunk ^= (line if pitch <= LINE else row) % 8
        for word in range(4):
            words[(chunk * 16 + word * BANK_BYTES) // BANK_BYTES % BANKS] += 1
    return max(words.values())


@pytest.mark.parametrize("pitch", [16, 32, 64, 128, 256, 512, 1024])
@pytest.mark.parametrize("swizzled", [False, True])
def test_passes_are_the_words_of_the_fullest_bank(pitch: int, swizzled: bool) -> None:
    assert ldmatrix_passes(pitch, BANKS, BANK_BYTES, int(swizzled)) == passes_by_counting(pitch, swizzled)


@pytest.mark.parametrize("pitch", [16, 32, 64, 128, 256, 512])
def test_the_swizzle_takes_every_conflict_away(pitch: int) -> None:
    assert ldmatrix_passes(pitch, BANKS, BANK_BYTES, 1) == 1


@pytest.mark.parametrize(("pitch", "passes"), [(16, 1), (32, 2), (64, 4), (128, 8), (256, 8), (144, 1), (80, 1)])
def test_rows_as_they_lie_collide_unless_their_pitch_is_an_odd_number_of_chunks(pitch: int, passes: int) -> None:
    assert ldmatrix_passes(pitch, BANKS, BANK_BYTES, 0) == passes == passes_by_counting(pitch, swizzled=False)
