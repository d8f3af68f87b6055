"""Unstructured magnitude pruning, ranked over the network, its sparsity growing as a cubic (Zhu & Gupta, 2017, arXiv 1710.01878).

The reference for what structure costs in accuracy; no product of it runs sparse on a tensor core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nmsim.sparsity.granularities import unstructured_masks
from nmsim.training.recipes.passes import gradient_mask_pass, mask_refresh_pass, prune_pass
from nmsim.training.recipes.recipe import Recipe
from nmsim.workload.trace import SparsifyPass

if TYPE_CHECKING:
    from nmsim.training.layers import SparseLayer


@dataclass(frozen=True)
class Unstructured(Recipe):
    """The density to end at is the pattern's, N/M. The sparsity grows between the shares `begin` and `end` of the steps, every
    `refresh_steps`.
    """

    begin: float = 0.1
    end: float = 0.7
    refresh_steps: int = 10

    def begin_step(self, model: nn.Module, layers: Sequence[SparseLayer], step: int, steps: int) -> None:
        """Prunes further while the sparsity grows; later the mask stays."""
        first, last = round(self.begin * steps), max(round(self.end * steps), round(self.begin * steps) + 1)
        if step < first or step > last + self.refresh_steps or (step - first) % self.refresh_steps:
            return
        progress = min(1.0, (step - first) / (last - first))
        sparsity = (1 - float(self.pattern.density)) * (1 - (1 - progress) ** 3)
        keep_largest(layers, 1 - sparsity)

    def forward_weight(self, layer: SparseLayer, weight: Tensor) -> Tensor:
        """The weight without what is pruned."""
        return weight * layer.mask_in_gemm_layout() if layer.is_masked else weight

    def weight_gradient(self, layer: SparseLayer, weight: Tensor, gradient: Tensor) -> Tensor:
        """Pruned weights are not trained."""
        return gradient * layer.mask_in_gemm_layout() if layer.is_masked else gradient

    def passes(self, layer: SparseLayer) -> tuple[SparsifyPass, ...]:
        """Masking the updated weight and its gradient, and the ranking now and then."""
        if not layer.is_masked:
            return ()
        path, shape = layer.path, layer.to_gemm_layout(layer.weight).shape
        # A sort over the network: some 20 comparisons an element.
        ranking = mask_refresh_pass(path, shape, 20 * layer.weight.numel(), self.refresh_steps)
        return ranking, prune_pass(path, shape), gradient_mask_pass(path, shape)


def keep_largest(layers: Sequence[SparseLayer], density: float) -> None:
    """Masks that keep the largest share `density` of all weights of `layers` together; what is pruned ranks last."""
    weights = {layer.path: _left(layer).numpy() for layer in layers}
    for layer, mask in zip(layers, unstructured_masks(weights, density).values(), strict=True):
        layer.keep_mask(torch.from_numpy(mask))


def _left(layer: SparseLayer) -> Tensor:
    weight = layer.to_gemm_layout(layer.weight.detach())
    return weight * layer.mask_in_gemm_layout() if layer.is_masked else weight
