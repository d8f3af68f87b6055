"""SR-STE: the straight-through estimator with a decay on the pruned weights, so that masks settle.

Zhou et al., ICLR 2021 (arXiv 2102.04010). Groups as in STE: one of three products runs sparse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from nmsim.sparsity.sr_ste import DEFAULT_DECAY
from nmsim.training.recipes.passes import decay_pass
from nmsim.training.recipes.ste import Ste
from nmsim.workload.trace import SparsifyPass

if TYPE_CHECKING:
    from nmsim.training.layers import SparseLayer


@dataclass(frozen=True)
class SrSte(Ste):
    """`decay` is the authors' lambda_W."""

    decay: float = DEFAULT_DECAY

    def weight_gradient(self, layer: SparseLayer, weight: Tensor, gradient: Tensor) -> Tensor:
        """g + decay (1 - mask) w."""
        return decayed(layer, weight, gradient, self.decay)

    def passes(self, layer: SparseLayer) -> tuple[SparsifyPass, ...]:
        """Mask search, compression and decay, in every step."""
        return (*super().passes(layer), decay_pass(layer.path, layer.to_gemm_layout(layer.weight).shape))


def decayed(layer: SparseLayer, weight: Tensor, gradient: Tensor, decay: float) -> Tensor:
    """g + decay (1 - mask) w: on the gradient, not on the weight, so that momentum and Adam's scaling see it."""
    return gradient.addcmul(weight, (~layer.mask_in_gemm_layout()).to(weight.dtype), value=decay)
