"""A progress line on standard error for anything that takes more than a moment; silent where that is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


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


def announce_engine(engine: str | None) -> None:
    """Say in one line on standard error what will take time, or run slower than it could."""
    import typer

    from nmsim.rules.jit import NUMBA

    if engine == "simpy":
        return
    if not NUMBA:
        typer.echo("numba is not installed: the simpy engine serves, with the same answers, slower", err=True)
        return
    from nmsim.hw.chip_compiled import compiled_is_cached

    if not compiled_is_cached():
        typer.echo("compiling the engine (once, about ten seconds) ...", err=True)
