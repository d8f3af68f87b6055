"""`rule`: a plain Python function that compiled code may call too, so that a timing rule is written once.

Without numba the decorator does nothing and every rule still runs, in the simpy engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable[..., object])

try:
    from numba.extending import register_jitable
except ImportError:  # numba is optional at run time: the simpy engine serves then

    def rule(function: Function) -> Function:
        """Leave the function as it is."""
        return function

    NUMBA = False
else:

    def rule(function: Function) -> Function:
        """Let numba compile the function where compiled code calls it; Python still calls it as written."""
        registered: Function = register_jitable(forceinline=True)(function)
        return registered

    NUMBA = True
