"""FST: all three products sparse. Transposable weights, MVUE gradients, masked decay on gradients, and a dense tail.

Hu et al., ICML 2024 (arXiv 2404.01847): W transposable 2:4, refreshed every 40 steps; dY sampled 2:4 for `backward_weight`;
g + decay (1 - mask) w, which under Adam must act on the gradient; the last sixth of the steps dense. The authors prune the
feed-forward layers; here the layers of `nmsim.training.selection` are pruned, as for every recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from nmsim.sparsity.pattern import NMPattern
from nmsim.training.gradient_sampling import require_estimator
from nmsim.training.recipes.mvue import mvue_pass, sampled_gradient
from nmsim.training.recipes.passes import decay_pass
from nmsim.training.recipes.sr_ste import decayed
from nmsim.training.recipes.transposable import Transposable
from nmsim.training.stages import MAIN, Stage, split_steps, stage_of
from nmsim.workload.trace import SparsifyPass

if TYPE_CHECKING:
    from nmsim.training.layers import SparseLayer


@dataclass(frozen=True)
class Fst(Transposable):
    """`decay` is the authors' lambda for GPT-2 124M; `dense_tail` the share of the steps, at the end, that are dense."""

    decay: float = 6e-5
    estimator: str = "exact"
    dense_tail: float = 1 / 6

    def __post_init__(self) -> None:
        super().__post_init__()
        require_estimator(self.estimator, self.pattern)

    @property
    def gradient_pattern(self) -> NMPattern:
        """The recipe's own; the dense tail's dY is dense, and the recorder sees it."""
        return self.pattern

    def stages(self, steps: int) -> tuple[Stage, ...]:
        """Sparse, then dense."""
        if self.dense_tail <= 0:
            return (Stage(MAIN, steps),)
        sparse, dense = split_steps(steps, (1 - self.dense_tail, self.dense_tail))
        return Stage(MAIN, sparse), Stage("dense_tail", dense)

    def begin_step(self, model: nn.Module, layers: Sequence[SparseLayer], step: int, steps: int) -> None:
        """Searches masks in the sparse stage, drops them in the dense one."""
        if stage_of(self.stages(steps), step).name == MAIN:
            super().begin_step(model, layers, step, steps)
            return
        for layer in layers:
            layer.drop_masks()

    def output_gradient(self, layer: SparseLayer, gradient: Tensor) -> Tensor:
        """The sampled dY of the sparse stage."""
        return sampled_gradient(layer, gradient, self.pattern, self.estimator) if layer.is_masked else gradient

    def weight_gradient(self, layer: SparseLayer, weight: Tensor, gradient: Tensor) -> Tensor:
        """g + decay (1 - mask) w in the sparse stage."""
        return decayed(layer, weight, gradient, self.decay) if layer.is_masked else gradient

    def passes(self, layer: SparseLayer) -> tuple[SparsifyPass, ...]:
        """A transposable mask's, the sampling and the decay; none in the dense tail."""
        if not layer.is_masked:
            return ()
        shape = layer.to_gemm_layout(layer.weight).shape
        return (*super().passes(layer), mvue_pass(layer, self.pattern, self.estimator), decay_pass(layer.path, shape))
