"""A binary heap of (tick, key) over two arrays, in the canonical order of events.

Places past the last event hold NEVER, and the smaller child is picked by arithmetic: which of two children is earlier is a
coin toss that a branch would lose half of the time.

Modelled: nothing of the hardware, only the order of its events. Not modelled: everything else.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from nmsim.rules.jit import rule

NEVER = (1 << 63) - 1
"""Tick of an empty place."""


@rule
def heap_push(ticks, keys, size, tick, key):
    """Add an event; returns the new size."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if ticks[parent] < tick or (ticks[parent] == tick and keys[parent] < key):
            break
        ticks[place] = ticks[parent]
        keys[place] = keys[parent]
        place = parent
    ticks[place] = tick
    keys[place] = key
    return size + 1


@rule
def heap_replace_top(ticks, keys, size, tick, key):
    """Put (tick, key) in the place of the earliest event and restore the order."""
    place = 0
    child = 1
    while child < size:
        first, second = ticks[child], ticks[child + 1]
        child += int((second < first) | ((second == first) & (keys[child + 1] < keys[child])))
        earliest = ticks[child]
        if tick < earliest or (tick == earliest and key < keys[child]):
            break
        ticks[place] = earliest
        keys[place] = keys[child]
        place = child
        child = 2 * place + 1
    ticks[place] = tick
    keys[place] = key


@rule
def heap_drop_top(ticks, keys, size):
    """Remove the earliest event; returns the new size."""
    size -= 1
    tick, key = ticks[size], keys[size]
    ticks[size] = NEVER
    if size > 0:
        heap_replace_top(ticks, keys, size, tick, key)
    return size
