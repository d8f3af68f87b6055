"""How the kept positions of an N:M group are written down: codes a group, and bits a code.

Three encodings a decoder can be built for: `index` (each kept element owns its position in the group), `bitmap` (one bit for each of
the M positions) and `combinatorial` (the rank of the group's pattern among all C(M, N), the fewest bits there can be). For
2:4 they take 4, 4 and 3 bits a group; for 1:16, 4, 16 and 4; for 8:16, 32, 16 and 14.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

from nmsim.sparsity.pattern import NMPattern

ENCODINGS = ("index", "bitmap", "combinatorial")


@dataclass(frozen=True)
class GroupCode:
    """`per_group` codes of `bits` bits describe one group of M."""

    per_group: int
    bits: int

    def stored_bits(self, groups: int) -> int:
        """Bits of the codes of `groups` groups."""
        return groups * self.per_group * self.bits


def group_code(pattern: NMPattern, encoding: str = "index", index_bits: int | None = None) -> GroupCode:
    """The code of one group of `pattern`. `index_bits` widens an index beyond the fewest bits: TF32's 1:2 stores 4 (PTX ISA, mma.sp)."""
    if encoding == "bitmap":
        return GroupCode(1, pattern.m)
    if encoding == "combinatorial":
        return GroupCode(1, max(1, (comb(pattern.m, pattern.n) - 1).bit_length()))
    return GroupCode(pattern.n, max(1, (pattern.m - 1).bit_length()) if index_bits is None else index_bits)
