"""Marks the work that a recipe adds to a step, so that the recorder charges it once, as a pass, and not again as operators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_depth = 0


@contextmanager
def sparsification() -> Iterator[None]:
    """While open, what runs belongs to the recipe's passes (mask search, compression, decay): their bytes come from its shapes.

    The eager operators that emulate such a pass here are many; the one kernel that a sparse tensor core runs for it is not.
    """
    # One flag for the process: the backward may run in a thread of autograd's.
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1


def in_sparsification() -> bool:
    """True inside `sparsification()`."""
    return _depth > 0
