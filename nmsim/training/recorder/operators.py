"""The operators of a step that are no GEMM, as traffic: what each class of them reads, writes and computes.

A class is an operator with a phase and a size, so its bytes are exact. Modelled: each distinct input read once, each output
written once (in-place operators write what they change), one operation for each element of the larger side. Not modelled:
fusion, caching between operators, and bytes that an operator reads twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from nmsim.training.recorder.origins import address
from nmsim.workload.trace import Operator, OperatorPhase

_WITHOUT_TRAFFIC = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_local_scalar_dense", "scalar_tensor")
"""They allocate, or move a scalar."""
_INITIALISERS = ("zeros", "zeros_like", "ones", "ones_like")
"""In an optimiser they make its state, once in a run and not in every step."""
_READ_ONLY_IN_FACT = {"_fused_adam_": 1, "_fused_adamw_": 1, "_fused_sgd_": 1}
"""Argument (the gradients) that the schema says is written, and that is written only under a gradient scaler."""
_READS_AS_MUCH_AS_IT_WRITES = ("embedding", "index", "gather", "index_select")
"""They read the rows that they take, not the whole table."""


class OperatorTally:
    """Counts operators by (name, phase, bytes read, bytes written, operations, scales with batch)."""

    def __init__(self) -> None:
        self._classes: Counter[tuple[str, OperatorPhase, int, int, int, bool]] = Counter()

    def add(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Sequence[Tensor], phase: OperatorPhase, scales: bool
    ) -> None:
        """Adds one launch; views, allocations and profiler marks move nothing and are left out."""
        namespace, _, name = func._schema.name.partition("::")
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if namespace == "profiler" or name in _WITHOUT_TRAFFIC or (phase == "optimizer" and name in _INITIALISERS):
            return
        read_from = {address(tensor) for tensor in inputs}
        written = _changed(func, name, args, kwargs) + [output for output in outputs if address(output) not in read_from]
        if not written:
            return
        bytes_written = sum(map(_bytes, written))
        bytes_read = sum({_place(tensor): _bytes(tensor) for tensor in inputs}.values())
        if name in _READS_AS_MUCH_AS_IT_WRITES:
            bytes_read = bytes_written + sum(_bytes(tensor) for tensor in inputs[1:])
        flops = max(sum(tensor.numel() for tensor in inputs), sum(tensor.numel() for tensor in written))
        self._classes[name, phase, bytes_read, bytes_written, flops, scales] += 1

    def operators(self) -> tuple[Operator, ...]:
        """The classes in order of their first launch."""
        seen: Counter[tuple[str, str]] = Counter()
        found = []
        for (name, phase, bytes_read, bytes_written, flops, scales), count in self._classes.items():
            number = seen[phase, name]
            seen[phase, name] += 1
            found.append(Operator(f"{phase}:{name}#{number}", name, phase, bytes_read, bytes_written, flops, count, scales))
        return tuple(found)


def _changed(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The arguments that an in-place operator changes."""
    changed: list[Tensor] = []
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write and _READ_ONLY_IN_FACT.get(name) != index:
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            changed += [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
    return changed


def _bytes(tensor: Tensor) -> int:
    """Bytes of the elements, at most those of the storage: an expanded tensor is read once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _place(tensor: Tensor) -> tuple[int, int, int]:
    return address(tensor), int(tensor.storage_offset()), tensor.numel()
