"""The straight-through estimator (STE): N:M from scratch, the mask redrawn at every forward, a dense gradient to the dense weight.

The baseline of Zhou et al., ICLR 2021 (arXiv 2102.04010). Groups run along the reduction of `forward` (the input channel, for a
convolution within one tap), so of the three products only `forward` gets an operand whose zeros a sparse tensor core can use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from nmsim.training.masking import nm_mask
from nmsim.training.recipes.passes import compress_pass, mask_search_pass
from nmsim.training.recipes.recipe import Recipe
from nmsim.workload.trace import SparsifyPass

if TYPE_CHECKING:
    from nmsim.training.layers import SparseLayer


@dataclass(frozen=True)
class Ste(Recipe):
    """No hyper-parameters."""

    def forward_weight(self, layer: SparseLayer, weight: Tensor) -> Tensor:
        """The N largest of each M, redrawn from the master weight."""
        return weight * layer.keep_mask(nm_mask(weight, self.pattern))

    def passes(self, layer: SparseLayer) -> tuple[SparsifyPass, ...]:
        """Mask search and compression, in every step."""
        shape = layer.to_gemm_layout(layer.weight).shape
        return mask_search_pass(layer.path, shape, self.pattern), compress_pass(layer.path, shape, self.pattern)
