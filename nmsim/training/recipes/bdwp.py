"""BDWP: bidirectional weight pruning, an independent N:M mask for each of the two products that a weight takes part in.

Fang et al., IEEE TPDS 2024 (arXiv 2309.13015). Both masks are drawn from the dense master weight in every step: along the inputs
for `forward`, along the outputs for `backward_data`; the dense weight gets the dense gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from nmsim.training.masking import nm_mask
from nmsim.training.recipes.passes import mask_search_pass, transpose_pass
from nmsim.training.recipes.ste import Ste
from nmsim.workload.trace import SparsifyPass

if TYPE_CHECKING:
    from nmsim.training.layers import SparseLayer


@dataclass(frozen=True)
class Bdwp(Ste):
    """No hyper-parameters."""

    def backward_weight(self, layer: SparseLayer, weight: Tensor, forward_weight: Tensor) -> Tensor:
        """The N largest of each M along the outputs, from the master weight and not from the forward's."""
        return weight * layer.keep_backward_mask(nm_mask(weight, self.pattern, axis=0))

    def passes(self, layer: SparseLayer) -> tuple[SparsifyPass, ...]:
        """Two searches and two compressed copies, in every step."""
        shape = layer.to_gemm_layout(layer.weight).shape
        search = mask_search_pass(layer.path, shape, self.pattern, axis=0)
        second = replace(search, id=f"{layer.path}:mask_search_backward")
        return (*super().passes(layer), second, transpose_pass(layer.path, shape, self.pattern))
