"""Transposable masks: N:M along the inputs and along the outputs at once, so that `forward` and `backward_data` run sparse.

Hubara et al., NeurIPS 2021 (arXiv 2102.08124). The mask is searched anew every 40 steps and kept between; the dense weight gets
the dense gradient (STE).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from nmsim.training.recipes.passes import compress_pass, mask_refresh_pass, prune_pass, transpose_pass
from nmsim.training.recipes.recipe import Recipe
from nmsim.training.transposition import require_search, search_operations, transposable_mask
from nmsim.workload.trace import SparsifyPass

if TYPE_CHECKING:
    from nmsim.training.layers import SparseLayer


@dataclass(frozen=True)
class Transposable(Recipe):
    """`refresh_steps` between two mask searches; `search`: exact, two-approximation or greedy."""

    refresh_steps: int = 40
    search: str = "exact"

    def __post_init__(self) -> None:
        require_search(self.search)

    def begin_step(self, model: nn.Module, layers: Sequence[SparseLayer], step: int, steps: int) -> None:
        """Searches the masks at the first step and every `refresh_steps` after."""
        if (step - 1) % self.refresh_steps == 0:
            for layer in layers:
                layer.keep_mask(transposable_mask(layer.to_gemm_layout(layer.weight), self.pattern, self.search))

    def forward_weight(self, layer: SparseLayer, weight: Tensor) -> Tensor:
        """The masked weight; `backward_data` uses it too."""
        return weight * layer.mask_in_gemm_layout() if layer.is_masked else weight

    def passes(self, layer: SparseLayer) -> tuple[SparsifyPass, ...]:
        """The search now and then; masking and two compressed copies, one a reduction, in every step."""
        if not layer.is_masked:
            return ()
        path, shape = layer.path, layer.to_gemm_layout(layer.weight).shape
        return (
            mask_refresh_pass(path, shape, search_operations(shape, self.pattern, self.search), self.refresh_steps),
            prune_pass(path, shape),
            compress_pass(path, shape, self.pattern),
            transpose_pass(path, shape, self.pattern),
        )
