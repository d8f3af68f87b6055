"""A case as plain named integers, for the time-stepped chip, which imports nothing of nmsim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from nmsim.mapping import plan as columns
from nmsim.rules import box
from tests.hw.chip_cases import Case
from tests.hw.naive_chip import PlainKernel

DESCRIPTOR_FIELDS = (
    "KIND", "FIRST_BLOCK", "ADDRESS", "ROW_COUNT", "PITCH", "ROW_SHIFT", "WIDTH_SHIFT", "BLOCK_COLUMNS", "BITS", "KEEP_N", "KEEP_M",
    "ROWS_PER_BATCH", "BYTES_PER_BATCH", "ROW_OFFSET", "BYTE_OFFSET", "GATHER_START", "CHANNELS", "TAPS_W", "OUT_W", "OUT_PIXELS", "IN_W",
    "IN_PIXELS", "STRIDE_H", "STRIDE_W", "PAD_H", "PAD_W", "DILATION_H", "DILATION_W", "TENSOR", "DIMENSION",
    "SHARED_BY",
)  # fmt: skip
CTA_COLUMNS = ("GROUP", "M0", "M1", "N0", "N1", "K0", "K1", "BATCH", "TILE", "SLICE", "SLICES")


def named(row: NDArray[np.int64], module: object, names: Sequence[str]) -> dict[str, int]:
    """A row of integers by the lower-case names of its fields."""
    return {name.lower(): int(row[getattr(module, name)]) for name in names}


def plain_machine(case: Case) -> dict[str, int]:
    """The numbers of the machine."""
    return asdict(case.timing)


def plain_kernel(case: Case) -> PlainKernel:
    """The launch."""
    plan, mainloop = case.plan, case.mainloop
    return PlainKernel(
        ctas=[named(row, columns, CTA_COLUMNS) for row in plan.ctas],
        operands=[[named(t, box, DESCRIPTOR_FIELDS) for t in group] for group in plan.operands],
        outputs=[named(t, box, DESCRIPTOR_FIELDS) for t in plan.outputs],
        gather=plan.gather.tolist(),
        accumulate=plan.accumulate.tolist(),
        tile=plan.mainloop.cta_tile,
        lookahead=plan.mainloop.lookahead,
        occupancy=plan.occupancy,
        period=mainloop.period,
        fill=mainloop.fill,
        drain=mainloop.drain,
        exchange=mainloop.exchange,
        strip_rows=plan.strip_rows,
    )
