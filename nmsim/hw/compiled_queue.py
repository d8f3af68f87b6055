"""Which event is next, in the canonical order: a tournament between SMs, each with the earliest event of its slots.

An event is a word of tick and rank. A node of the tournament holds the earlier of the two words below it, the SM packed
into their last bits; so two words are never equal, and a changed event is played up the tree without a branch. Within an SM the
CTA decides between equal events.

Modelled: nothing of the hardware, only the order of its events. Not modelled: everything else.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from nmsim.hw.compiled_state import CTA, EVENT, NEXT_SLOT, SLOT_WORDS, SM_WORDS, at
from nmsim.rules.event import SM_BITS
from nmsim.rules.jit import rule

RANK_BITS = 3
LAST_TICK = (1 << (63 - SM_BITS - RANK_BITS)) - 1
"""Events at or after it are not run: more than three minutes of a machine's time."""
NEVER = (1 << (63 - SM_BITS)) - 1
"""The event of a slot that waits for nothing."""
_SM_MASK = (1 << SM_BITS) - 1


@rule
def event_word(tick, rank):
    """Tick and rank in a word that sorts as they do."""
    return (min(tick, LAST_TICK) << RANK_BITS) | rank


@rule
def event_tick(event):
    """The tick of an event; LAST_TICK of NEVER."""
    return event >> RANK_BITS


@rule
def event_rank(event):
    """The rank of an event."""
    return event & ((1 << RANK_BITS) - 1)


@rule
def next_event(queue):
    """(event, SM) of the earliest event there is."""
    word = queue[at(1)]
    return word >> SM_BITS, word & _SM_MASK


@rule
def requeue(queue, sms, slots, occupancy, sm):
    """Find an SM's next event again, after an event of one of its slots changed."""
    best = sm * occupancy
    event, cta = slots[at(best * SLOT_WORDS + EVENT)], slots[at(best * SLOT_WORDS + CTA)]
    for slot in range(best + 1, best + occupancy):
        other, other_cta = slots[at(slot * SLOT_WORDS + EVENT)], slots[at(slot * SLOT_WORDS + CTA)]
        earlier = (other < event) | ((other == event) & (other_cta < cta))
        best = slot if earlier else best
        event = other if earlier else event
        cta = other_cta if earlier else cta
    sms[at(sm * SM_WORDS + NEXT_SLOT)] = best
    word = (event << SM_BITS) | sm
    place = (queue.size >> 1) + sm
    while place > 1:
        queue[at(place)] = word
        word = min(word, queue[at(place ^ 1)])
        place >>= 1
    queue[at(1)] = word
