"""The chip level compiled by numba: the default engine. Same semantics as `nmsim.hw.chip_events`, to the tick.

Modelled and not modelled: as in `chip_events`. Compiled code is kept on disk in a folder named by the hash of every source
file it can call.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nmsim.errors import InputError
from nmsim.hw.compiled_loop import GIVEN_UP, chip_loop
from nmsim.hw.compiled_queue import LAST_TICK
from nmsim.hw.compiled_state import (
    BUS_FREE,
    COUNT_ACCESSES,
    COUNT_ACTIVATES,
    COUNT_FETCHED,
    COUNT_MISSES,
    COUNT_READ,
    COUNT_WRITTEN,
    COUNT_WRITTEN_BACK,
    LOOKUPS_EVER,
    STALLS,
    STEADY_SKIPPED,
    TOTAL_LONGEST,
    TOTAL_READ,
    TOTAL_UNEXPLAINED,
    TOTAL_WRITTEN,
    L2State,
    filled_l2,
    held_in,
    new_dram,
    new_l2,
    new_sms,
    new_steady,
    rewound,
)
from nmsim.hw.contents import Contents, Int64, bring_forward
from nmsim.hw.leftover import dirty_strangers
from nmsim.hw.mainloop import MainloopTicks
from nmsim.hw.object_code import Compiled, compiled_function, object_file
from nmsim.hw.outcome import ChipOutcome
from nmsim.hw.steady_period import steady_period
from nmsim.hw.timing import ChipTiming
from nmsim.keys import source_key
from nmsim.mapping.plan import SLICES, TILE, KernelPlan
from nmsim.units import RATE_BITS

OBJECT_FOLDER = "compiled"
"""Where in the cache folder compiled code is kept."""
ENGINE_PACKAGES = ("arch", "engine", "hw", "mapping", "rules", "sparsity", "units")
"""Packages and modules whose sources decide what compiled code does and what the SM level answers."""


_SOURCES = source_key(*ENGINE_PACKAGES)
"""Taken on import: what runs must never be filed under sources that were edited since."""


def cache_folder() -> Path:
    """Where nmsim keeps what it can compute again: $NMSIM_CACHE_DIR, else the user's cache folder."""
    root = os.environ.get("NMSIM_CACHE_DIR")
    base = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "nmsim"
    return base / _SOURCES[:16]


def compiled_is_cached() -> bool:
    """True where the compiled loop is already on disk, so that the first run does not pay for compiling it."""
    return object_file(cache_folder() / OBJECT_FOLDER, chip_loop.__name__).is_file()


@cache
def _compiled_loop() -> Compiled:
    """The loop, compiled or linked on its first call: that is when its argument types are known."""
    made: list[Compiled] = []

    def call(*arguments: Any) -> int:
        if not made:
            made.append(compiled_function(chip_loop, arguments, cache_folder() / OBJECT_FOLDER))
        return made[0](*arguments)

    return call


class CompiledChip:
    """One kernel on one machine; `run` may be repeated to let the L2 keep what the last run left."""

    def __init__(
        self, timing: ChipTiming, plan: KernelPlan, mainloop: MainloopTicks, *, skip: bool = True, held: Sequence[Int64] | None = None
    ) -> None:
        """`skip`: leap over steady states (`nmsim.hw.compiled_steady`), which changes nothing but the time it takes.

        `held`: what the L2 holds of `plan.tensors` at first (`nmsim.hw.contents`); strangers without it.
        """
        self._timing, self._plan, self._mainloop = timing, plan, mainloop
        self._skip = skip
        self.skipped_k_tiles = 0
        """k-tiles of the last run that were leapt over."""
        self._l2: L2State = (
            new_l2(timing, plan.tensors, plan.blocks, dirty_strangers(timing, plan))
            if held is None
            else filled_l2(timing, plan.tensors, plan.blocks, held)
        )

    def held(self) -> tuple[Int64, ...]:
        """What the L2 holds by now."""
        return held_in(self._l2)

    def run(self) -> ChipOutcome:
        """Run every CTA to its end, the L2 as the last run left it (at first it holds strangers only)."""
        outcome = self.run_below(LAST_TICK)
        if outcome is None:
            raise InputError(
                f"{self._plan.name} takes more than {LAST_TICK:,} ticks, which the compiled engine can't count", fix="use the simpy engine"
            )
        return outcome

    def run_below(self, limit: int) -> ChipOutcome | None:
        """The same where it takes less than `limit` ticks; None as soon as it is certain that it does not, and no further run then."""
        plan, timing, mainloop = self._plan, self._timing, self._mainloop
        lookahead = plan.mainloop.lookahead
        ring = 1 << lookahead.bit_length()
        skip = self._skip and lookahead > 0
        alone = skip and timing.ideal_memory and min(mainloop.period) >= 1 << RATE_BITS
        period = steady_period(timing, plan) if skip and not timing.ideal_memory else 0
        phases = (lookahead, mainloop.fill, mainloop.drain, mainloop.exchange)
        own = (*phases, plan.strip_rows, plan.mainloop.cta_tile[2], plan.occupancy, ring)
        numbers = (*own, min(limit, LAST_TICK), int(alone), max(ring, period) if period else 0, plan.k_tiles)
        tables = (
            np.column_stack((plan.ctas, plan.k_tiles_per_cta)),
            plan.operands,
            plan.outputs,
            plan.gather,
            plan.accumulate,
        )
        earlier_look_ups = int(self._l2.scalars[LOOKUPS_EVER])
        dram, l2, levels = new_dram(timing, plan.tensors), self._l2, len(mainloop.period)
        sms = new_sms(timing.sms, plan.occupancy, plan.operands.shape[1], levels, ring)
        totals = np.zeros(4, dtype=np.int64)
        steady = new_steady(l2, sms, totals)
        tiles = int((plan.ctas[:, TILE]).max(initial=0)) + 1
        slices = int(plan.ctas[:, SLICES].max(initial=1))
        ticks = _compiled_loop()(
            timing.as_array(),
            np.array(numbers, dtype=np.int64),
            tables,
            np.array(mainloop.period, dtype=np.int64),
            dram,
            l2,
            sms,
            np.zeros(tiles, dtype=np.int64),
            np.full(tiles * slices, -1, dtype=np.int64),
            totals,
            steady,
        )
        self.skipped_k_tiles = int(steady.words[STEADY_SKIPPED])
        if ticks == GIVEN_UP:
            return None
        self._l2 = rewound(l2)
        return ChipOutcome(
            ticks=int(ticks),
            reserved_ticks=sms.reserved_ticks.reshape(timing.sms, levels),
            k_tiles=sms.k_tiles.reshape(timing.sms, levels),
            stalls=sms.stalls.reshape(timing.sms, STALLS),
            unexplained=int(totals[TOTAL_UNEXPLAINED]),
            l2_read_bytes=int(totals[TOTAL_READ]),
            l2_write_bytes=int(totals[TOTAL_WRITTEN]),
            dram_read_bytes=int(dram.counts[COUNT_READ]),
            dram_write_bytes=int(dram.counts[COUNT_WRITTEN]),
            dram_activates=int(dram.counts[COUNT_ACTIVATES]),
            dram_accesses=int(dram.counts[COUNT_ACCESSES]),
            block_lookups=int(l2.scalars[LOOKUPS_EVER]) - earlier_look_ups,
            block_misses=int(l2.counts[COUNT_MISSES]),
            fetched_bytes=int(l2.counts[COUNT_FETCHED]),
            written_back_bytes=int(l2.counts[COUNT_WRITTEN_BACK]),
            longest_cta=int(totals[TOTAL_LONGEST]),
            drained=int(dram.channels[BUS_FREE : BUS_FREE + timing.channels].max()),
        )


def run_compiled(timing: ChipTiming, plan: KernelPlan, mainloop: MainloopTicks, *, warm: bool = False, skip: bool = True) -> ChipOutcome:
    """Run one kernel; `warm` starts from the L2 contents that one untimed run of the same kernel leaves; `skip` as in CompiledChip."""
    chip = CompiledChip(timing, plan, mainloop, skip=skip)
    if warm:
        chip.run()
    return chip.run()


def run_compiled_after(
    timing: ChipTiming, plan: KernelPlan, mainloop: MainloopTicks, names: Sequence[Hashable], before: Contents | None
) -> tuple[ChipOutcome, Contents]:
    """Run one kernel on what the kernels before it left in the L2 (None: cold), and say what it leaves; `names` are of `plan.tensors`."""
    if before is None:
        chip, start = CompiledChip(timing, plan, mainloop), Contents(tuple(names), plan.tensors, ())
    else:
        extended, start = bring_forward(plan, names, before)
        chip = CompiledChip(timing, extended, mainloop, held=start.held)
    outcome = chip.run()
    return outcome, replace(start, held=chip.held())


def run_compiled_below(
    timing: ChipTiming, plan: KernelPlan, mainloop: MainloopTicks, limit: int, *, warm: bool = False
) -> ChipOutcome | None:
    """`run_compiled` where it takes less than `limit` ticks, else None, and that as soon as it is certain."""
    chip = CompiledChip(timing, plan, mainloop)
    if warm:
        chip.run()
    return chip.run_below(limit)
