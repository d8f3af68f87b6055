"""A machine with nothing in the way: every latency zero, every server infinitely fast. A test puts in what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nmsim.arch.load import load_arch
from nmsim.arch.spec import GpuSpec
from nmsim.hw.timing import ChipTiming
from nmsim.mapping.layout import Layout
from nmsim.mapping.problem import Tensor, View
from nmsim.rules import box
from nmsim.rules.dram import reciprocal
from nmsim.units import rate_of

TICK_PER_BYTE = rate_of(1)

FREE = ChipTiming(
    sms=1,
    cta_launch=0,
    port_rate=0,
    write_port_rate=0,
    partition_mask=0,
    l2_rate=0,
    l2_near=0,
    l2_far=0,
    handover=0,
    l2_capacity=1 << 40,
    l2_copies=0,
    channels=1,
    per_channel=reciprocal(1),
    interleave_shift=8,
    row_shift=2,
    bank_mask=3,
    bus_rate=0,
    controller=0,
    column_access=0,
    activate=0,
    precharge=0,
    row_active=0,
    turnaround=0,
    write_batch=1 << 40,
    refresh_interval=1 << 40,
    refresh=0,
    ideal_memory=0,
)


def machine(**numbers: int) -> ChipTiming:
    """The free machine with the given numbers (ticks, bytes, counts, fixed-point rates)."""
    if "channels" in numbers:
        numbers["per_channel"] = reciprocal(numbers["channels"])
    return replace(FREE, **numbers)


def stored(rows: int, pitch: int, *, block_bytes: int = 1024, interleave_bytes: int = 256) -> tuple[list[int], NDArray[np.int64]]:
    """(view of a tensor by rows and bytes, table of tensors): one tensor, its blocks of `block_bytes` numbered from 0."""
    layout = Layout((Tensor("T", rows, pitch),), block_bytes, interleave_bytes)
    return [int(value) for value in layout.view(View("T", box.ROWS, 0, 8))], layout.tensors


def load_gpu(path: Path, overrides: Sequence[str] = ()) -> GpuSpec:
    """A GPU-like machine from its file."""
    spec = load_arch(path, overrides)
    assert isinstance(spec, GpuSpec)
    return spec
