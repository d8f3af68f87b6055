"""What a tensor was made from: a parameter, constants, or data.

A weight seldom reaches its product as itself: autocast casts it, a mask multiplies it, a parametrisation computes it. So
every operator hands on where its outputs came from: *data* if any input did (activations, gradients), else the parameter
among its inputs, else *constant* (buffers, masks, positions).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

DATA = ""
"""Origin of activations and gradients, and of every tensor that is not known."""
CONSTANT = "<constant>"
"""Origin of what depends on neither data nor a parameter."""

_MIXING = ("mm", "addmm", "bmm", "baddbmm", "convolution", "embedding")
"""Operators whose result of a parameter is an activation, whatever the other input is."""
_SUMMING = ("sum", "embedding_dense_backward")
"""Operators of a backward that make the gradient of a parameter of any shape."""


class Origins:
    """Origin by storage, so that a view has its base's. Known storages are kept alive: a freed address would be reused."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = dict(model.named_parameters())
        self._shapes = {parameter.shape for parameter in self.parameters.values()}
        self._known: dict[int, tuple[str, torch.UntypedStorage]] = {}
        for buffer in model.buffers():
            self.mark(buffer, CONSTANT)
        for name, parameter in self.parameters.items():
            self.mark(parameter, name)

    def of(self, tensor: Tensor) -> str:
        """A parameter's name, CONSTANT or DATA."""
        known = self._known.get(address(tensor))
        return DATA if known is None else known[0]

    def is_parameter(self, origin: str) -> bool:
        """True for the name of a parameter."""
        return origin in self.parameters

    def mark(self, tensor: Tensor, origin: str) -> None:
        """Sets the origin of a tensor and of all that shares its storage."""
        if origin == DATA:
            self._known.pop(address(tensor), None)
        else:
            self._known[address(tensor)] = (origin, tensor.untyped_storage())

    def hand_on(self, operator: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], backward: bool) -> None:
        """Marks the outputs of an operator by its inputs."""
        origins = {self.of(tensor) for tensor in inputs}
        bases = {address(tensor) for tensor in inputs}
        for output in outputs:
            may_be_gradient = backward and address(output) not in bases
            self.mark(output, self._result(operator, origins, output, may_be_gradient))

    def _result(self, operator: str, origins: set[str], output: Tensor, may_be_gradient: bool) -> str:
        if DATA in origins or operator in _MIXING:
            return CONSTANT if may_be_gradient and self._is_parameter_gradient(operator, output) else DATA
        return self._closest(origins - {CONSTANT}, output)

    def _closest(self, names: Iterable[str], output: Tensor) -> str:
        """The parameter that the output is a form of: the same size if any is, else the largest."""
        ranked = sorted(names, key=lambda name: (self.parameters[name].numel() == output.numel(), self.parameters[name].numel(), name))
        return ranked[-1] if ranked else CONSTANT

    def _is_parameter_gradient(self, operator: str, output: Tensor) -> bool:
        """A result of the backward that does not grow with the batch: it has a parameter's shape, but for axes of 1.

        Vectors (norms, biases) are told by their shape alone. A matrix is one only where the operator sums over samples:
        an activation gradient may have a weight's shape by chance. Products and convolutions are marked by the recorder.
        """
        shape = torch.Size(size for size in output.shape if size != 1)
        return shape in self._shapes and (len(shape) <= 1 or operator in _SUMMING)


def address(tensor: Tensor) -> int:
    """Which storage a tensor lies in: the same for all its views."""
    return int(tensor.untyped_storage()._cdata)
