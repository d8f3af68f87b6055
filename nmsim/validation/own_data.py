"""Rows of a user's own file: what is wrong with one is told by line and column, though only the machine can find it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nmsim.arch.machine import Machine
from nmsim.errors import InputError
from nmsim.validation.measured import Context, find_arch
from nmsim.validation.tabular import Line

COLUMN_OF_OPTION = {f"--{column.replace('_', '-')}": column for column in ("dtype", "out_dtype", "l2", "m", "n", "k", "warps")}
"""Cells behind what is refused as an option."""


def suite_of(path: Path) -> str:
    """The suite that a user's file is for, by its first line: instructions are told by `iteration_cycles`; else GEMMs, or no such file."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            return "tensor_core" if "iteration_cycles" in stream.readline() else "gemm"
    except OSError:
        return "gemm"


def machine_of_line(context: Context, line: Line, arch: str, overrides: Sequence[str] = ()) -> Machine:
    """The machine of a row. InputError names the row's cell, unless what is wrong was asked for on the command line."""
    from nmsim.api import load_arch

    try:
        return context.machine(arch, overrides)
    except InputError:
        with told_by_cell(line, "arch"):
            path = find_arch(arch, context.data)
            load_arch(path)
        with told_by_cell(line, "set"):
            load_arch(path, overrides)
        raise


@contextmanager
def told_by_cell(line: Line, column: str | None = None) -> Iterator[None]:
    """An InputError of one row names its line, and the cell behind it (`column` where it is of no option)."""
    try:
        yield
    except InputError as error:
        cell = COLUMN_OF_OPTION.get(error.path or "")
        if cell is not None:
            raise line.error(cell, error.problem, error.fix or "use another value") from None
        raise InputError(str(error), file=line.file, line=line.number, path=column) from None
