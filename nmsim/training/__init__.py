"""Real N:M training runs in PyTorch, and the recorder that turns a training step into a trace.

Three lines around anyone's training step:

    with nmsim.training.record(model) as trace_builder:
        loss = criterion(model(inputs), targets); loss.backward(); optimizer.step()
    trace_builder.write("mine.nmtrace")

This is the only package of nmsim that imports torch, and importing it does not: `record` does.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from nmsim.errors import InputError

if TYPE_CHECKING:
    from nmsim.training.recorder.record import record as record

__all__ = ["record", "require_training_packages"]


def require_training_packages(*modules: str, extra: str = "train") -> None:
    """InputError with the pip command where a package that training needs (torch and the given ones) is not installed."""
    missing = [module for module in ("torch", *modules) if find_spec(module) is None]
    if missing:
        raise InputError(f"training needs {' and '.join(missing)}", fix=f"install with: pip install 'nmsim[{extra}]'")


def __getattr__(name: str) -> Any:
    if name == "record":
        require_training_packages()
        from nmsim.training.recorder.record import record

        return record
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
