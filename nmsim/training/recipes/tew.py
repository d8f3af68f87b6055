"""Tile-element-wise pruning (TEW): tile-wise, with the best of what it pruned put back element by element.

Guo et al., SC20 (arXiv 2008.13006): prune by `restored` more than is wanted, restore the largest single elements of the network.
The tiles run as gathered dense GEMMs, the elements on CUDA cores; recorded is the whole mask, which no single structure describes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import torch

from nmsim.sparsity.tile_wise import mask_of_plan
from nmsim.sparsity.tile_wise_elements import DEFAULT_RESTORED, plan_network_with_elements
from nmsim.training.recipes.tile_wise import TileWise, matrices

if TYPE_CHECKING:
    from nmsim.training.layers import SparseLayer


@dataclass(frozen=True)
class Tew(TileWise):
    """`restored`: share of all elements put back; the authors' 1 % in the mode with columns."""

    restored: float = DEFAULT_RESTORED["2d"]

    def prune(self, layers: Sequence[SparseLayer], density: Fraction) -> None:
        """Plans tiles and elements that together keep `density`."""
        plans = plan_network_with_elements(matrices(layers), float(density), self.restored, self.tile_width)
        for layer, (columns, rows, elements) in zip(layers, plans.values(), strict=True):
            mask = mask_of_plan(columns, rows, self.tile_width) | elements
            layer.keep_mask(torch.from_numpy(mask.T.copy()).reshape(layer.to_gemm_layout(layer.weight).shape))
