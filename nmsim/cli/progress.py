"""A progress line on standard error for anything that takes more than a moment; silent where that is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nmsim.sweep.run import Standing


@contextmanager
def simulation_progress() -> Iterator[Callable[[int, int, str], None]]:
    """Yields a callback (done, of, what)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("simulating"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[what]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("simulating", total=None, what="")

        def advance(done: int, of: int, what: str) -> None:
            progress.update(task, completed=done, total=of, what=what)

        yield advance


LINE_EVERY_S = 30.0
"""Seconds between lines of a sweep's progress where there is no terminal."""


@contextmanager
def sweep_progress() -> Iterator[Callable[[Standing], None]]:
    """Yields a callback: points done, rate, time left and the best so far; a line now and then where there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    start = last = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def advance(standing: Standing) -> None:
            nonlocal last
            text = sweep_line(standing, time.monotonic() - start)
            progress.update(task, completed=standing.done, total=standing.points, description=text)
            if not console.is_terminal and time.monotonic() - last >= LINE_EVERY_S:
                last = time.monotonic()
                console.print(f"{standing.done}/{standing.points} {text}", markup=False, highlight=False, soft_wrap=True)

        yield advance


def sweep_line(standing: Standing, elapsed_s: float) -> str:
    """Rate, time left, failures and the best point, after so many seconds."""
    parts = []
    if standing.simulated and elapsed_s > 0:
        rate = standing.simulated / elapsed_s
        left_s = (standing.points - standing.done) / rate
        parts.append(f"{rate:.1f} points/s, {clock_text(left_s)} left")
    if standing.failed:
        parts.append(f"{standing.failed} failed")
    if standing.best is not None:
        place = " ".join(str(standing.best[axis]) for axis in ("workload", "recipe", "pattern", "overrides") if standing.best[axis])
        parts.append(f"best {standing.best['speedup_vs_dense']:.2f}x: {place}")
    return "; ".join(parts)


def clock_text(seconds: float) -> str:
    """`1:02:03`, `2:03` for times under an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def announce_engine(engine: str | None) -> None:
    """Say in one line on standard error what takes time when it begins, or will run slower than it could."""
    import typer

    from nmsim.rules.jit import NUMBA

    if engine == "simpy":
        return
    if not NUMBA:
        typer.echo("numba is not installed: the simpy engine serves, with the same answers, slower", err=True)
        return
    from nmsim.hw.object_code import before_compiling

    before_compiling[:] = [lambda: typer.echo("compiling the engine (once, about twenty seconds) ...", err=True)]
