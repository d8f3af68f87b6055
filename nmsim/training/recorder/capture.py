"""Sees every operator of a training step as it is dispatched, forward and backward, and sorts it: GEMM, convolution, other.

Modelled: mm, addmm, bmm, baddbmm and convolutions (each the GEMMs that it is), everything else as traffic, matrix-vector
products too. Attention must run as its math products (`record` sees to that). Refused, because their GEMMs would be missing:
fused attention, fused recurrent layers, scaled and grouped products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nmsim.errors import InputError
from nmsim.training.recorder.convolutions import conv_geometry
from nmsim.training.recorder.matrix import Matrix
from nmsim.training.recorder.module_path import ModulePath, backward_node
from nmsim.training.recorder.operators import OperatorTally
from nmsim.training.recorder.origins import CONSTANT, DATA, Origins
from nmsim.training.recorder.products import ForwardProduct, Product, backward_product, forward_product
from nmsim.training.sparsification import in_sparsification
from nmsim.workload.gemm import ConvGeometry, Phase
from nmsim.workload.trace import OperatorPhase

_PRODUCTS = {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2)}
"""Operator -> positions of its two matrices."""
_REFUSED_PREFIXES = (
    "_scaled_dot_product", "_flash_attention", "_efficient_attention", "_scaled_mm", "_grouped_mm", "_scaled_grouped_mm",
    "_addmm_activation", "mkldnn_rnn", "_cudnn_rnn", "_thnn_fused", "miopen_rnn", "_trilinear", "_transformer_encoder",
)  # fmt: skip
_DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.int8: "int8"}


@dataclass(frozen=True)
class Convolution:
    """One convolution GEMM as recorded; tensors in the framework's own layout. `source` numbers the forward that it belongs to.

    `moving` is what the weight meets, or what makes its gradient: X in `forward`, else dY.
    """

    source: int
    module: str
    phase: Phase
    geometry: ConvGeometry
    parameter: str | None
    weight: Tensor
    moving: Tensor
    dtype: str
    out_dtype: str


class Capture(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While open, hands every product and convolution to the given functions and counts the other operators."""

    def __init__(self, model: nn.Module, on_product: Callable[[Product], None], on_convolution: Callable[[Convolution], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.origins = Origins(model)
        self.modules = ModulePath(model, self._take_inputs)
        self.operators = OperatorTally()
        self.first_batch: int | None = None
        self._on_product, self._on_convolution = on_product, on_convolution
        self._forwards: dict[int, list[ForwardProduct | Convolution]] = {}
        self._sources = 0
        self._in_optimizer = False
        self._seen_backward = False
        self._hooks: list[Any] = []

    def __enter__(self) -> Capture:
        self.modules.__enter__()
        self._hooks = [
            register_optimizer_step_pre_hook(lambda *_: self._set_optimizer(True)),
            register_optimizer_step_post_hook(lambda *_: self._set_optimizer(False)),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()
        self.modules.__exit__()
        self._forwards.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        node = backward_node()
        name = func._schema.name.partition("::")[2]
        self._refuse_unknown(name)
        parameter_gradients: list[Tensor] = []
        if name in _PRODUCTS:
            left, right = (args[position] for position in _PRODUCTS[name])
            if self._product(left, right, outputs[0], node) == "backward_weight":
                parameter_gradients = outputs
        elif name == "convolution":
            self._convolution(args, outputs[0])
        elif name == "convolution_backward":
            self._convolution_backward(args, outputs, node)
            parameter_gradients = [tensor for tensor in result[1:] if tensor is not None]
        elif not in_sparsification():
            phase = self._operator_phase(inputs, node)
            scales = phase != "optimizer" and any(self.origins.of(tensor) == DATA for tensor in inputs)
            self.operators.add(func, args, kwargs, outputs, phase, scales)
        self._seen_backward |= node is not None
        self.origins.hand_on(name, inputs, outputs, backward=node is not None)
        for gradient in parameter_gradients:
            self.origins.mark(gradient, CONSTANT)
        return result

    def _product(self, left: Tensor, right: Tensor, output: Tensor, node: int | None) -> Phase:
        a, b = Matrix.of(left, self.origins.of(left)), Matrix.of(right, self.origins.of(right))
        dtypes = _dtype_name(left), _dtype_name(output)
        if node is not None and not self.modules.is_recomputing:
            for source in self._forwards.get(node, ()):
                product = backward_product(source, a, b, dtypes) if isinstance(source, ForwardProduct) else None
                if product is not None:
                    self._on_product(product)
                    return product.phase
            raise InputError(
                "a matrix product of the backward is no gradient of a recorded forward product",
                path=f"{list(left.shape)} x {list(right.shape)}",
                fix="put the whole step, forward and backward, inside record()",
            )
        forward, product = forward_product(self._next_source(), self.modules.innermost, a, b, dtypes)
        self._remember(forward)
        self._on_product(product)
        return product.phase

    def _convolution(self, args: Sequence[Any], output: Tensor) -> None:
        inputs, weight, _, stride, padding, dilation, transposed, _, groups = args
        module = self.modules.innermost
        geometry = conv_geometry(module, inputs, weight, stride, padding, dilation, transposed, groups)
        event = self._conv_event(self._next_source(), module, "forward", geometry, weight, inputs, output)
        self._remember(event)
        self._on_convolution(event)

    def _convolution_backward(self, args: Sequence[Any], outputs: Sequence[Tensor], node: int | None) -> None:
        gradient, inputs, weight, _, stride, padding, dilation, transposed, _, groups, wanted = args
        known = [one for one in self._forwards.get(node, ()) if isinstance(one, Convolution)] if node is not None else []
        number, module = (known[0].source, known[0].module) if known else (self._next_source(), self.modules.innermost)
        geometry = conv_geometry(module, inputs, weight, stride, padding, dilation, transposed, groups)
        phases: tuple[Phase, Phase] = ("backward_data", "backward_weight")
        for phase, is_wanted in zip(phases, wanted, strict=False):
            if is_wanted:
                self._on_convolution(self._conv_event(number, module, phase, geometry, weight, gradient, outputs[0]))

    def _conv_event(
        self, number: int, module: str, phase: Phase, geometry: ConvGeometry, weight: Tensor, operand: Tensor, output: Tensor
    ) -> Convolution:
        origin = self.origins.of(weight)
        parameter = origin if self.origins.is_parameter(origin) else None
        types = _dtype_name(operand), _dtype_name(output)
        return Convolution(number, module, phase, geometry, parameter, weight.detach(), operand.detach(), *types)

    def _remember(self, source: ForwardProduct | Convolution) -> None:
        # Autograd numbers its nodes as they are made: the node of the operator now running was the last one made.
        self._forwards.setdefault(torch.autograd._get_sequence_nr() - 1, []).append(source)  # type: ignore[attr-defined]

    def _next_source(self) -> int:
        self._sources += 1
        return self._sources - 1

    def _operator_phase(self, inputs: Sequence[Tensor], node: int | None) -> OperatorPhase:
        if self._in_optimizer:
            return "optimizer"
        if node is not None:
            return "backward"
        # After the backward, what touches no data and belongs to no module prepares the update (gradient clipping).
        after = self._seen_backward and not self.modules.is_open and all(self.origins.of(tensor) != DATA for tensor in inputs)
        return "optimizer" if after else "forward"

    def _refuse_unknown(self, name: str) -> None:
        if name.startswith(_REFUSED_PREFIXES):
            raise InputError(f"the recorder does not know the product {name}", path=self.modules.innermost, fix="use matmul or bmm")

    def _set_optimizer(self, running: bool) -> None:
        self._in_optimizer = running

    def _take_inputs(self, inputs: list[Tensor]) -> None:
        for tensor in inputs:
            self.origins.mark(tensor, DATA)
        if self.first_batch is None and inputs and inputs[0].dim():
            self.first_batch = inputs[0].shape[0]


def _dtype_name(tensor: Tensor) -> str:
    if tensor.dtype not in _DTYPES:
        raise InputError("the recorder does not know this element type", value=str(tensor.dtype), fix=f"use {', '.join(_DTYPES.values())}")
    return _DTYPES[tensor.dtype]
