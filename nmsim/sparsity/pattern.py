"""N:M patterns: at most N non-zeros in each group of M consecutive elements along the reduction."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from nmsim.errors import InputError

_TEXT = re.compile(r"(\d{1,3}):(\d{1,3})")
MAX_M = 64
"""Widest group accepted; the literature uses at most 32."""


@dataclass(frozen=True, order=True)
class NMPattern:
    """N non-zeros kept of M consecutive elements (Hubara and PyTorch's pruner count zeros: convert at the border)."""

    n: int
    m: int

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m <= MAX_M:
            raise InputError(
                f"an N:M pattern keeps 1 <= N <= M <= {MAX_M} of M elements", value=f"{self.n}:{self.m}", fix="write for example 2:4"
            )

    @classmethod
    def parse(cls, text: str) -> NMPattern:
        """`'2:4'` -> NMPattern(2, 4); InputError for anything else."""
        match = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InputError("not an N:M pattern", value=text, fix="write N:M with N kept of M, for example 2:4")
        return cls(int(match[1]), int(match[2]))

    @property
    def density(self) -> Fraction:
        """Share of elements kept, N / M."""
        return Fraction(self.n, self.m)

    def compressed_k(self, k: int) -> int:
        """Elements kept of a reduction of `k`: a tail shorter than M is zero-padded to a whole group."""
        return -(-k // self.m) * self.n

    def contains(self, other: NMPattern) -> bool:
        """True where every mask of pattern `other` also obeys this one, so hardware for this one can run it.

        A group of `self.m` is fullest where each group of `other` that it touches puts as many non-zeros as it may into the
        overlap; where the groups of the two lie against each other repeats after lcm(M, M') elements.
        """
        starts = range(0, lcm(self.m, other.m), self.m)
        return all(self._fullest(start, other) <= self.n for start in starts)

    def _fullest(self, start: int, other: NMPattern) -> int:
        """Most non-zeros that pattern `other` can put into the `self.m` elements from `start` on."""
        stop = start + self.m
        touched = range(start // other.m * other.m, stop, other.m)
        return sum(min(other.n, min(stop, first + other.m) - max(start, first)) for first in touched)

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"
