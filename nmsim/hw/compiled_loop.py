"""The compiled chip level: one event loop over plain arrays, the same story as `nmsim.hw.chip_events`.

Each CTA has at most one pending event, which lies in its slot; the handlers below are the steps of the CTA process there,
in the same order. Modelled and not modelled: as there.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from nmsim.hw.compiled_account import change_level, charge_first_gap, charge_wait, close
from nmsim.hw.compiled_memory import load, store
from nmsim.hw.compiled_queue import NEVER, event_rank, event_tick, event_word, next_event, requeue
from nmsim.hw.compiled_state import (
    ASKED,
    BEGAN,
    CTA,
    CTA_BATCH,
    CTA_GROUP,
    CTA_K_TILES,
    DRAINED,
    END_K,
    EVENT,
    IN_MAINLOOP,
    K_TILE,
    K_TILES,
    LAST_END,
    LAST_SPLIT_WAIT,
    LOOP_ALONE,
    LOOP_DRAIN,
    LOOP_EXCHANGE,
    LOOP_FILL,
    LOOP_K_TILES,
    LOOP_LIMIT,
    LOOP_LOOKAHEAD,
    LOOP_OCCUPANCY,
    LOOP_PERIOD,
    LOOP_STRIP_ROWS,
    NEXT_K,
    NEXT_SLOT,
    PIPE_FREE,
    PIPE_REMAINDER,
    RESERVED,
    SLOT_WORDS,
    SM_WORDS,
    SPLIT_WAIT,
    STARTED,
    STRIP,
    TOTAL_LONGEST,
    WRITTEN,
    at,
)
from nmsim.hw.compiled_steady import forget, run_alone, run_together
from nmsim.hw.compiled_walk import fill_stages, load_k_tile, ring_place
from nmsim.hw.timing import TIMING_INDEX
from nmsim.mapping.plan import BATCH, GROUP, K0, K1, M0, M1, N0, N1, SLICE, SLICES, TILE
from nmsim.rules.box import DIMENSION, operand_box, operand_bytes
from nmsim.rules.event import BEGIN, END, EPILOGUE, FETCH, SM_BITS, START, WRITE
from nmsim.rules.jit import routine, rule
from nmsim.rules.server import serve
from nmsim.rules.tile import side, strip
from nmsim.units import RATE_BITS

_SEEN = -2
"""In `waiting`, less a tick: from that tick on the slice sees that the one before it has ended. -1 stands for nothing known."""
_SMS, _CTA_LAUNCH, _HANDOVER = TIMING_INDEX["sms"], TIMING_INDEX["cta_launch"], TIMING_INDEX["handover"]
GIVEN_UP = -1
"""What the loop returns of a run that takes as long as its limit, or longer."""
_EVENTS_BETWEEN_LOOKS = 1024
"""k-tiles after which the loop looks whether its limit can still be met."""


@rule
def _wait_for(sms, slot, tick, rank):
    """The one event a slot waits for."""
    sms.slots[at(slot * SLOT_WORDS + EVENT)] = event_word(tick, rank)


@rule
def _requeue(loop, sms, sm):
    requeue(sms.queue, sms.sms, sms.slots, loop[LOOP_OCCUPANCY], sm)


@routine
def _launch(timing, rows, sms, slot, cta, now):
    """Give a slot the next CTA, if there is one; returns the one after."""
    place = slot * SLOT_WORDS
    if cta == rows.shape[0]:
        sms.slots[at(place + EVENT)], sms.slots[at(place + CTA)] = NEVER, -1
        return cta
    sms.slots[at(place + CTA)] = cta
    sms.slots[at(place + K_TILE)] = sms.slots[at(place + SPLIT_WAIT)] = sms.slots[at(place + ASKED)] = 0
    sms.slots[at(place + STRIP)] = sms.slots[at(place + WRITTEN)] = 0
    sms.slots[at(place + DRAINED)] = -1
    row = rows[at(cta)]
    sms.slots[at(place + K_TILES)] = row[CTA_K_TILES]
    sms.slots[at(place + CTA_GROUP)], sms.slots[at(place + CTA_BATCH)] = row[GROUP], row[BATCH]
    sms.slots[at(place + NEXT_K)], sms.slots[at(place + END_K)] = row[K0], row[K1]
    _wait_for(sms, slot, now + timing[_CTA_LAUNCH], BEGIN)
    return cta + 1


@rule
def _begin(timing, loop, tables, levels, dram, l2, sms, totals, sm, slot, now):
    """Fill the stages."""
    change_level(sms, sm, levels, 1)
    sms.slots[at(slot * SLOT_WORDS + BEGAN)] = now
    count = min(max(1, loop[LOOP_LOOKAHEAD]), sms.slots[at(slot * SLOT_WORDS + K_TILES)])
    fill_stages(timing, loop, tables, dram, l2, sms, totals, sm, slot, count, now)
    _wait_for(sms, slot, sms.landed[at(ring_place(loop, slot, 0))] + loop[LOOP_FILL], START)


@rule
def _send_away(loop, sms, sm, done):
    """CTAs that have nothing left to do but ask for the pipe again ask for it when it is free."""
    for place in range(sm * loop[LOOP_OCCUPANCY] * SLOT_WORDS, (sm + 1) * loop[LOOP_OCCUPANCY] * SLOT_WORDS, SLOT_WORDS):
        event = sms.slots[at(place + EVENT)]
        asked = sms.slots[at(place + ASKED)] > sms.slots[at(place + K_TILE)]
        again = asked & (event_rank(event) == START) & (event_tick(event) < done)
        sms.slots[at(place + EVENT)] = event_word(done, START) if again else event


@rule
def _start(timing, loop, tables, periods, dram, l2, sms, totals, steady, sm, slot, now):
    """One k-tile into the pipe, or as many as can be foretold, once it is free: of the CTAs that wait, the oldest comes first.

    Returns whether any went in.
    """
    own, place = sm * SM_WORDS, slot * SLOT_WORDS
    k_tile, k_tiles = sms.slots[at(place + K_TILE)], sms.slots[at(place + K_TILES)]
    if loop[LOOP_ALONE] and k_tile > 0 and run_alone(loop, periods, sms, steady, sm, slot, now):
        return True
    ahead = k_tile + loop[LOOP_LOOKAHEAD]
    if sms.slots[at(place + ASKED)] == k_tile:
        sms.slots[at(place + ASKED)] = k_tile + 1
        if k_tile < ahead < k_tiles:
            load_k_tile(timing, loop, tables, dram, l2, sms, totals, sm, slot, ahead, now)
    pipe_free = sms.sms[at(own + PIPE_FREE)]
    if pipe_free > now:
        _wait_for(sms, slot, pipe_free, START)
        return False
    landing = ring_place(loop, slot, k_tile)
    if k_tile == 0:
        charge_first_gap(timing, loop, sms, totals, sm, now, sms.slots[at(place + BEGAN)], landing)
    else:
        charge_wait(sms, totals, sm, now - pipe_free, landing)
    level = sms.sms[at(own + IN_MAINLOOP)] - 1
    start, done, remainder = serve(now, pipe_free, sms.sms[at(own + PIPE_REMAINDER)], 1, periods[at(level)])
    sms.sms[at(own + PIPE_FREE)] = done
    sms.sms[at(own + PIPE_REMAINDER)] = remainder
    sms.sms[at(own + RESERVED)] += done - start
    sms.sms[at(own + STARTED)] += 1
    sms.slots[at(place + K_TILE)] = k_tile + 1
    _send_away(loop, sms, sm, done)
    if k_tile + 1 == k_tiles:
        _wait_for(sms, slot, done + loop[LOOP_DRAIN], EPILOGUE)
    elif ahead == k_tile:
        _wait_for(sms, slot, done, FETCH)
    else:
        _wait_for(sms, slot, max(done, sms.landed[at(ring_place(loop, slot, k_tile + 1))]), START)
    return True


@routine
def _fetch(timing, loop, tables, dram, l2, sms, totals, sm, slot, now):
    """Ask for the next k-tile only now: a synchronous copy."""
    k_tile = sms.slots[at(slot * SLOT_WORDS + K_TILE)]
    load_k_tile(timing, loop, tables, dram, l2, sms, totals, sm, slot, k_tile, now)
    _wait_for(sms, slot, max(now, sms.landed[at(ring_place(loop, slot, k_tile))]), START)


@routine
def _strip(loop, tables, sms, slot):
    """(descriptor, box, bytes) of a CTA's present strip of its output tile."""
    rows, _, outputs, _, _ = tables
    row = rows[sms.slots[at(slot * SLOT_WORDS + CTA)]]
    t = outputs[row[GROUP]]
    m0, m1 = strip(row[M0], row[M1], loop[LOOP_STRIP_ROWS], sms.slots[at(slot * SLOT_WORDS + STRIP)])
    x0, x1, y0, y1 = side(t[DIMENSION], m0, m1, row[N0], row[N1])
    box = operand_box(t, x0, x1, y0, y1, row[BATCH])
    return t, box, operand_bytes(t, x1 - x0, y1 - y0)


@routine
def _next_strip(timing, loop, tables, dram, l2, sms, totals, sm, slot, now):
    """Ask for what the present strip adds to, if anything, and exchange it."""
    rows, accumulate = tables[0], tables[4]
    cta = sms.slots[at(slot * SLOT_WORDS + CTA)]
    there = now
    if rows[cta, SLICE] > 0 or accumulate[rows[cta, GROUP]]:
        t, box, nbytes = _strip(loop, tables, sms, slot)
        there = load(timing, dram, l2, sms, totals, sm, now, t, tables[3], box, nbytes)
    _wait_for(sms, slot, there + loop[LOOP_EXCHANGE], WRITE)


@routine
def _write_strip(timing, loop, tables, dram, l2, sms, totals, sm, slot, now):
    """Write the present strip and go on to the next; after the last, the CTA ends when all have left the SM."""
    rows, place = tables[0], slot * SLOT_WORDS
    cta = sms.slots[at(place + CTA)]
    t, box, nbytes = _strip(loop, tables, sms, slot)
    end = max(sms.slots[at(place + WRITTEN)], store(timing, dram, l2, sms, totals, sm, now, t, tables[3], box, nbytes))
    sms.slots[at(place + WRITTEN)] = end
    sms.slots[at(place + STRIP)] += 1
    if rows[cta, M0] + sms.slots[at(place + STRIP)] * loop[LOOP_STRIP_ROWS] < rows[cta, M1]:
        _next_strip(timing, loop, tables, dram, l2, sms, totals, sm, slot, now)
    else:
        _wait_for(sms, slot, end, END)


@routine
def _epilogue(timing, loop, tables, levels, dram, l2, sms, released, waiting, totals, sm, slot, now):
    """The pipe is left; then, when it is this slice's turn, the first strip is begun."""
    rows, place = tables[0], slot * SLOT_WORDS
    cta = sms.slots[at(place + CTA)]
    if sms.slots[at(place + DRAINED)] < 0:
        sms.slots[at(place + DRAINED)] = now
        totals[TOTAL_LONGEST] = max(totals[TOTAL_LONGEST], now - sms.slots[at(place + BEGAN)])
        change_level(sms, sm, levels, -1)
    if rows[cta, SLICE] > 0:
        turn = rows[cta, TILE] * (len(waiting) // len(released)) + rows[cta, SLICE]
        if rows[cta, SLICE] > released[rows[cta, TILE]]:
            waiting[turn] = slot
            sms.slots[at(place + EVENT)] = NEVER
            return
        seen = _SEEN - waiting[turn]
        if seen > now:
            _wait_for(sms, slot, seen, EPILOGUE)
            return
    sms.slots[at(place + SPLIT_WAIT)] = now - sms.slots[at(place + DRAINED)]
    _next_strip(timing, loop, tables, dram, l2, sms, totals, sm, slot, now)


@routine
def _end(timing, loop, rows, sms, released, waiting, sm, slot, next_cta, now):
    """The CTA ends: the next slice of its tile may go on, and the next CTA takes the slot; returns the one after."""
    cta = sms.slots[at(slot * SLOT_WORDS + CTA)]
    sms.sms[at(sm * SM_WORDS + LAST_END)] = now
    sms.sms[at(sm * SM_WORDS + LAST_SPLIT_WAIT)] = sms.slots[at(slot * SLOT_WORDS + SPLIT_WAIT)]
    if rows[cta, SLICES] > 1:
        following = rows[cta, SLICE] + 1
        released[rows[cta, TILE]] = following
        if following < rows[cta, SLICES]:
            turn, seen = rows[cta, TILE] * (len(waiting) // len(released)) + following, now + timing[_HANDOVER]
            waiter = waiting[turn]
            if waiter >= 0:
                _wait_for(sms, waiter, seen, EPILOGUE)
                _requeue(loop, sms, waiter // loop[LOOP_OCCUPANCY])
            else:
                waiting[turn] = _SEEN - seen
    return _launch(timing, rows, sms, slot, next_cta, now)


@routine
def _is_hopeless(loop, periods, sms, count, now):
    """Whether the k-tiles that have not started take some SM's pipe to the limit even at its best rate."""
    left = loop[LOOP_K_TILES]
    for sm in range(count):
        left -= sms.sms[at(sm * SM_WORDS + STARTED)]
        for level in range(periods.size):
            left -= sms.k_tiles[at(sm * periods.size + level)]
    return now + ((-(-left // count) * min(periods)) >> RATE_BITS) >= loop[LOOP_LIMIT]


def chip_loop(timing, loop, tables, periods, dram, l2, sms, released, waiting, totals, steady):
    """Run every CTA to its end; returns the tick of the last, or why there is none. All results are left in the state arrays.

    `tables` is (ctas, operands, outputs, gather, accumulate); `released` [tiles] counts finished slices,
    `waiting` [tiles * slices] holds the slot of a slice that waits for its turn, or what a slice that comes later finds (_SEEN).
    """
    rows, count = tables[0], timing[_SMS]
    next_cta, events = 0, 0
    for place in range(sms.queue.size):
        sms.queue[place] = NEVER << SM_BITS
    for slot_of_sm in range(loop[LOOP_OCCUPANCY]):
        for sm in range(count):
            next_cta = _launch(timing, rows, sms, sm * loop[LOOP_OCCUPANCY] + slot_of_sm, next_cta, 0)
    for sm in range(count):
        _requeue(loop, sms, sm)
    while True:
        event, sm = next_event(sms.queue)
        now, rank = event_tick(event), event_rank(event)
        if now >= loop[LOOP_LIMIT]:
            break
        slot = sms.sms[at(sm * SM_WORDS + NEXT_SLOT)]
        if rank == START:
            started = _start(timing, loop, tables, periods, dram, l2, sms, totals, steady, sm, slot, now)
            if started and loop[LOOP_PERIOD] > 0 and sms.slots[at(slot * SLOT_WORDS + K_TILE)] & (loop[LOOP_PERIOD] - 1) == 0:
                run_together(timing, loop, tables, l2, sms, totals, steady, slot, now)
            _requeue(loop, sms, sm)
            events += 1
            if events == _EVENTS_BETWEEN_LOOKS:
                events = 0
                if _is_hopeless(loop, periods, sms, count, now):
                    return GIVEN_UP
            continue
        forget(steady)
        if rank == BEGIN:
            _begin(timing, loop, tables, periods.size, dram, l2, sms, totals, sm, slot, now)
        elif rank == FETCH:
            _fetch(timing, loop, tables, dram, l2, sms, totals, sm, slot, now)
        elif rank == WRITE:
            _write_strip(timing, loop, tables, dram, l2, sms, totals, sm, slot, now)
        elif rank == EPILOGUE:
            _epilogue(timing, loop, tables, periods.size, dram, l2, sms, released, waiting, totals, sm, slot, now)
        else:
            next_cta = _end(timing, loop, rows, sms, released, waiting, sm, slot, next_cta, now)
        _requeue(loop, sms, sm)
    if event != NEVER:
        return GIVEN_UP
    return close(loop, sms, count)
