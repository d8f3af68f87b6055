"""Tile-wise pruning (TW): whole columns and row vectors of tiles, in stages with fine-tuning between; what is left is dense.

Guo et al., SC20 (arXiv 2008.13006): columns, then rows in tiles of 128 outputs, ranked over the whole network by magnitude
(`nmsim.sparsity.tile_wise`). The stages are the authors' sparsities up to the target; pruned weights are not trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nmsim.errors import InputError
from nmsim.sparsity.tile_wise import DEFAULT_TILE_WIDTH, mask_of_plan, plan_network
from nmsim.training.recipes.passes import gradient_mask_pass, prune_pass
from nmsim.training.recipes.recipe import Recipe
from nmsim.training.stages import MAIN, Stage, split_steps, stage_of
from nmsim.workload.trace import SparsifyPass, TileWisePlan

if TYPE_CHECKING:
    from nmsim.training.layers import SparseLayer

KEPT_PER_CENT = (75, 65, 50, 45, 40, 35, 30, 25, 20, 15, 10, 5)
"""What the stages of the authors' BERT script keep."""


@dataclass(frozen=True)
class TileWise(Recipe):
    """The density to end at is the pattern's, N/M. `tile_width` outputs a tile; `dense_share` of the steps train dense first;
    each stage on the way takes `stage_share` of them. Every layer keeps at least `least_share` of its elements: magnitudes, unlike
    the authors' Taylor scores, don't compare across layers, and may all but empty one of small weights.
    """

    tile_width: int = DEFAULT_TILE_WIDTH
    dense_share: float = 0.2
    stage_share: float = 0.05
    least_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.least_share <= self.tile_density(self.pattern.density):
            fix = f"use 0 to {float(self.tile_density(self.pattern.density)):g}"
            raise InputError(
                "a layer can't be promised more than the whole keeps", path="--recipe-option least_share", value=self.least_share, fix=fix
            )

    def tile_density(self, density: Fraction) -> Fraction:
        """What the tiles keep of the network where the mask keeps `density`."""
        return density

    def stages(self, steps: int) -> tuple[Stage, ...]:
        """Dense, the densities on the way, and the density of the pattern."""
        passed = [per_cent for per_cent in KEPT_PER_CENT if Fraction(per_cent, 100) > self.pattern.density]
        shares = [self.dense_share, *([self.stage_share] * len(passed))]
        names = ["dense", *(f"keep_{per_cent}" for per_cent in passed), MAIN]
        parts = split_steps(steps, [*shares, 1 - sum(shares)])
        return tuple(Stage(name, part) for name, part in zip(names, parts, strict=True))

    def begin_step(self, model: nn.Module, layers: Sequence[SparseLayer], step: int, steps: int) -> None:
        """Prunes further where a stage begins."""
        stages = self.stages(steps)
        stage = stage_of(stages, step)
        if stage.name == "dense" or (step > 1 and stage_of(stages, step - 1) == stage):
            return
        density = self.pattern.density if stage.name == MAIN else Fraction(int(stage.name.removeprefix("keep_")), 100)
        self.prune(layers, density)

    def prune(self, layers: Sequence[SparseLayer], density: Fraction) -> None:
        """Plans the network at `density` from its weights; what was pruned before stays pruned as far as it ranks last."""
        plans = plan_network(matrices(layers), float(density), self.tile_width, least_share=self.least_share)
        for layer, (columns, rows) in zip(layers, plans.values(), strict=True):
            shape = layer.to_gemm_layout(layer.weight).shape
            layer.keep_mask(torch.from_numpy(mask_of_plan(columns, rows, self.tile_width).T.copy()).reshape(shape))
            layer.tile_wise = str(density), TileWisePlan(self.tile_width, columns, rows)

    def forward_weight(self, layer: SparseLayer, weight: Tensor) -> Tensor:
        """The weight, pruned tile-wise from the second stage on."""
        return weight * layer.mask_in_gemm_layout() if layer.is_masked else weight

    def weight_gradient(self, layer: SparseLayer, weight: Tensor, gradient: Tensor) -> Tensor:
        """Pruned weights are not trained."""
        return gradient * layer.mask_in_gemm_layout() if layer.is_masked else gradient

    def passes(self, layer: SparseLayer) -> tuple[SparsifyPass, ...]:
        """Packing the kept blocks of the updated weight, and masking the gradient."""
        if not layer.is_masked:
            return ()
        shape = layer.to_gemm_layout(layer.weight).shape
        return prune_pass(layer.path, shape), gradient_mask_pass(layer.path, shape)


def matrices(layers: Sequence[SparseLayer]) -> dict[str, NDArray[np.float32]]:
    """The weights that are left, W[K, N] by path."""
    left = {}
    for layer in layers:
        weight = layer.to_gemm_layout(layer.weight.detach())
        left[layer.path] = (weight * layer.mask_in_gemm_layout() if layer.is_masked else weight).flatten(1).t().numpy()
    return left
