"""Which rows a constant was fitted to: those prove nothing, so no error summary counts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nmsim.validation.measured import Comparison
from nmsim.validation.tabular import DATA, read_lines

FITTED_ROWS = DATA / "fitted_rows.csv"


@dataclass(frozen=True)
class FittedRow:
    """A row and the constant that was chosen by looking at it."""

    row: str
    """A row of some data file, all quantities of it, or one: the row's name, a blank and the quantity."""
    arch: str
    """The architecture file that the constant is in."""
    constant: str
    """Its dotted name there, or `*` and a file where it is in the code."""
    publication: str
    """The words by which the constant's source text names the row's publication."""
    how: str


def read_fitted_rows(path: Path = FITTED_ROWS) -> tuple[FittedRow, ...]:
    """The committed list."""
    columns = ("row", "arch", "constant", "publication", "how")
    return tuple(FittedRow(*(line.required(column) for column in columns)) for line in read_lines(path, columns))


def constants_fitted_to(comparison: Comparison, rows: Sequence[FittedRow]) -> tuple[str, ...]:
    """The constants that saw this comparison's row, none for a prediction."""
    return tuple(dict.fromkeys(fitted.constant for fitted in rows if fitted.row in (comparison.row, comparison.id)))
