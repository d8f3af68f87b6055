"""SR-STE: N:M from scratch, the mask redrawn at every forward, a dense gradient, and a decay on the pruned weights.

Zhou et al., ICLR 2021 (arXiv 2102.04010). Groups run along the reduction of `forward` (the input channel, for a convolution
within one tap), so of the three products only `forward` gets an operand whose zeros a sparse tensor core can use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from nmsim.sparsity.sr_ste import DEFAULT_DECAY
from nmsim.training.masking import nm_mask
from nmsim.training.recipes.recipe import Recipe, compress_pass, decay_pass, mask_search_pass
from nmsim.workload.trace import SparsifyPass

if TYPE_CHECKING:
    from nmsim.training.layers import SparseLayer


@dataclass(frozen=True)
class SrSte(Recipe):
    """`decay` is the authors' lambda_W; 0 makes it the plain straight-through estimator (STE)."""

    decay: float = DEFAULT_DECAY

    def forward_weight(self, layer: SparseLayer, weight: Tensor) -> Tensor:
        """The N largest of each M, redrawn from the master weight."""
        return weight * layer.keep_mask(nm_mask(weight, self.pattern))

    def weight_gradient(self, layer: SparseLayer, weight: Tensor, gradient: Tensor) -> Tensor:
        """g + decay (1 - mask) w."""
        mask = layer.weight_mask
        assert mask is not None, "the backward of a layer follows its forward"
        # On the gradient, not on the weight, so that momentum and Adam's scaling see it.
        return gradient.addcmul(weight, (~layer.to_gemm_layout(mask)).to(weight.dtype), value=self.decay)

    def passes(self, layer: SparseLayer) -> tuple[SparsifyPass, ...]:
        """Mask search, compression and decay, in every step."""
        shape = layer.to_gemm_layout(layer.weight).shape
        return (
            mask_search_pass(layer.path, shape, self.pattern),
            compress_pass(layer.path, shape, self.pattern),
            decay_pass(layer.path, shape),
        )
