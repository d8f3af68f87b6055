"""Tile-element-wise pruning (TEW): tile-wise, with the best of what it pruned put back element by element.

Guo et al., SC20 (arXiv 2008.13006): prune by `restored` more than is wanted, restore the largest single elements of the network.
The tiles run as gathered dense GEMMs, the elements on CUDA cores. A trace holds both: the plan of the tiles at the density that
they keep, and a mask of which what lies outside the tiles is the remainder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import torch

from nmsim.errors import InputError
from nmsim.sparsity.tile_wise import mask_of_plan
from nmsim.sparsity.tile_wise_elements import DEFAULT_RESTORED, plan_network_with_elements
from nmsim.training.recipes.tile_wise import TileWise, matrices
from nmsim.workload.trace import TileWisePlan

if TYPE_CHECKING:
    from nmsim.training.layers import SparseLayer


@dataclass(frozen=True)
class Tew(TileWise):
    """`restored`: share of all elements put back; the authors' 1 % in the mode with columns."""

    restored: float = DEFAULT_RESTORED["2d"]

    def __post_init__(self) -> None:
        if not 0 < self.restored < float(self.pattern.density):
            fix = f"the mask keeps {float(self.pattern.density):g} in all"
            raise InputError(
                "the restored share lies between 0 and the density", path="--recipe-option restored", value=self.restored, fix=fix
            )
        super().__post_init__()

    def tile_density(self, density: Fraction) -> Fraction:
        """All but the restored elements, in the decimals that the option was given in."""
        return density - Fraction(str(self.restored))

    def prune(self, layers: Sequence[SparseLayer], density: Fraction) -> None:
        """Plans tiles and elements that together keep `density`."""
        plans = plan_network_with_elements(matrices(layers), float(density), self.restored, self.tile_width, least_share=self.least_share)
        for layer, (columns, rows, elements) in zip(layers, plans.values(), strict=True):
            mask = mask_of_plan(columns, rows, self.tile_width) | elements
            layer.keep_mask(torch.from_numpy(mask.T.copy()).reshape(layer.to_gemm_layout(layer.weight).shape))
            layer.tile_wise = str(self.tile_density(density)), TileWisePlan(self.tile_width, columns, rows)
