"""The options of a timeline, shared by `gemm` and `simulate`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmsim.errors import InputError

if TYPE_CHECKING:
    from nmsim.result.timeline import KernelTimeline
    from nmsim.run.timeline import TimelineWindow

TimelineFile = Annotated[
    Path | None, typer.Option("--timeline", metavar="T.json.gz", help="Also record what SMs, L2 and DRAM do, for ui.perfetto.dev.")
]
WatchedSms = Annotated[str, typer.Option("--sm", metavar="A-B", help="SMs that the timeline shows one by one: 5, 0-3 or 0,2,8-9.")]
Cycles = Annotated[str | None, typer.Option("--cycles", metavar="A:B", help="Cycles that the timeline covers; all without it.")]
DEFAULT_SMS = "0-3"
MOST_SMS = 64


def timeline_window(sms: str, cycles: str | None) -> TimelineWindow:
    """`--sm` and `--cycles` as numbers. InputError for anything else."""
    from nmsim.run.timeline import TimelineWindow

    first, end = _cycles(cycles) if cycles is not None else (0, None)
    return TimelineWindow(_sms(sms), first, end)


def save_timelines(timelines: tuple[KernelTimeline, ...], file: Path) -> None:
    """Write the file, and say on standard error what it holds."""
    from nmsim.report.timeline import write_timeline

    write_timeline(timelines, file)
    cut = [one.name for one in timelines if one.is_cut]
    for name in cut:
        typer.echo(f"{name}: too much to record all of it; ask for fewer --sm or --cycles to see its end", err=True)
    typer.echo(f"the timeline is in {file}; open it at https://ui.perfetto.dev (1 ns there is 1 cycle)", err=True)


def _sms(text: str) -> tuple[int, ...]:
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:-(\d{1,6}))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise InputError("names SMs", path="--sm", value=text, fix="write 5, 0-3 or 0,2,8-9")
        first, last = int(match[1]), int(match[2] or match[1])
        found |= set(range(first, min(last, first + MOST_SMS) + 1))
    if len(found) > MOST_SMS:
        raise InputError(f"a timeline shows at most {MOST_SMS} SMs", path="--sm", value=text, fix="name fewer")
    return tuple(sorted(found))


def _cycles(text: str) -> tuple[int, int | None]:
    match = re.fullmatch(r"\s*(\d{0,15})\s*:\s*(\d{0,15})\s*", text)
    first, end = (int(match[1] or 0), int(match[2]) if match[2] else None) if match else (0, 0)
    if end is not None and end <= first:
        raise InputError("names a span of cycles, the end after the start", path="--cycles", value=text, fix="write 0:20000 or 5000:")
    return first, end
