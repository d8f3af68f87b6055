"""Steady states of the compiled chip level: stretches of which the outcome is known without running them, skipped to the tick.

Alone: where memory answers at once, an SM's mainloop depends on nothing else until one of its CTAs begins or ends. The oldest
CTA has a pipe that is never idle to itself, so that where it is after any number of k-tiles is a division.

Together: where the L2 holds all operands for good, the whole chip runs like clockwork. Two states that differ only by a shift in
time and in K, all servers with their remainders and all data in flight included, have the same future for as long as every CTA
asks for the same blocks shifted along K; so the stretch between them is repeated by arithmetic.

Not recognised: anything with DRAM in it. The address map is a hash (`nmsim.rules.dram.locate`), by which no stretch asks the
same banks as another, and the refreshes of the channels are not in step with a kernel.
Modelled and not modelled: as in `nmsim.hw.chip_events`, which never skips.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from nmsim.hw.compiled_l2 import is_resident, place_of
from nmsim.hw.compiled_queue import LAST_TICK, NEVER, RANK_BITS, event_rank, event_tick, event_word, requeue
from nmsim.hw.compiled_state import (
    ASKED,
    CTA,
    CTA_GROUP,
    EVENT,
    FILLED,
    IN_MAINLOOP,
    K_TILE,
    K_TILES,
    LOOKUPS_EVER,
    LOOP_LIMIT,
    LOOP_LOOKAHEAD,
    LOOP_OCCUPANCY,
    LOOP_PERIOD,
    LOOP_RING,
    LOOP_TILE_K,
    NEXT_K,
    NEXT_SLOT,
    PART_WORDS,
    PARTITION_FREE,
    PARTITION_REMAINDER,
    PARTITION_WORDS,
    PIPE_FREE,
    PIPE_REMAINDER,
    PORT_FREE,
    PORT_REMAINDER,
    RESERVED,
    SLOT_WORDS,
    SM_WORDS,
    STARTED,
    STEADY_ANCHOR,
    STEADY_LOOKUPS,
    STEADY_MARKS,
    STEADY_SAVED,
    STEADY_SKIPPED,
    STEADY_TICK,
    USED,
    at,
)
from nmsim.hw.timing import TIMING_INDEX
from nmsim.mapping.plan import BATCH, K1, M0, M1, N0, N1
from nmsim.rules.box import BLOCK_COLUMNS, DIMENSION, FIRST_BLOCK, TENSOR, block_range, block_row, operand_box
from nmsim.rules.event import START
from nmsim.rules.jit import routine, rule
from nmsim.rules.tile import side
from nmsim.units import RATE_BITS

_SMS, _PARTITION_MASK, _COPIES = TIMING_INDEX["sms"], TIMING_INDEX["partition_mask"], TIMING_INDEX["l2_copies"]
_LONGEST_LEAP = 1 << 42
"""Ticks; longer ones are made in several leaps, so that no product overflows."""


@routine
def run_alone(loop, periods, sms, steady, sm, slot, now):
    """With memory that answers at once: run the CTA of a slot, which is about to take the pipe, up to the SM's next event that
    is not another k-tile of it or a younger CTA that asks for the pipe in vain.

    Returns the k-tiles run, 0 where the next one has to be run as usual.
    """
    first, own, place = sm * loop[LOOP_OCCUPANCY], sm * SM_WORDS, slot * SLOT_WORDS
    free, remainder = sms.sms[at(own + PIPE_FREE)], sms.sms[at(own + PIPE_REMAINDER)]
    if free != now:
        return 0
    until, cta = loop[LOOP_LIMIT], sms.slots[at(place + CTA)]
    for other in range(first, first + loop[LOOP_OCCUPANCY]):
        event, other_cta = sms.slots[at(other * SLOT_WORDS + EVENT)], sms.slots[at(other * SLOT_WORDS + CTA)]
        if event == NEVER:
            if other_cta >= 0:
                return 0  # a slice that waits for its turn: when the CTA after it begins is for other SMs to say
        elif other != slot and (event_rank(event) != START or other_cta < cta):
            until = min(until, event_tick(event))
    rate = periods[at(sms.sms[at(own + IN_MAINLOOP)] - 1)]
    k_tiles = min((1 << 62) // rate, sms.slots[at(place + K_TILES)] - 1 - sms.slots[at(place + K_TILE)])
    ticks = min(until - free, _LONGEST_LEAP)
    k_tiles = min(k_tiles, ((ticks << RATE_BITS) - 1 - remainder) // rate + 1)
    if k_tiles < 2:
        return 0
    work = k_tiles * rate + remainder
    done = free + (work >> RATE_BITS)
    for other in range(first, first + loop[LOOP_OCCUPANCY]):
        event = sms.slots[at(other * SLOT_WORDS + EVENT)]
        if other == slot or (event_rank(event) == START and event_tick(event) < done and event != NEVER):
            sms.slots[at(other * SLOT_WORDS + EVENT)] = event_word(done, START)
    sms.slots[at(place + K_TILE)] += k_tiles
    sms.slots[at(place + ASKED)] = sms.slots[at(place + K_TILE)]
    sms.sms[at(own + PIPE_FREE)] = done
    sms.sms[at(own + PIPE_REMAINDER)] = work & ((1 << RATE_BITS) - 1)
    sms.sms[at(own + RESERVED)] += work >> RATE_BITS
    sms.sms[at(own + STARTED)] += k_tiles
    steady.words[STEADY_SKIPPED] += k_tiles
    return k_tiles


@routine
def run_together(timing, loop, tables, l2, sms, totals, steady, slot, now):
    """At a k-tile of the anchor's (the first slot that comes by): where the state is that of an earlier one but for a shift, leap.

    A state is kept at the second, fourth, eighth ... of these occasions, so that any period is found that lasts long enough, and
    none is kept (which takes as long as some hundred k-tiles) where CTAs begin and end all the time.
    """
    if steady.words[STEADY_ANCHOR] < 0:
        steady.words[STEADY_ANCHOR] = slot
    if steady.words[STEADY_ANCHOR] != slot:
        return
    steady.words[STEADY_MARKS] += 1
    marks = steady.words[STEADY_MARKS]
    then = steady.words[STEADY_TICK]
    same = steady.words[STEADY_SAVED] != 0 and _same_state(loop, l2, sms, steady, now)
    if same and _holds_operands(timing, loop, tables, l2, sms, then):
        _leap(loop, l2, sms, totals, steady, now)
        steady.words[STEADY_SAVED] = 0
    elif marks > 1 and marks & (marks - 1) == 0:
        steady.words[STEADY_SAVED], steady.words[STEADY_TICK] = 1, now
        steady.words[STEADY_LOOKUPS] = l2.scalars[LOOKUPS_EVER]
        _copy(sms.slots, steady.slots)
        _copy(sms.landed, steady.landed)
        _copy(sms.parts, steady.parts)
        _copy(sms.sms, steady.sms)
        _copy(sms.stalls, steady.stalls)
        _copy(l2.partitions, steady.partitions)
        _copy(totals, steady.totals)


@rule
def forget(steady):
    """A CTA began, ended or wrote: no state from before it has the same future."""
    steady.words[STEADY_ANCHOR] = -1
    steady.words[STEADY_MARKS] = steady.words[STEADY_SAVED] = 0


@rule
def _copy(source, target):
    for word in range(source.size):
        target[at(word)] = source[at(word)]


@rule
def _same_state(loop, l2, sms, steady, now):
    """Whether the state is the kept one but for a shift in time and along K."""
    then = steady.words[STEADY_TICK]
    for place in range(0, l2.partitions.size, PARTITION_WORDS):
        if l2.partitions[at(place + PARTITION_REMAINDER)] != steady.partitions[at(place + PARTITION_REMAINDER)]:
            return False
        ahead = max(0, l2.partitions[at(place + PARTITION_FREE)] - now)
        if ahead != max(0, steady.partitions[at(place + PARTITION_FREE)] - then):
            return False
    occupancy = loop[LOOP_OCCUPANCY]
    for slot in range(sms.slots.size // SLOT_WORDS):
        event = sms.slots[at(slot * SLOT_WORDS + EVENT)]
        if event == NEVER and steady.slots[at(slot * SLOT_WORDS + EVENT)] == NEVER:
            continue
        if not _same_slot(loop, sms, steady, slot, now - then) or not _same_sm(sms, steady, slot // occupancy, now, then):
            return False
        if not _same_flight(loop, sms, steady, slot, now, then):
            return False
    return True


@rule
def _same_slot(loop, sms, steady, slot, shift):
    place = slot * SLOT_WORDS
    event, k_tile = sms.slots[at(place + EVENT)], sms.slots[at(place + K_TILE)]
    before = steady.slots[at(place + K_TILE)]
    return (
        event == steady.slots[at(place + EVENT)] + (shift << RANK_BITS)
        and event_rank(event) == START
        and sms.slots[at(place + CTA)] == steady.slots[at(place + CTA)]
        and (before > 0 or k_tile == 0)
        and sms.slots[at(place + ASKED)] - k_tile == steady.slots[at(place + ASKED)] - before
        and (k_tile - before) & (loop[LOOP_PERIOD] - 1) == 0
    )


@rule
def _same_sm(sms, steady, sm, now, then):
    own = sm * SM_WORDS
    return (
        sms.sms[at(own + PIPE_FREE)] - now == steady.sms[at(own + PIPE_FREE)] - then
        and sms.sms[at(own + PIPE_REMAINDER)] == steady.sms[at(own + PIPE_REMAINDER)]
        and max(0, sms.sms[at(own + PORT_FREE)] - now) == max(0, steady.sms[at(own + PORT_FREE)] - then)
        and sms.sms[at(own + PORT_REMAINDER)] == steady.sms[at(own + PORT_REMAINDER)]
        and sms.sms[at(own + IN_MAINLOOP)] == steady.sms[at(own + IN_MAINLOOP)]
    )


@rule
def _same_flight(loop, sms, steady, slot, now, then):
    """What is in flight lands alike; what has landed is waited for by nobody (its k-tile starts when the one before is done)."""
    for place in range(slot * loop[LOOP_RING], (slot + 1) * loop[LOOP_RING]):
        ahead = sms.landed[at(place)] - now
        if max(ahead, -1) != max(steady.landed[at(place)] - then, -1):
            return False
        if ahead >= 0:
            for part in range(place * PART_WORDS, (place + 1) * PART_WORDS):
                if sms.parts[at(part)] != steady.parts[at(part)]:
                    return False
    return True


@rule
def _holds_operands(timing, loop, tables, l2, sms, then):
    """Whether each CTA's SM finds all that is left of its operands where it looks first, and has found it there since before `then`."""
    operands = tables[1]
    for slot in range(sms.slots.size // SLOT_WORDS):
        place = slot * SLOT_WORDS
        if sms.slots[at(place + EVENT)] != NEVER:
            own = slot // loop[LOOP_OCCUPANCY] & timing[_PARTITION_MASK]
            for operand in range(operands.shape[1]):
                t = operands[at(sms.slots[at(place + CTA_GROUP)]), at(operand)]
                if not _holds(timing, tables, l2, sms, place, own, t, then):
                    return False
    return True


@rule
def _holds(timing, tables, l2, sms, place, own, t, then):
    row = tables[0][at(sms.slots[at(place + CTA)])]
    x0, x1, _, _ = side(t[DIMENSION], row[M0], row[M1], row[N0], row[N1])
    box = operand_box(t, x0, x1, sms.slots[at(place + NEXT_K)], row[K1], row[BATCH])
    first_row, last_row, first_column, last_column = block_range(t, tables[3], box)
    for row in range(first_row, last_row + 1):
        row_block = block_row(t, tables[3], row)
        for column_block in range(first_column, last_column + 1):
            home = (row_block + column_block + t[TENSOR]) & timing[_PARTITION_MASK]
            block = t[FIRST_BLOCK] + row_block * t[BLOCK_COLUMNS] + column_block
            lies = place_of(timing, block, own if timing[_COPIES] else home)
            if not is_resident(l2.places[at(lies + USED)]) or l2.places[at(lies + FILLED)] >= then:
                return False
    return True


@rule
def _leap(loop, l2, sms, totals, steady, now):
    """Repeat what happened since the kept state as often as every CTA still has whole k-tiles to load for it."""
    shift = now - steady.words[STEADY_TICK]
    times = LAST_TICK if shift > 0 else 0
    for place in range(0, sms.slots.size, SLOT_WORDS):
        if sms.slots[at(place + EVENT)] != NEVER:
            k_tile = sms.slots[at(place + K_TILE)]
            times = min(times, (LAST_TICK - 1 - event_tick(sms.slots[at(place + EVENT)])) // max(shift, 1))
            step = k_tile - steady.slots[at(place + K_TILE)]
            if step > 0:
                times = min(times, (sms.slots[at(place + K_TILES)] - 1 - loop[LOOP_LOOKAHEAD] - k_tile) // step)
    if times <= 0:
        return
    later = times * shift
    for slot in range(sms.slots.size // SLOT_WORDS):
        place = slot * SLOT_WORDS
        if sms.slots[at(place + EVENT)] != NEVER:
            steps = times * (sms.slots[at(place + K_TILE)] - steady.slots[at(place + K_TILE)])
            sms.slots[at(place + EVENT)] += later << RANK_BITS
            sms.slots[at(place + K_TILE)] += steps
            sms.slots[at(place + ASKED)] += steps
            sms.slots[at(place + NEXT_K)] += steps * loop[LOOP_TILE_K]
            steady.words[STEADY_SKIPPED] += steps
            for landing in range(slot * loop[LOOP_RING], (slot + 1) * loop[LOOP_RING]):
                sms.landed[at(landing)] += later
    for sm in range(sms.sms.size // SM_WORDS):
        own = sm * SM_WORDS
        if event_tick(sms.slots[at(sms.sms[at(own + NEXT_SLOT)] * SLOT_WORDS + EVENT)]) < LAST_TICK:
            sms.sms[at(own + PIPE_FREE)] += later
            sms.sms[at(own + PORT_FREE)] += later
            for word in (RESERVED, STARTED):
                sms.sms[at(own + word)] += times * (sms.sms[at(own + word)] - steady.sms[at(own + word)])
    for partition in range(0, l2.partitions.size, PARTITION_WORDS):
        l2.partitions[at(partition + PARTITION_FREE)] += later
    for word in range(sms.stalls.size):
        sms.stalls[at(word)] += times * (sms.stalls[at(word)] - steady.stalls[at(word)])
    for word in range(totals.size):
        totals[at(word)] += times * (totals[at(word)] - steady.totals[at(word)])
    l2.scalars[LOOKUPS_EVER] += times * (l2.scalars[LOOKUPS_EVER] - steady.words[STEADY_LOOKUPS])
    for sm in range(sms.sms.size // SM_WORDS):
        requeue(sms.queue, sms.sms, sms.slots, loop[LOOP_OCCUPANCY], sm)
