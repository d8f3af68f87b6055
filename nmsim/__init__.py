"""nmsim: what each training GEMM costs under N:M sparsity on a given machine, in cycles and joules, and why.

The public surface is `__all__`; every other module may be imported but promises nothing. Verbs are imported on first
use, so that `import nmsim` and the command line's `--help` stay fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nmsim.errors import InputError, NmsimError
from nmsim.version import MODEL_VERSION, __version__

if TYPE_CHECKING:
    from nmsim.api import load_trace, microbench, simulate, simulate_gemm, simulate_run, write_trace
    from nmsim.arch.load import load_arch

__all__ = [
    "MODEL_VERSION",
    "InputError",
    "NmsimError",
    "__version__",
    "load_arch",
    "load_trace",
    "microbench",
    "simulate",
    "simulate_gemm",
    "simulate_run",
    "write_trace",
]

_HOME = {
    "load_arch": "nmsim.arch.load",
    "load_trace": "nmsim.api",
    "microbench": "nmsim.api",
    "simulate": "nmsim.api",
    "simulate_gemm": "nmsim.api",
    "simulate_run": "nmsim.api",
    "write_trace": "nmsim.api",
}
"""The module of each verb that is imported on first use."""


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nmsim' has no attribute {name!r}")
    verb = getattr(import_module(_HOME[name]), name)
    globals()[name] = verb
    return verb


def __dir__() -> list[str]:
    return sorted(__all__)
