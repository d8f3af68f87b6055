"""Linear and convolution layers whose three products each see the operands that a recipe chooses.

A layer keeps its path, parameters and state dict; only its products change:

    forward          Y  = X  * forward_weight(W)
    backward_data    dX = dY * backward_weight(W)
    backward_weight  dW = output_gradient(dY) * X, then weight_gradient(dW)

Recipes see weights as the trace stores them: [O, I], or [O, R, S, C] for a convolution, so a group of M runs along the last
axis for `forward` and along axis 0 for `backward_data`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from nmsim.training.sparsification import sparsification
from nmsim.workload.trace import TileWisePlan

if TYPE_CHECKING:
    from nmsim.training.recipes.recipe import Recipe


class SparseLayer(nn.Module):
    """What the sparse linear and convolution share: the recipe, its masks, and how far the mask moved at the last forward.

    `weight_mask` and `weight_backward_mask` are buffers in the weight's own layout; the recorder finds masks by these names.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    channel_axis: ClassVar[int] = -1
    """Axis of the outputs that the output channels lie on."""
    weight_mask: Tensor | None
    weight_backward_mask: Tensor | None

    def __init__(self, dense: nn.Module, path: str, recipe: Recipe) -> None:
        """Takes over the parameters of `dense`, which is at `path` in its model."""
        super().__init__()
        self.path, self.recipe = path, recipe
        self.flipped = 0
        """Mask bits that the last mask changed."""
        self.mask_lasts_steps = 1
        """Steps that a mask drawn once serves: how often its search is charged."""
        self.keeps_inputs = False
        self.last_inputs: Tensor | None = None
        """X of the last forward where `keeps_inputs` asks for it, in the layer's own layout."""
        self.tokens = 0
        """Rows of the last output: tokens, or pixels of a convolution's output over the batch."""
        self.tile_wise: tuple[str, TileWisePlan] | None = None
        """(density such as "1/2", plan) of a recipe that prunes tile-wise."""
        self.generator = torch.Generator()
        """Where this layer's sampled gradients come from; `sparsify` seeds it."""
        self.gradient_observer: Callable[[Tensor], None] | None = None
        """Told of dY [tokens, outputs] before a recipe makes it sparse, where somebody watches."""
        self.register_parameter("weight", dense.get_parameter("weight"))
        self.register_parameter("bias", None if dense.bias is None else dense.get_parameter("bias"))
        self.register_buffer("weight_mask", None, persistent=False)
        self.register_buffer("weight_backward_mask", None, persistent=False)

    def keep_mask(self, mask: Tensor) -> Tensor:
        """Stores the forward mask (in GEMM layout), counts the elements that changed since the last one, and returns it."""
        stored = self.from_gemm_layout(mask)
        self.flipped = 0 if self.weight_mask is None else int(torch.count_nonzero(stored != self.weight_mask))
        self.weight_mask = stored
        return mask

    def drop_masks(self) -> None:
        """Makes the layer dense again."""
        self.flipped, self.weight_mask, self.weight_backward_mask, self.tile_wise = 0, None, None, None

    @property
    def is_masked(self) -> bool:
        """True while the layer has a mask."""
        return self.weight_mask is not None

    def mask_in_gemm_layout(self) -> Tensor:
        """The forward mask, [O, I] or [O, R, S, C]."""
        assert self.weight_mask is not None, "a recipe masks a layer before it asks for the mask"
        return self.to_gemm_layout(self.weight_mask)

    def keep_backward_mask(self, mask: Tensor) -> Tensor:
        """Stores the mask of `backward_data` (in GEMM layout) of a recipe that has two, and returns it."""
        self.weight_backward_mask = self.from_gemm_layout(mask)
        return mask

    def to_gemm_layout(self, weight: Tensor) -> Tensor:
        """The weight's own layout -> [O, I] or [O, R, S, C], a view."""
        raise TypeError(f"{type(self).__name__} has no GEMM layout")

    def from_gemm_layout(self, weight: Tensor) -> Tensor:
        """[O, I] or [O, R, S, C] -> the weight's own layout, a view."""
        raise TypeError(f"{type(self).__name__} has no GEMM layout")

    def input_rows(self, inputs: Tensor) -> Tensor:
        """X as the rows that `forward` multiplies, [tokens, I] or [pixels, R S C]."""
        raise TypeError(f"{type(self).__name__} has no input rows")

    def to_rows(self, gradient: Tensor) -> Tensor:
        """dY in the layer's own layout -> [tokens, outputs], as `backward_weight` reduces over it."""
        return gradient.movedim(self.channel_axis, -1).flatten(0, -2)

    def from_rows(self, rows: Tensor, like: Tensor) -> Tensor:
        """[tokens, outputs] -> the layout of `like`, a dY of the layer."""
        last = like.movedim(self.channel_axis, -1)
        return rows.reshape(last.shape).movedim(-1, self.channel_axis)

    def product(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Y of the layer for a weight in its own layout."""
        raise TypeError(f"{type(self).__name__} has no product")

    def gradients(self, gradient: Tensor, inputs: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> tuple[Tensor | None, Tensor | None]:
        """(dX, dW) for dY, X and a weight in its own layout; None where not `wanted`."""
        raise TypeError(f"{type(self).__name__} has no gradients")

    def forward(self, inputs: Tensor) -> Tensor:
        """Y of the layer, with the weight that the recipe gives."""
        return _SparseProduct.apply(inputs, self.weight, self.bias, self)  # type: ignore[no-any-return,no-untyped-call]


class SparseLinear(SparseLayer):
    """`nn.Linear` under a recipe; shares the parameters of the layer it replaces."""

    def to_gemm_layout(self, weight: Tensor) -> Tensor:
        """A view as the trace stores it."""
        return weight

    def from_gemm_layout(self, weight: Tensor) -> Tensor:
        """A view as the framework stores it."""
        return weight

    def input_rows(self, inputs: Tensor) -> Tensor:
        """All tokens."""
        return inputs.flatten(0, -2)

    def product(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Y = X W^T + b."""
        return nn.functional.linear(inputs, weight, bias)

    def gradients(self, gradient: Tensor, inputs: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> tuple[Tensor | None, Tensor | None]:
        """dX = dY W and dW = dY^T X, over all tokens."""
        rows = gradient.flatten(0, -2)
        data = (rows @ weight).view(inputs.shape) if wanted[0] else None
        return data, rows.t() @ inputs.flatten(0, -2) if wanted[1] else None


class SparseConv2d(SparseLayer):
    """`nn.Conv2d` under a recipe; shares the parameters of the layer it replaces."""

    channel_axis: ClassVar[int] = 1

    def __init__(self, dense: nn.Conv2d, path: str, recipe: Recipe) -> None:
        super().__init__(dense, path, recipe)
        self.stride, self.padding = dense.stride, dense.padding
        self.dilation, self.groups = dense.dilation, dense.groups

    def to_gemm_layout(self, weight: Tensor) -> Tensor:
        """A view as the trace stores it."""
        return weight.permute(0, 2, 3, 1)

    def from_gemm_layout(self, weight: Tensor) -> Tensor:
        """A view as the framework stores it."""
        return weight.permute(0, 3, 1, 2)

    def input_rows(self, inputs: Tensor) -> Tensor:
        """The input under every filter position, reduction in (R, S, C) order; one group of channels."""
        _, channels, kernel_h, kernel_w = self.weight.shape
        if isinstance(self.padding, str):
            raise TypeError("a convolution padded by name has no input rows")
        columns = nn.functional.unfold(inputs, (kernel_h, kernel_w), self.dilation, self.padding, self.stride)
        patches = columns.reshape(len(inputs), channels, kernel_h * kernel_w, -1)
        return patches.permute(0, 3, 2, 1).reshape(-1, kernel_h * kernel_w * channels)

    def product(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Y, [batch, O, P, Q]."""
        return nn.functional.conv2d(inputs, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def gradients(self, gradient: Tensor, inputs: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> tuple[Tensor | None, Tensor | None]:
        """dX and dW of the convolution; each is its own call where its operands are its own."""
        data, weights, _ = torch.ops.aten.convolution_backward(
            gradient, inputs, weight, None, self.stride, self.padding, self.dilation, False, [0, 0], self.groups, [*wanted, False]
        )
        return data, weights


class _SparseProduct(torch.autograd.Function):
    """The layer's three products; the recipe is asked for each operand, and the dense master weight gets the gradient."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, layer: SparseLayer) -> Tensor:
        device = inputs.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        with sparsification():
            sparse = layer.recipe.forward_weight(layer, layer.to_gemm_layout(weight))
            forward_weight = layer.from_gemm_layout(sparse).to(dtype).contiguous()
        inputs = inputs.to(dtype)
        ctx.layer = layer
        ctx.save_for_backward(inputs, weight, forward_weight)
        with torch.autocast(device, enabled=False):
            outputs = layer.product(inputs, forward_weight, None if bias is None else bias.to(dtype))
        layer.last_inputs = inputs.detach() if layer.keeps_inputs else None
        layer.tokens = outputs.numel() // outputs.shape[layer.channel_axis]
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (gradient,) = gradients
        layer: SparseLayer = ctx.layer
        inputs, weight, forward_weight = ctx.saved_tensors
        data = weights = bias = None
        if ctx.needs_input_grad[0]:
            with sparsification():
                dense, sparse = layer.to_gemm_layout(weight), layer.to_gemm_layout(forward_weight)
                backward_weight = layer.from_gemm_layout(layer.recipe.backward_weight(layer, dense, sparse)).to(gradient.dtype)
            data, _ = layer.gradients(gradient, inputs, backward_weight, (True, False))
        if ctx.needs_input_grad[1]:
            with sparsification():
                if layer.gradient_observer is not None:
                    layer.gradient_observer(layer.to_rows(gradient))
                sampled = layer.recipe.output_gradient(layer, gradient)
            _, raw = layer.gradients(sampled, inputs, forward_weight, (False, True))
            assert raw is not None
            raw = raw.to(weight.dtype)
            with sparsification():
                weights = layer.recipe.weight_gradient(layer, layer.to_gemm_layout(weight), layer.to_gemm_layout(raw))
                weights = layer.from_gemm_layout(weights)
        if ctx.needs_input_grad[2]:
            bias = gradient.sum([axis for axis in range(gradient.dim()) if axis != layer.channel_axis % gradient.dim()])
        return data, weights, bias, None
