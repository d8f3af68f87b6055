"""What can go wrong, as one small tree; the command line maps each branch to an exit code.

NmsimError
├── InputError    bad file, value or argument (exit code 2)
├── CheckFailed   a check the user asked for did not hold (exit code 1)
└── PhysicsError  a conservation law or bound broke inside the simulator: a bug, never the user's fault
"""

from __future__ import annotations

from pathlib import Path


class NmsimError(Exception):
    """Base of every error that nmsim raises on purpose; `str()` is one clear sentence."""

    exit_code = 1


class InputError(NmsimError):
    """Something the user gave is wrong; names the file, line, path, value and fix where known.

    Rendered as `file:line: path: problem, got VALUE; FIX`.
    """

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        path: str | None = None,
        value: object = None,
        fix: str | None = None,
    ) -> None:
        self.problem, self.file, self.line = problem, file, line
        self.path, self.value, self.fix = path, value, fix
        place = "" if file is None else f"{file}:{line}: " if line is not None else f"{file}: "
        where = "" if path is None else f"{path}: "
        got = "" if value is None else f", got {_short(value)}"
        mend = "" if fix is None else f"; {fix}"
        super().__init__(f"{place}{where}{problem}{got}{mend}")


class CheckFailed(NmsimError):
    """A check that was asked for (`arch check`, `trace check`, `validate`) did not hold."""


class PhysicsError(NmsimError):
    """Conservation, a bound or the cycle accounting broke: the simulator is wrong, please report it."""


def _short(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
