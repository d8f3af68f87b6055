"""`rule`: a plain Python function that compiled code may call too, so that a timing rule is written once.

Rules are registered with numba only when something is compiled, so that a run of compiled code that is already on disk
does not import it. Without numba every rule still runs, in the simpy engine.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., object])

NUMBA = find_spec("numba") is not None
"""Whether the compiled engine can serve."""

_waiting: list[tuple[Callable[..., object], bool]] = []
"""Functions, and whether they are inlined wherever they are called."""


def rule(function: Function) -> Function:
    """Let compiled code call the function, inlined there; Python still calls it as written."""
    _waiting.append((function, True))
    return function


def routine(function: Function) -> Function:
    """Let compiled code call the function, compiled once: for what is long or rare, so that what is neither stays small."""
    _waiting.append((function, False))
    return function


def register_rules() -> None:
    """Tell numba of every rule imported so far: once before anything that calls rules is compiled."""
    from numba import extending

    register: Any = extending.register_jitable
    while _waiting:
        function, inlined = _waiting.pop()
        register(forceinline=inlined)(function)
