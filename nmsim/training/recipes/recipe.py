"""The seam between the training loop and an N:M method: what a recipe may change in a step, and what it must declare.

A recipe is one file with one frozen dataclass; its fields are its hyper-parameters, and they are what `--recipe-option` sets.
The methods here are the dense ones, so a recipe writes only what it changes. What changes from step to step (masks) lives in
the layers, so a recipe itself is a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from nmsim.sparsity.pattern import NMPattern
from nmsim.training.stages import MAIN, Stage
from nmsim.workload.trace import SparsifyPass

if TYPE_CHECKING:
    from nmsim.training.layers import SparseLayer


@dataclass(frozen=True)
class Recipe:
    """Dense training, and the base of every recipe. Weights and masks are in GEMM layout, [O, I] or [O, R, S, C].

    `prunes` is False where no layer is put under the recipe (then no other method is called).
    """

    pattern: NMPattern
    prunes: ClassVar[bool] = True

    def stages(self, steps: int) -> tuple[Stage, ...]:
        """The stretches of a run of `steps` steps in which a step costs the same; one is named MAIN."""
        return (Stage(MAIN, steps),)

    def begin_step(self, model: nn.Module, layers: Sequence[SparseLayer], step: int, steps: int) -> None:
        """Called before the forward of `step` (from 1) of `steps`, for what is decided over the network or only now and then."""

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

    @property
    def gradient_pattern(self) -> NMPattern | None:
        """The pattern that `output_gradient` gives dY along the tokens; the recorder checks every group of it."""
        return None

    def passes(self, layer: SparseLayer) -> tuple[SparsifyPass, ...]:
        """The work that the recipe adds to a step for this layer, from its shapes: what a trace charges for."""
        return ()
