"""Channel permutation, then one-shot N:M: reorder channels so that each group of M holds fewer weights worth keeping, and prune.

Pool & Yu, NeurIPS 2021, and NVIDIA apex's channel swaps: a dense network, reordered once without changing its function, pruned
once, retrained with the mask fixed as ASP does. The search is that of `nmsim.sparsity.channel_swap`, over all pruned layers that
read the same channels together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from nmsim.sparsity.channel_swap import swap_channels
from nmsim.training.channels import channel_spaces, read_matrices, reorder
from nmsim.training.recipes.asp import Asp
from nmsim.workload.trace import SparsifyPass

if TYPE_CHECKING:
    from nmsim.training.layers import SparseLayer


@dataclass(frozen=True)
class Permute(Asp):
    """As ASP; InputError for a model that does not declare its channels."""

    def prune(self, model: nn.Module, layers: Sequence[SparseLayer]) -> None:
        """Reorders every space of channels by what the layers that read it gain, then draws the masks."""
        pruned = [layer.path for layer in layers]
        for space in channel_spaces(model):
            weights = read_matrices(model, space, pruned)
            if not len(weights):
                continue
            width = space.size // space.blocks
            parts = [block * width + swap_channels(weights[:, block * width :][:, :width], self.pattern) for block in range(space.blocks)]
            reorder(model, space, np.concatenate(parts))
        super().prune(model, layers)

    def passes(self, layer: SparseLayer) -> tuple[SparsifyPass, ...]:
        """As ASP's, and the search once: the gain of every exchange of two channels, a comparison a row each, and the reordering."""
        found = super().passes(layer)
        if not found:
            return found
        elements, channels = layer.weight.numel(), layer.to_gemm_layout(layer.weight).shape[-1]
        moved = 4 * elements
        search = SparsifyPass(
            f"{layer.path}:permute", "permute", layer.path, moved, moved, elements * channels, every_steps=layer.mask_lasts_steps
        )
        return (search, *found)
