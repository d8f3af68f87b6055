"""A binary heap of (tick, key) over two arrays, in the canonical order of events."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from nmsim.rules.jit import rule


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
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        other = child + 1
        if other < size and (ticks[other] < ticks[child] or (ticks[other] == ticks[child] and keys[other] < keys[child])):
            child = other
        if tick < ticks[child] or (tick == ticks[child] and key < keys[child]):
            break
        ticks[place] = ticks[child]
        keys[place] = keys[child]
        place = child
    ticks[place] = tick
    keys[place] = key


@rule
def heap_drop_top(ticks, keys, size):
    """Remove the earliest event; returns the new size."""
    size -= 1
    if size > 0:
        heap_replace_top(ticks, keys, size, ticks[size], keys[size])
    return size
