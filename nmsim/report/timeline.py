"""Timelines as a Chrome trace that Perfetto and chrome://tracing open.

A nanosecond of the file is a core cycle, whatever the clock, so that lengths read as cycles; kernels follow one another. Slices
begin and end on whole cycles (both rounded down, which keeps neighbours apart and children inside), their exact length is
their argument `ticks` (256 to a cycle). Equal timelines give equal bytes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nmsim.errors import InputError
from nmsim.result.timeline import KernelTimeline, Track
from nmsim.units import TICKS_PER_CYCLE

Event = dict[str, Any]
KERNELS: Track = ("kernels", "kernel")
ENDINGS = (".json.gz", ".json")


def check_timeline_file(file: Path) -> None:
    """InputError, before anything is simulated, for a file whose name says that it is something else."""
    if not file.name.endswith(ENDINGS):
        raise InputError("a timeline is a Chrome trace", path="--timeline", value=str(file), fix="name it NAME.json.gz")
    if not file.parent.is_dir():
        raise InputError("there is no such folder", path="--timeline", value=str(file.parent), fix="make it first")


def write_timeline(timelines: Sequence[KernelTimeline], file: Path) -> None:
    """Write `file` (.json.gz, or .json uncompressed). InputError where it cannot be written."""
    check_timeline_file(file)
    text = json.dumps(chrome_trace(timelines), separators=(",", ":"))
    data = gzip.compress(text.encode(), mtime=0) if file.name.endswith(".gz") else text.encode()
    try:
        file.write_bytes(data)
    except OSError as error:
        raise InputError(f"cannot write the timeline ({error.strerror or error})", path="--timeline", value=str(file)) from None


def chrome_trace(timelines: Sequence[KernelTimeline]) -> Event:
    """The whole file as plain data."""
    tracks: dict[Track, None] = dict.fromkeys([KERNELS])
    for timeline in timelines:
        tracks |= dict.fromkeys(timeline.tracks)
    numbers = _numbers(tracks)
    events: list[Event] = list(_names(numbers))
    begin_cycle = 0
    for timeline in timelines:
        events += _kernel_events(timeline, numbers, begin_cycle)
        begin_cycle += -(-timeline.total_ticks // TICKS_PER_CYCLE)
    return {
        "displayTimeUnit": "ns",
        "otherData": {"unit": "1 ns is 1 core cycle", "kernels": [{"name": one.name, **one.facts} for one in timelines]},
        "traceEvents": events,
    }


def _numbers(tracks: Iterable[Track]) -> dict[Track, tuple[int, int]]:
    """(process, thread) of each track, counted from 1 in order of appearance."""
    groups: dict[str, list[str]] = {}
    for group, name in tracks:
        groups.setdefault(group, []).append(name)
    return {
        (group, name): (process, thread) for process, (group, names) in enumerate(groups.items(), 1) for thread, name in enumerate(names, 1)
    }


def _names(numbers: dict[Track, tuple[int, int]]) -> Iterator[Event]:
    for (group, name), (process, thread) in numbers.items():
        if thread == 1:
            yield {"ph": "M", "name": "process_name", "pid": process, "args": {"name": group}}
            yield {"ph": "M", "name": "process_sort_index", "pid": process, "args": {"sort_index": process}}
        yield {"ph": "M", "name": "thread_name", "pid": process, "tid": thread, "args": {"name": name}}
        yield {"ph": "M", "name": "thread_sort_index", "pid": process, "tid": thread, "args": {"sort_index": thread}}


def _kernel_events(timeline: KernelTimeline, numbers: dict[Track, tuple[int, int]], begin_cycle: int) -> Iterator[Event]:
    process, thread = numbers[KERNELS]
    first, end = timeline.first_ticks // TICKS_PER_CYCLE, timeline.end_ticks // TICKS_PER_CYCLE
    facts = dict(timeline.facts)
    if timeline.is_cut:
        facts["cut"] = f"recorded up to cycle {end}: there were more slices than a timeline holds; ask for fewer --sm or --cycles"
    yield _complete(timeline.name, process, thread, begin_cycle + first, end - first, facts)
    for track, slices in timeline.tracks.items():
        process, thread = numbers[track]
        for one in slices:
            start, stop = one.start_ticks // TICKS_PER_CYCLE, one.end_ticks // TICKS_PER_CYCLE
            arguments = {"ticks": one.end_ticks - one.start_ticks, **one.amounts}
            yield _complete(one.name, process, thread, begin_cycle + start, stop - start, arguments)
    for counter in timeline.counters:
        for number, value in enumerate(counter.values):
            cycle = (timeline.first_ticks + number * timeline.bin_ticks) // TICKS_PER_CYCLE
            if cycle < end:
                yield _counted(counter.name, counter.unit, begin_cycle + cycle, value)
        yield _counted(counter.name, counter.unit, begin_cycle + end, 0.0)


def _complete(name: str, process: int, thread: int, cycle: int, cycles: int, arguments: Event) -> Event:
    return {"ph": "X", "name": name, "pid": process, "tid": thread, "ts": cycle / 1000, "dur": cycles / 1000, "args": arguments}


def _counted(name: str, unit: str, cycle: int, value: float) -> Event:
    return {"ph": "C", "name": f"{name} ({unit})", "pid": 1, "ts": cycle / 1000, "args": {unit: round(value, 3)}}
