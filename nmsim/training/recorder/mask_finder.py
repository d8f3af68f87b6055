"""Where a training library keeps the mask of a weight, and the last resort: the zeros of what was really multiplied.

Order: the caller's argument; a parametrisation's `mask` (torch.ao.pruning); a `*_mask` buffer (torch.nn.utils.prune, apex's
`__weight_mma_mask`, nmsim's own layers); zeros. A stored mask counts only if the operand is zero wherever it says so: a
recipe that multiplies by the dense weight in the backward has no mask there, whatever its buffers hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nmsim.errors import InputError
from nmsim.training.recorder.convolutions import stored_filters
from nmsim.workload.gemm import Phase


class MaskFinder:
    """Finds masks of the weights of `model`; `explicit` maps a parameter's name or a module's path to a mask of its shape."""

    def __init__(self, model: nn.Module, explicit: Mapping[str, Any]) -> None:
        self._model = model
        self._explicit = {name: torch.as_tensor(mask).bool() for name, mask in explicit.items()}

    def find(self, parameter: str, phase: Phase, operand: Tensor, convolution: bool) -> Tensor:
        """Bool mask of a weight operand as stored ([O, I], [I, O] or [O, R, S, C]); all true where nothing is pruned.

        InputError where the caller's mask contradicts the weight that the forward used.
        """
        nonzero = operand != 0
        given = self._given(parameter)
        if given is not None:
            stored = _as_stored(given, convolution)
            if stored.shape != operand.shape:
                raise InputError(f"the mask given for {parameter} has another shape than its weight", value=list(given.shape))
            if not (nonzero & ~stored).any():
                return stored
            if phase == "forward":
                raise InputError(f"the mask given for {parameter} is not the one that the forward used", fix="give the mask of this step")
        for candidate in self._kept(parameter, phase):
            stored = _as_stored(candidate, convolution)
            if stored.shape == operand.shape and not (nonzero & ~stored).any():
                return stored
        return nonzero

    def _given(self, parameter: str) -> Tensor | None:
        path = weight_path(parameter)
        for name in (parameter, path, path.rpartition(".")[0]):
            if name in self._explicit:
                return self._explicit[name]
        return None

    def _kept(self, parameter: str, phase: Phase) -> list[Tensor]:
        """Masks that the owner of a weight holds, the likeliest first."""
        owner, _, leaf = weight_path(parameter).rpartition(".")
        module = self._model.get_submodule(owner)
        found: list[Any] = []
        if "parametrizations" in module._modules:
            chain = getattr(module.parametrizations, leaf, ())
            found += [getattr(one, "mask", None) for one in chain]
        if phase == "backward_data":
            found.append(getattr(module, f"{leaf}_backward_mask", None))
        found += [getattr(module, name, None) for name in (f"{leaf}_mask", f"{leaf}_mma_mask", f"__{leaf}_mma_mask")]
        return [mask.detach().bool() for mask in found if isinstance(mask, Tensor)]


def weight_path(parameter: str) -> str:
    """Path of the weight that a parameter stands for: `fc.weight` for `fc.weight_orig` and `fc.parametrizations.weight.original`."""
    owner, marker, rest = parameter.rpartition("parametrizations.")
    if marker:
        return owner + rest.removesuffix(".original").removesuffix(".original0")
    return parameter.removesuffix("_orig")


def _as_stored(mask: Tensor, convolution: bool) -> Tensor:
    return stored_filters(mask) if convolution else mask
