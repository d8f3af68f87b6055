"""The compiled chip level: one event loop over plain arrays, the same story as `nmsim.hw.chip_events`.

Each CTA has at most one pending event, kept in a binary heap in the canonical order; the handlers below are the steps of
the CTA process there, in the same order. Modelled and not modelled: as there.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from nmsim.hw.compiled_heap import heap_drop_top, heap_push, heap_replace_top
from nmsim.hw.compiled_memory import sm_load, sm_store
from nmsim.hw.compiled_state import RING, TOTAL_UNEXPLAINED
from nmsim.hw.timing import TIMING_INDEX
from nmsim.mapping.plan import BATCH, CTA_FIELDS, GROUP, K0, K1, M0, M1, N0, N1, SLICE, SLICES, TILE
from nmsim.rules.box import DIMENSION, operand_box, operand_bytes
from nmsim.rules.event import BEGIN, END, EPILOGUE, FETCH, START, WRITE, event_key, key_cta, key_rank, key_sm
from nmsim.rules.jit import rule
from nmsim.rules.server import serve
from nmsim.rules.sharing import PARTS, charge_exposed
from nmsim.rules.stalls import Stall
from nmsim.rules.tile import partial_box, partial_bytes, side

_SMS, _CTA_LAUNCH = TIMING_INDEX["sms"], TIMING_INDEX["cta_launch"]
_CTA_LAUNCH_STALL, _FILL_DRAIN, _SPLIT_K_WAIT = int(Stall.CTA_LAUNCH), int(Stall.FILL_DRAIN), int(Stall.SPLIT_K_WAIT)
_EPILOGUE_STALL, _IMBALANCE, _NOC_QUEUE = int(Stall.EPILOGUE), int(Stall.IMBALANCE), int(Stall.NOC_QUEUE)

K_TILES = CTA_FIELDS
"""Column that the compiled loop adds to the CTA table: k-tiles of each CTA."""
_RING_MASK = RING - 1
(LOOP_LOOKAHEAD, LOOP_FILL, LOOP_DRAIN, LOOP_TILE_M, LOOP_TILE_N, LOOP_TILE_K, LOOP_OCCUPANCY) = range(7)
"""Fields of the `loop` array: the kernel's own numbers."""


@rule
def _load_k_tile(timing, loop, tables, dram, l2, sms, ctas, totals, scratch, sm, cta, k_tile, now):
    """Ask for all operands of a k-tile; leaves its landing and parts in the CTA's stage."""
    rows, operands, _, _, gather, _ = tables
    group = rows[cta, GROUP]
    k0 = rows[cta, K0] + k_tile * loop[LOOP_TILE_K]
    k1 = min(rows[cta, K1], k0 + loop[LOOP_TILE_K])
    slot, stage = ctas.slot[cta], k_tile & _RING_MASK
    landed, critical = -1, (0, 0, 0, 0, 0, 0)
    for operand in range(operands.shape[1]):
        t = operands[group, operand]
        x0, x1, _, _ = side(t[DIMENSION], rows[cta, M0], rows[cta, M1], rows[cta, N0], rows[cta, N1])
        box = operand_box(t, gather, x0, x1, k0, k1, rows[cta, BATCH])
        nbytes = operand_bytes(t, x1 - x0, k1 - k0)
        data, parts = sm_load(timing, dram, l2, sms, totals, sm, now, t, box, nbytes)
        if data > landed:
            landed, critical = data, parts
    ctas.landed[slot, stage] = landed
    for part in range(PARTS):
        ctas.parts[slot, stage, part] = critical[part]


@rule
def _charge_wait(sms, totals, scratch, sm, exposed, parts):
    if exposed <= 0:
        return
    for part in range(PARTS):
        scratch[part] = 0
    totals[TOTAL_UNEXPLAINED] += charge_exposed(exposed, parts, scratch)
    for part in range(PARTS):
        sms.stalls[sm, _NOC_QUEUE + part] += scratch[part]


@rule
def _charge_epilogue(sms, loop, sm, ticks):
    waited = min(ticks, sms.last_split_wait[sm])
    drained = min(ticks - waited, loop[LOOP_DRAIN])
    sms.stalls[sm, _SPLIT_K_WAIT] += waited
    sms.stalls[sm, _FILL_DRAIN] += drained
    sms.stalls[sm, _EPILOGUE_STALL] += ticks - waited - drained


@rule
def _charge_first_gap(timing, loop, sms, totals, scratch, sm, start, began, parts):
    gap = start - sms.pipe_free[sm]
    if gap <= 0:
        return
    before = min(gap, max(0, began - sms.pipe_free[sm]))
    launch = min(before, timing[_CTA_LAUNCH])
    sms.stalls[sm, _CTA_LAUNCH_STALL] += launch
    _charge_epilogue(sms, loop, sm, before - launch)
    fill = min(gap - before, loop[LOOP_FILL])
    sms.stalls[sm, _FILL_DRAIN] += fill
    _charge_wait(sms, totals, scratch, sm, gap - before - fill, parts)


@rule
def _begin(timing, loop, tables, dram, l2, sms, ctas, totals, scratch, sm, cta, now):
    """Fill the stages; returns the tick of the first START."""
    rows = tables[0]
    sms.in_mainloop[sm] += 1
    ctas.began[cta] = now
    k_tiles = rows[cta, K_TILES]
    for k_tile in range(min(max(1, loop[LOOP_LOOKAHEAD]), k_tiles)):
        _load_k_tile(timing, loop, tables, dram, l2, sms, ctas, totals, scratch, sm, cta, k_tile, now)
    return ctas.landed[ctas.slot[cta], 0] + loop[LOOP_FILL]


@rule
def _start(timing, loop, tables, periods, dram, l2, sms, ctas, totals, scratch, sm, cta, now):
    """One k-tile into the pipe; returns (tick, rank) of the CTA's next event."""
    rows = tables[0]
    k_tile = ctas.k_tile[cta]
    k_tiles = rows[cta, K_TILES]
    slot, lookahead = ctas.slot[cta], loop[LOOP_LOOKAHEAD]
    ahead = k_tile + lookahead
    if lookahead > 0 and ahead < k_tiles:
        _load_k_tile(timing, loop, tables, dram, l2, sms, ctas, totals, scratch, sm, cta, ahead, now)
    start = max(now, sms.pipe_free[sm])
    parts = ctas.parts[slot, k_tile & _RING_MASK]
    if k_tile == 0:
        _charge_first_gap(timing, loop, sms, totals, scratch, sm, start, ctas.began[cta], parts)
    else:
        _charge_wait(sms, totals, scratch, sm, start - sms.pipe_free[sm], parts)
    level = sms.in_mainloop[sm] - 1
    start, done, sms.pipe_remainder[sm] = serve(now, sms.pipe_free[sm], sms.pipe_remainder[sm], 1, periods[level])
    sms.reserved_ticks[sm, level] += done - start
    sms.k_tiles[sm, level] += 1
    sms.pipe_free[sm] = done
    ctas.k_tile[cta] = k_tile + 1
    if k_tile + 1 == k_tiles:
        return done + loop[LOOP_DRAIN], EPILOGUE
    if lookahead == 0:
        return done, FETCH
    return max(done, ctas.landed[slot, (k_tile + 1) & _RING_MASK]), START


@rule
def _output(tables, rows, cta):
    """(descriptor, box, bytes) of a CTA's output tile."""
    _, _, outputs, _, gather, _ = tables
    t = outputs[rows[cta, GROUP]]
    x0, x1, y0, y1 = side(t[DIMENSION], rows[cta, M0], rows[cta, M1], rows[cta, N0], rows[cta, N1])
    box = operand_box(t, gather, x0, x1, y0, y1, rows[cta, BATCH])
    return t, box, operand_bytes(t, x1 - x0, y1 - y0)


@rule
def _read_partial(timing, loop, tables, dram, l2, sms, totals, scratch, sm, cta, now):
    """Read what the epilogue adds to; returns the tick it has landed, -1 where it only writes."""
    rows, _, _, workspace, _, accumulate = tables
    if rows[cta, SLICE] > 0:
        box = partial_box(rows[cta, TILE], loop[LOOP_TILE_M], loop[LOOP_TILE_N])
        nbytes = partial_bytes(rows[cta, M1] - rows[cta, M0], rows[cta, N1] - rows[cta, N0])
        return sm_load(timing, dram, l2, sms, totals, sm, now, workspace, box, nbytes)[0]
    if accumulate[rows[cta, GROUP]]:
        t, box, nbytes = _output(tables, rows, cta)
        return sm_load(timing, dram, l2, sms, totals, sm, now, t, box, nbytes)[0]
    return -1


@rule
def _write_tile(timing, loop, tables, dram, l2, sms, totals, sm, cta, now):
    """Write the output tile, or this slice's partial sums; returns the tick it has left the SM."""
    rows, workspace = tables[0], tables[3]
    if rows[cta, SLICE] + 1 == rows[cta, SLICES]:
        t, box, nbytes = _output(tables, rows, cta)
        return sm_store(timing, dram, l2, sms, totals, sm, now, t, box, nbytes)
    box = partial_box(rows[cta, TILE], loop[LOOP_TILE_M], loop[LOOP_TILE_N])
    nbytes = partial_bytes(rows[cta, M1] - rows[cta, M0], rows[cta, N1] - rows[cta, N0])
    return sm_store(timing, dram, l2, sms, totals, sm, now, workspace, box, nbytes)


@rule
def _close(sms, loop, sm, total):
    if sms.last_end[sm] > sms.pipe_free[sm]:
        _charge_epilogue(sms, loop, sm, sms.last_end[sm] - sms.pipe_free[sm])
    sms.stalls[sm, _IMBALANCE] += total - max(sms.last_end[sm], sms.pipe_free[sm])


def chip_loop(timing, loop, tables, periods, dram, l2, sms, ctas, released, waiting, totals, heap_ticks, heap_keys, scratch):
    """Run every CTA to its end; returns the tick of the last. All results are left in the state arrays.

    `tables` is (ctas, operands, outputs, workspace, gather, accumulate); `released` [tiles] counts finished slices,
    `waiting` [tiles * slices] holds the CTA of a slice that waits for its turn, -1 for none.
    """
    rows = tables[0]
    count = rows.shape[0]
    next_cta, size = 0, 0
    for round_ in range(loop[LOOP_OCCUPANCY]):
        for sm in range(timing[_SMS]):
            if next_cta < count:
                ctas.slot[next_cta] = round_ * timing[_SMS] + sm
                size = heap_push(heap_ticks, heap_keys, size, timing[_CTA_LAUNCH], event_key(BEGIN, sm, next_cta))
                next_cta += 1
    while size > 0:
        now, key = heap_ticks[0], heap_keys[0]
        rank, sm, cta = key_rank(key), key_sm(key), key_cta(key)
        if rank == START:
            tick, rank = _start(timing, loop, tables, periods, dram, l2, sms, ctas, totals, scratch, sm, cta, now)
            heap_replace_top(heap_ticks, heap_keys, size, tick, event_key(rank, sm, cta))
        elif rank == BEGIN:
            tick = _begin(timing, loop, tables, dram, l2, sms, ctas, totals, scratch, sm, cta, now)
            heap_replace_top(heap_ticks, heap_keys, size, tick, event_key(START, sm, cta))
        elif rank == FETCH:
            k_tile = ctas.k_tile[cta]
            _load_k_tile(timing, loop, tables, dram, l2, sms, ctas, totals, scratch, sm, cta, k_tile, now)
            tick = max(now, ctas.landed[ctas.slot[cta], k_tile & _RING_MASK])
            heap_replace_top(heap_ticks, heap_keys, size, tick, event_key(START, sm, cta))
        elif rank == WRITE:
            tick = _write_tile(timing, loop, tables, dram, l2, sms, totals, sm, cta, now)
            heap_replace_top(heap_ticks, heap_keys, size, tick, event_key(END, sm, cta))
        elif rank == EPILOGUE:
            if ctas.drained[cta] == 0:
                ctas.drained[cta] = now
                sms.in_mainloop[sm] -= 1
            if rows[cta, SLICE] > released[rows[cta, TILE]]:
                waiting[rows[cta, TILE] * rows[cta, SLICES] + rows[cta, SLICE]] = cta
                size = heap_drop_top(heap_ticks, heap_keys, size)
            else:
                ctas.split_wait[cta] = now - ctas.drained[cta]
                tick = _read_partial(timing, loop, tables, dram, l2, sms, totals, scratch, sm, cta, now)
                if tick >= 0:
                    heap_replace_top(heap_ticks, heap_keys, size, tick, event_key(WRITE, sm, cta))
                else:
                    tick = _write_tile(timing, loop, tables, dram, l2, sms, totals, sm, cta, now)
                    heap_replace_top(heap_ticks, heap_keys, size, tick, event_key(END, sm, cta))
        else:
            size = heap_drop_top(heap_ticks, heap_keys, size)
            sms.last_end[sm] = now
            sms.last_split_wait[sm] = ctas.split_wait[cta]
            if rows[cta, SLICES] > 1:
                following = rows[cta, SLICE] + 1
                released[rows[cta, TILE]] = following
                waiter = -1
                if following < rows[cta, SLICES]:
                    waiter = waiting[rows[cta, TILE] * rows[cta, SLICES] + following]
                if waiter >= 0:
                    waiter_sm = ctas.slot[waiter] % timing[_SMS]
                    size = heap_push(heap_ticks, heap_keys, size, now, event_key(EPILOGUE, waiter_sm, waiter))
            if next_cta < count:
                ctas.slot[next_cta] = ctas.slot[cta]
                size = heap_push(heap_ticks, heap_keys, size, now + timing[_CTA_LAUNCH], event_key(BEGIN, sm, next_cta))
                next_cta += 1
    total = 0
    for sm in range(timing[_SMS]):
        total = max(total, sms.last_end[sm])
    for sm in range(timing[_SMS]):
        _close(sms, loop, sm, total)
    return total
