"""Reading the CSV files of published numbers: every cell that is wrong is named by file, line and column."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nmsim.errors import InputError

_WHOLE = re.compile(r"(?!0+$)0*(1?[0-9]{1,9})", re.ASCII)
NEAR = 0.7
"""How alike (difflib's ratio) the name of an unknown column and that of a known one are where it is taken for misspelt."""
DATA = Path(__file__).parent / "data"
"""The shipped rows, thresholds and list of fitted rows."""


@dataclass(frozen=True)
class Line:
    """One line of a CSV file; cells by column name."""

    file: Path
    number: int
    cells: dict[str, str]

    def text(self, column: str, default: str = "") -> str:
        """The cell, or `default` where it is empty or the column is missing."""
        return self.cells.get(column) or default

    def required(self, column: str) -> str:
        """The cell; InputError where it is empty."""
        if not self.text(column):
            raise self.error(column, "is empty", "fill it in")
        return self.cells[column]

    def number_of(self, column: str) -> float | None:
        """The cell as a positive number, None where it is empty."""
        text = self.text(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not 0 < value < float("inf"):
            raise self.error(column, "is not a positive number", "write for example 12.5, or leave it empty")
        return value

    def whole(self, column: str, default: int | None = None) -> int:
        """The cell as a positive whole number; InputError where it is none, or empty without a default."""
        if default is not None and not self.text(column):
            return default
        text = self.required(column)
        if not _WHOLE.fullmatch(text):
            raise self.error(column, "is not a whole number from 1 to 2 billion", "write for example 4096")
        return int(text)

    def error(self, column: str, problem: str, fix: str) -> InputError:
        """The error that names this cell."""
        return InputError(problem, file=self.file, line=self.number, path=column, value=self.cells.get(column), fix=fix)


def read_lines(path: Path, columns: Sequence[str], optional: Sequence[str] | None = None) -> list[Line]:
    """All lines of a CSV file in UTF-8, with or without a byte order mark.

    InputError where it can't be read, lacks one of `columns`, or a line has too many cells; with `optional`, also where the name of
    another column looks like a misspelt one of those.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return list(_lines(path, csv.DictReader(stream), columns, optional))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=path) from None
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", file=path, fix="save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise InputError(f"is not CSV ({error})", file=path) from None


def _lines(path: Path, reader: csv.DictReader[str], columns: Sequence[str], optional: Sequence[str] | None) -> Iterator[Line]:
    names = list(reader.fieldnames or ())
    missing = [column for column in columns if column not in names]
    if missing and len(names) == 1:
        for separator, name in ((";", "semicolons"), ("\t", "tabs")):
            if separator in names[0]:
                fix = "save it with commas, and numbers with a decimal point"
                raise InputError(f"has its cells separated by {name}", file=path, line=1, fix=fix)
    known = [*columns, *(optional or ())]
    for name in names if optional is not None else ():
        near = difflib.get_close_matches(name.strip().lower(), [one for one in known if one not in names], 1, NEAR)
        if name not in known and near:
            raise InputError("is no column of this format", file=path, line=1, path=name, fix=f"did you mean {near[0]}?")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError("is the name of two columns", file=path, line=1, path=twice, fix="leave one out")
    if missing:
        raise InputError(f"lacks the column {missing[0]!r}", file=path, line=1, fix=f"needs {', '.join(columns)}")
    for cells in reader:
        if None in cells or None in cells.values():
            raise InputError("has another number of cells than the first line", file=path, line=reader.line_num)
        yield Line(path, reader.line_num, cells)
