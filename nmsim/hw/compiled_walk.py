"""How a CTA of the compiled chip level walks along K: the boxes of its next k-tile, asked for and noted in its slot.

Modelled and not modelled: as in `nmsim.hw.chip_events`.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from nmsim.hw.compiled_memory import load_blocks
from nmsim.hw.compiled_state import (
    CTA,
    CTA_BATCH,
    CTA_GROUP,
    END_K,
    LOOP_RING,
    LOOP_TILE_K,
    NEXT_K,
    PART_WORDS,
    SLOT_WORDS,
    WALK_BYTES,
    WALK_FIXED,
    WALK_SINCE,
    WALK_WORDS,
    at,
)
from nmsim.hw.timing import TIMING_INDEX
from nmsim.mapping.plan import M0, M1, N0, N1
from nmsim.rules.box import DIMENSION, block_range, fixed_side, next_box, operand_box, operand_bytes, shares_side
from nmsim.rules.jit import routine, rule
from nmsim.rules.sharing import PARTS
from nmsim.rules.tile import side

_IDEAL = TIMING_INDEX["ideal_memory"]


@rule
def ring_place(loop, slot, k_tile):
    """Where the ring keeps a k-tile in flight."""
    return slot * loop[LOOP_RING] + (k_tile & (loop[LOOP_RING] - 1))


@rule
def load_k_tile(timing, loop, tables, dram, l2, sms, totals, sm, slot, k_tile, now):
    """Ask for all operands of a k-tile, the next one of the CTA; leaves its landing and parts in the ring."""
    rows, operands, _, gather, _ = tables
    place = ring_place(loop, slot, k_tile)
    if timing[_IDEAL]:
        sms.landed[at(place)] = now
        return
    own = slot * SLOT_WORDS
    k0 = sms.slots[at(own + NEXT_K)]
    k1 = min(sms.slots[at(own + END_K)], k0 + loop[LOOP_TILE_K])
    sms.slots[at(own + NEXT_K)] = k1
    landed = -1
    for operand in range(operands.shape[1]):
        t = operands[at(sms.slots[at(own + CTA_GROUP)]), at(operand)]
        row = rows[at(sms.slots[at(own + CTA)])]
        x0, x1, _, _ = side(t[DIMENSION], row[M0], row[M1], row[N0], row[N1])
        walk = (slot * operands.shape[1] + operand) * WALK_WORDS
        batch = sms.slots[at(own + CTA_BATCH)]
        fixed = (sms.walks[at(walk + WALK_FIXED)], sms.walks[at(walk + WALK_FIXED + 1)], sms.walks[at(walk + WALK_SINCE)])
        if k_tile > 0 and shares_side(t, fixed[2], k0, k1):
            box = next_box(t, fixed, k0, k1, batch)
        else:
            box = operand_box(t, x0, x1, k0, k1, batch)
            fixed = fixed_side(t, box, k0)
            sms.walks[at(walk + WALK_FIXED)], sms.walks[at(walk + WALK_FIXED + 1)], sms.walks[at(walk + WALK_SINCE)] = fixed
        if k_tile == 0:
            sms.walks[at(walk + WALK_BYTES)] = operand_bytes(t, x1 - x0, loop[LOOP_TILE_K])
        nbytes = sms.walks[at(walk + WALK_BYTES)]
        if k1 - k0 != loop[LOOP_TILE_K]:
            nbytes = operand_bytes(t, x1 - x0, k1 - k0)
        arrived, parts = load_blocks(timing, dram, l2, sms, totals, sm, now, t, gather, block_range(t, gather, box), nbytes)
        if arrived > landed:
            landed = arrived
            for part in range(PARTS):
                sms.parts[at(place * PART_WORDS + part)] = parts[part]
    sms.landed[at(place)] = landed


@routine
def fill_stages(timing, loop, tables, dram, l2, sms, totals, sm, slot, count, now):
    """Ask for the first `count` k-tiles of a CTA."""
    for k_tile in range(count):
        load_k_tile(timing, loop, tables, dram, l2, sms, totals, sm, slot, k_tile, now)
