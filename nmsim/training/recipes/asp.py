"""ASP: train dense, prune N:M once by magnitude, and repeat the same schedule with the mask fixed.

NVIDIA's recipe (apex `contrib/sparsity`). The mask lies along the inputs: `forward` alone runs sparse, and only in the second half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from nmsim.training.masking import nm_mask
from nmsim.training.recipes.passes import compress_pass, gradient_mask_pass, mask_search_pass, prune_pass
from nmsim.training.recipes.recipe import Recipe
from nmsim.training.stages import MAIN, Stage, split_steps
from nmsim.workload.trace import SparsifyPass

if TYPE_CHECKING:
    from nmsim.training.layers import SparseLayer


@dataclass(frozen=True)
class Asp(Recipe):
    """`dense_share` of the steps train the dense network; the learning rate then begins anew."""

    dense_share: float = 0.5

    def stages(self, steps: int) -> tuple[Stage, ...]:
        """Dense, then pruned with a fixed mask."""
        dense, pruned = split_steps(steps, (self.dense_share, 1 - self.dense_share))
        return Stage("dense", dense), Stage(MAIN, pruned, restarts=True)

    def begin_step(self, model: nn.Module, layers: Sequence[SparseLayer], step: int, steps: int) -> None:
        """Prunes once, when the second stage begins."""
        dense, pruned = self.stages(steps)
        if step == dense.steps + 1:
            self.prune(model, layers)
            for layer in layers:
                layer.mask_lasts_steps = pruned.steps

    def prune(self, model: nn.Module, layers: Sequence[SparseLayer]) -> None:
        """Draws the mask that every later step keeps."""
        for layer in layers:
            layer.keep_mask(nm_mask(layer.to_gemm_layout(layer.weight.detach()), self.pattern))

    def forward_weight(self, layer: SparseLayer, weight: Tensor) -> Tensor:
        """The weight, masked from the second stage on."""
        return weight * layer.mask_in_gemm_layout() if layer.is_masked else weight

    def weight_gradient(self, layer: SparseLayer, weight: Tensor, gradient: Tensor) -> Tensor:
        """Pruned weights are not trained."""
        return gradient * layer.mask_in_gemm_layout() if layer.is_masked else gradient

    def passes(self, layer: SparseLayer) -> tuple[SparsifyPass, ...]:
        """The search once in the stage; masking and compressing the updated weight, and masking its gradient, in every step."""
        if not layer.is_masked:
            return ()
        path, shape = layer.path, layer.to_gemm_layout(layer.weight).shape
        search = replace(mask_search_pass(path, shape, self.pattern), every_steps=layer.mask_lasts_steps)
        return search, prune_pass(path, shape), compress_pass(path, shape, self.pattern), gradient_mask_pass(path, shape)
