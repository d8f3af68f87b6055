"""The seam between the training loop and an N:M method: what a recipe may change in a step, and what it must declare.

A recipe is one file with one frozen dataclass; its fields are its hyper-parameters, and they are what `--recipe-option` sets.
The methods here are the dense ones, so a recipe writes only what it changes. What changes from step to step (masks) lives in
the layers, so a recipe itself is a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from nmsim.sparsity.metadata import compressed_bytes
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.trace import SparsifyPass

if TYPE_CHECKING:
    from nmsim.training.layers import SparseLayer

MASTER_BYTES = 4
"""Bytes of a master weight and of its gradient (fp32 under autocast)."""
COMPUTE_BYTES = 2
"""Bytes of an element that a tensor core reads (bf16 under autocast)."""


@dataclass(frozen=True)
class Recipe:
    """Dense training, and the base of every recipe. Weights and masks are in GEMM layout, [O, I] or [O, R, S, C].

    `prunes` is False where no layer is put under the recipe (then no other method is called).
    """

    pattern: NMPattern
    prunes: ClassVar[bool] = True

    def begin_step(self, layers: Sequence[SparseLayer], step: int) -> None:
        """Called before each forward with all layers, for what is decided over the network or only now and then."""

    def forward_weight(self, layer: SparseLayer, weight: Tensor) -> Tensor:
        """The weight that Y = X W^T uses."""
        return weight

    def backward_weight(self, layer: SparseLayer, weight: Tensor, forward_weight: Tensor) -> Tensor:
        """The weight that dX = dY W uses; by default the one that the forward used."""
        return forward_weight

    def output_gradient(self, layer: SparseLayer, gradient: Tensor) -> Tensor:
        """The dY that dW = dY^T X uses (that of dX stays as it is), in the layer's own layout."""
        return gradient

    def weight_gradient(self, layer: SparseLayer, weight: Tensor, gradient: Tensor) -> Tensor:
        """The gradient that the optimiser is given for the dense master weight."""
        return gradient

    def passes(self, layer: SparseLayer) -> tuple[SparsifyPass, ...]:
        """The work that the recipe adds to a step for this layer, from its shapes: what a trace charges for."""
        return ()


def mask_search_pass(module: str, shape: Sequence[int], pattern: NMPattern, every_steps: int = 1) -> SparsifyPass:
    """Reads the master weight, writes the masked one in the compute type (it also serves the dense `backward_data`).

    M (M - 1) / 2 magnitude comparisons rank a group: 6 for 2:4, as in the kernels of huyz2023/2by4-pretrain.
    """
    elements = _elements(shape)
    groups = elements // shape[-1] * -(-shape[-1] // pattern.m)
    comparisons = groups * pattern.m * (pattern.m - 1) // 2
    return SparsifyPass(
        f"{module}:mask_search", "mask_search", module, elements * MASTER_BYTES, elements * COMPUTE_BYTES, comparisons, every_steps
    )


def compress_pass(module: str, shape: Sequence[int], pattern: NMPattern, every_steps: int = 1) -> SparsifyPass:
    """Reads the masked weight, writes kept values and metadata; one operation an element read."""
    elements = _elements(shape)
    written = elements // shape[-1] * compressed_bytes(shape[-1], 8 * COMPUTE_BYTES, pattern)
    return SparsifyPass(f"{module}:compress", "compress", module, elements * COMPUTE_BYTES, written, elements, every_steps)


def decay_pass(module: str, shape: Sequence[int]) -> SparsifyPass:
    """g + decay (1 - mask) w: reads gradient, master weight and a mask bit, writes the gradient; two operations an element."""
    elements = _elements(shape)
    return SparsifyPass(
        f"{module}:decay", "decay", module, 2 * elements * MASTER_BYTES + -(-elements // 8), elements * MASTER_BYTES, 2 * elements
    )


def _elements(shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
