"""What the kept positions of a group cost to write down, by encoding."""

from math import comb, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.sparsity.encoding import ENCODINGS, GroupCode, group_code
from nmsim.sparsity.metadata import index_bits
from nmsim.sparsity.pattern import NMPattern

PATTERNS = st.integers(2, 64).flatmap(lambda m: st.builds(NMPattern, st.integers(1, m - 1), st.just(m)))


@pytest.mark.parametrize(
    ("pattern", "bits_of_a_group"),
    [("2:4", (4, 4, 3)), ("1:2", (1, 2, 1)), ("1:4", (2, 4, 2)), ("2:8", (6, 8, 5)), ("1:16", (4, 16, 4)), ("8:16", (32, 16, 14))],
)
def test_bits_of_a_group_by_hand(pattern: str, bits_of_a_group: tuple[int, ...]) -> None:
    assert tuple(group_code(NMPattern.parse(pattern), encoding).stored_bits(1) for encoding in ENCODINGS) == bits_of_a_group


@given(PATTERNS)
def test_no_encoding_beats_the_logarithm_of_the_number_of_patterns_and_the_combinatorial_one_meets_it(pattern: NMPattern) -> None:
    least = log2(comb(pattern.m, pattern.n))
    assert all(group_code(pattern, encoding).stored_bits(1) >= least - 1e-9 for encoding in ENCODINGS)
    assert group_code(pattern, "combinatorial").bits < least + 1


@given(PATTERNS)
def test_an_index_is_what_the_compressed_format_stores(pattern: NMPattern) -> None:
    assert group_code(pattern) == GroupCode(pattern.n, index_bits(pattern))


def test_an_index_may_be_stored_wider_than_it_need_be() -> None:
    """TF32's 1:2 keeps 32 of 64 bits and 4 of metadata: 56.25 % of the dense bytes, as 2:4 of FP16."""
    code = group_code(NMPattern(1, 2), "index", 4)
    assert (32 + code.stored_bits(1)) / 64 == (2 * 16 + group_code(NMPattern(2, 4)).stored_bits(1)) / 64 == 0.5625
