"""The canonical order of events in one tick, packed into an integer that both engines sort by."""

from __future__ import annotations

from nmsim.rules.jit import rule

END, BEGIN, EPILOGUE, WRITE, START, FETCH = 0, 1, 2, 3, 4, 5
"""Ranks: resources are freed before they are taken. Each CTA has at most one pending event. FETCH is of a CTA that asks for a
k-tile only once it is through with the one before."""

SM_BITS = 14
CTA_BITS = 40


@rule
def event_key(rank: int, sm: int, cta: int) -> int:
    """Order within a tick: rank, then SM, then CTA (a CTA has one k-tile in turn, so that decides the rest)."""
    return (((rank << SM_BITS) | sm) << CTA_BITS) | cta


@rule
def key_cta(key: int) -> int:
    """The CTA of a packed key."""
    return key & ((1 << CTA_BITS) - 1)


@rule
def key_sm(key: int) -> int:
    """The SM of a packed key."""
    return (key >> CTA_BITS) & ((1 << SM_BITS) - 1)


@rule
def key_rank(key: int) -> int:
    """The rank of a packed key."""
    return key >> (CTA_BITS + SM_BITS)
