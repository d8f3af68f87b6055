"""A recorded timeline as plain data: what `nmsim simulate --timeline` hands to the file that Perfetto opens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Track = tuple[str, str]
"""A group (an SM, the L2, DRAM) and a line in it."""


@dataclass(frozen=True)
class Slice:
    """A named piece of a track, in chip ticks from the start of its kernel."""

    name: str
    start_ticks: int
    end_ticks: int
    amounts: Mapping[str, int]


@dataclass(frozen=True)
class Counter:
    """A quantity over time: the mean of each bin of `bin_ticks`, the first of which begins where the record does."""

    name: str
    unit: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class KernelTimeline:
    """The record of one kernel. Slices of a track nest and ascend by start; they lie between `first_ticks` and `end_ticks`."""

    name: str
    facts: Mapping[str, str]
    """What is said of the kernel as a whole: shape, tile, clock ..."""
    total_ticks: int
    """How long the kernel takes, recorded or not."""
    first_ticks: int
    end_ticks: int
    """Where the record ends, and, where that is earlier than asked for, because there was too much: see `is_cut`."""
    is_cut: bool
    bin_ticks: int
    tracks: Mapping[Track, tuple[Slice, ...]]
    counters: tuple[Counter, ...]
