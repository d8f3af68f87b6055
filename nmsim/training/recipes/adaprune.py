"""AdaPrune: a trained, unstructured-sparse network converted to N:M layer by layer, with little training after.

Hubara et al., NeurIPS 2021 (arXiv 2102.08124): dense training, unstructured magnitude pruning with fine-tuning, then for every
layer the N:M magnitude mask and a least-squares fit of its outputs on real inputs. The authors fit by Adam, from kept weights that
took up what their group lost; here the least squares are solved (`nmsim.sparsity.conversion`), where a start does not matter.
The mask lies along the inputs: `forward` alone runs sparse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from nmsim.sparsity.conversion import refit_kept_weights
from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.mask import nm_mask
from nmsim.training.recipes.asp import Asp
from nmsim.training.recipes.unstructured import keep_largest
from nmsim.training.stages import MAIN, Stage, split_steps
from nmsim.workload.trace import SparsifyPass

if TYPE_CHECKING:
    from nmsim.training.layers import SparseLayer

FITTED_ROWS = 4096
"""Rows of a layer's input that a fit uses."""


@dataclass(frozen=True)
class AdaPrune(Asp):
    """`dense_share` of the steps train dense, `unstructured_share` fine-tune the unstructured network, the rest the converted one."""

    dense_share: float = 0.6
    unstructured_share: float = 0.3

    def stages(self, steps: int) -> tuple[Stage, ...]:
        """Dense, unstructured, converted; one schedule of the learning rate over all, so that little training is left at the end."""
        shares = (self.dense_share, self.unstructured_share, 1 - self.dense_share - self.unstructured_share)
        dense, unstructured, converted = split_steps(steps, shares)
        return Stage("dense", dense), Stage("unstructured", unstructured), Stage(MAIN, converted)

    def begin_step(self, model: nn.Module, layers: Sequence[SparseLayer], step: int, steps: int) -> None:
        """Prunes where the second stage begins, converts where the third does, with the inputs of the step before."""
        dense, unstructured, converted = self.stages(steps)
        if step == dense.steps + 1:
            keep_largest(layers, float(self.pattern.density))
        last = dense.steps + unstructured.steps
        for layer in layers:
            layer.keeps_inputs = step == last
            if step == last + 1:
                self._convert(layer)
                layer.mask_lasts_steps = converted.steps

    def passes(self, layer: SparseLayer) -> tuple[SparsifyPass, ...]:
        """As ASP's once converted; an unstructured mask leaves nothing to compress."""
        found = super().passes(layer)
        is_converted = layer.is_masked and not check_groups(layer.mask_in_gemm_layout().numpy(), self.pattern, -1).violations
        return found if is_converted else tuple(one for one in found if one.kind != "compress")

    def _convert(self, layer: SparseLayer) -> None:
        """The layer as N:M: the mask, and kept weights refitted to the outputs that it had."""
        assert layer.last_inputs is not None, "the step before kept them"
        weight = layer.to_gemm_layout(layer.weight.detach())
        left = (weight * layer.mask_in_gemm_layout()).numpy()
        mask = nm_mask(left, self.pattern)
        rows = layer.input_rows(layer.last_inputs.float())[:FITTED_ROWS].numpy()
        flat, flat_mask = left.reshape(len(left), -1), mask.reshape(len(left), -1)
        fitted, bias_change = refit_kept_weights(flat, flat_mask, rows)
        layer.weight.copy_(layer.from_gemm_layout(torch.from_numpy(fitted).reshape(left.shape)))
        if layer.bias is not None:
            layer.bias.add_(torch.from_numpy(bias_change))
        layer.last_inputs = None
        layer.keep_mask(torch.from_numpy(mask))
