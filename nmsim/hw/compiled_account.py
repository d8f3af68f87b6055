"""The account of each idle tick in the compiled chip level: `charge_*` and `close` of `nmsim.hw.sm` over plain arrays.

Modelled and not modelled: as there.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from nmsim.hw.compiled_state import (
    IN_MAINLOOP,
    LAST_END,
    LAST_SPLIT_WAIT,
    LOOP_DRAIN,
    LOOP_FILL,
    PART_WORDS,
    PIPE_FREE,
    RESERVED,
    SM_WORDS,
    STALLS,
    STARTED,
    TOTAL_UNEXPLAINED,
    at,
)
from nmsim.hw.timing import TIMING_INDEX
from nmsim.rules.jit import routine, rule
from nmsim.rules.sharing import PARTS, charge_exposed
from nmsim.rules.stalls import Stall

_CTA_LAUNCH = TIMING_INDEX["cta_launch"]
_CTA_LAUNCH_STALL, _FILL_DRAIN, _SPLIT_K_WAIT = int(Stall.CTA_LAUNCH), int(Stall.FILL_DRAIN), int(Stall.SPLIT_K_WAIT)
_EPILOGUE_STALL, _IMBALANCE, _NOC_QUEUE = int(Stall.EPILOGUE), int(Stall.IMBALANCE), int(Stall.NOC_QUEUE)


@rule
def charge_wait(sms, totals, sm, exposed, landing):
    """Charge an exposed wait to the parts of the load that caused it, which lie at `landing` in the ring."""
    if exposed <= 0:
        return
    parts = sms.parts[landing * PART_WORDS : landing * PART_WORDS + PARTS]
    charged = sms.stalls[sm * STALLS + _NOC_QUEUE : sm * STALLS + _NOC_QUEUE + PARTS]
    totals[TOTAL_UNEXPLAINED] += charge_exposed(exposed, parts, charged)


@rule
def _charge_epilogue(sms, loop, sm, ticks):
    waited = min(ticks, sms.sms[at(sm * SM_WORDS + LAST_SPLIT_WAIT)])
    drained = min(ticks - waited, loop[LOOP_DRAIN])
    sms.stalls[at(sm * STALLS + _SPLIT_K_WAIT)] += waited
    sms.stalls[at(sm * STALLS + _FILL_DRAIN)] += drained
    sms.stalls[at(sm * STALLS + _EPILOGUE_STALL)] += ticks - waited - drained


@routine
def charge_first_gap(timing, loop, sms, totals, sm, start, began, landing):
    """Account for the pipe's idle time before a CTA's first k-tile, which starts at `start`; it began at `began`."""
    pipe_free = sms.sms[at(sm * SM_WORDS + PIPE_FREE)]
    gap = start - pipe_free
    if gap <= 0:
        return
    before = min(gap, max(0, began - pipe_free))
    launch = min(before, timing[_CTA_LAUNCH])
    sms.stalls[at(sm * STALLS + _CTA_LAUNCH_STALL)] += launch
    _charge_epilogue(sms, loop, sm, before - launch)
    fill = min(gap - before, loop[LOOP_FILL])
    sms.stalls[at(sm * STALLS + _FILL_DRAIN)] += fill
    charge_wait(sms, totals, sm, gap - before - fill, landing)


@rule
def change_level(sms, sm, levels, change):
    """One CTA more or less in its mainloop: what was reserved until now is put down to the present number of them."""
    own = sm * SM_WORDS
    level = sms.sms[at(own + IN_MAINLOOP)]
    if level > 0:
        place = sm * levels + level - 1
        sms.reserved_ticks[at(place)] += sms.sms[at(own + RESERVED)]
        sms.k_tiles[at(place)] += sms.sms[at(own + STARTED)]
        sms.sms[at(own + RESERVED)] = sms.sms[at(own + STARTED)] = 0
    sms.sms[at(own + IN_MAINLOOP)] = level + change


@routine
def close(loop, sms, count):
    """Account for the time from each SM's last k-tile to the end of the kernel; returns that end."""
    total = 0
    for sm in range(count):
        total = max(total, sms.sms[at(sm * SM_WORDS + LAST_END)])
    for sm in range(count):
        last_end, pipe_free = sms.sms[at(sm * SM_WORDS + LAST_END)], sms.sms[at(sm * SM_WORDS + PIPE_FREE)]
        if last_end > pipe_free:
            _charge_epilogue(sms, loop, sm, last_end - pipe_free)
        sms.stalls[at(sm * STALLS + _IMBALANCE)] += total - max(last_end, pipe_free)
    return total
