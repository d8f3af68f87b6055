"""Which module is running: the path of the innermost one whose forward is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

ROOT = "model"
"""Path of what runs in the model itself, outside any named module."""


class ModulePath:
    """Follows the forward of `model` with hooks while it is open; the backward is matched to it by autograd's own numbers."""

    def __init__(self, model: nn.Module, on_inputs: Callable[[list[Tensor]], None]) -> None:
        self._model, self._on_inputs = model, on_inputs
        self._open: list[tuple[str, bool]] = []
        self._handles: list[Any] = []

    @property
    def innermost(self) -> str:
        """Path of the innermost open module, or `ROOT`."""
        return self._open[-1][0] if self._open else ROOT

    @property
    def is_open(self) -> bool:
        """True while any module's forward runs."""
        return bool(self._open)

    @property
    def is_recomputing(self) -> bool:
        """True while a forward runs that a backward began (activation checkpointing)."""
        return any(in_backward for _, in_backward in self._open)

    def __enter__(self) -> ModulePath:
        for name, module in self._model.named_modules():
            self._handles.append(module.register_forward_pre_hook(self._opener(name or ROOT), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._close, always_call=True))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._open.clear()

    def _opener(self, path: str) -> Callable[..., None]:
        def opened(_: nn.Module, args: Any, kwargs: Any) -> None:
            if not self._open:
                self._on_inputs([leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)])
            self._open.append((path, backward_node() is not None))

        return opened

    def _close(self, *_: object) -> None:
        if self._open:
            self._open.pop()


def backward_node() -> int | None:
    """Number of the autograd node whose backward runs now, which its forward gave it; None outside a backward."""
    node = torch._C._current_autograd_node()
    return None if node is None else int(node._sequence_nr())
