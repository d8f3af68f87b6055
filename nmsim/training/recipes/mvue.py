"""MVUE: dense weights, and an unbiased N:M estimate of dY along the tokens, so that `backward_weight` runs sparse.

Chmiel et al., ICLR 2023 (arXiv 2203.10991): 1:2 suffices in most cases, 2:4 where it does not. `backward_data` keeps the dense dY.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from nmsim.sparsity.pattern import NMPattern
from nmsim.training.gradient_sampling import require_estimator, sampled
from nmsim.training.recipes.passes import sample_pass
from nmsim.training.recipes.recipe import Recipe
from nmsim.workload.trace import SparsifyPass

if TYPE_CHECKING:
    from nmsim.training.layers import SparseLayer

_OPERATIONS = {"exact": 6, "approximate": 12, "greedy": 3}
"""Operations an element: sums, divisions, one or two random numbers a group, comparisons; a count of the definitions."""


@dataclass(frozen=True)
class Mvue(Recipe):
    """`estimator`: exact, approximate (the published kernel's, 2:M), or greedy (biased, for comparison)."""

    estimator: str = "exact"

    def __post_init__(self) -> None:
        require_estimator(self.estimator, self.pattern)

    @property
    def gradient_pattern(self) -> NMPattern:
        """The recipe's own."""
        return self.pattern

    def output_gradient(self, layer: SparseLayer, gradient: Tensor) -> Tensor:
        """dY with at most N of each M consecutive tokens of an output."""
        return sampled_gradient(layer, gradient, self.pattern, self.estimator)

    def passes(self, layer: SparseLayer) -> tuple[SparsifyPass, ...]:
        """The sampling, in every step."""
        return (mvue_pass(layer, self.pattern, self.estimator),)


def sampled_gradient(layer: SparseLayer, gradient: Tensor, pattern: NMPattern, estimator: str) -> Tensor:
    """dY of a layer made N:M along the tokens, in the layer's own layout."""
    return layer.from_rows(sampled(layer.to_rows(gradient), pattern, estimator, layer.generator), gradient)


def mvue_pass(layer: SparseLayer, pattern: NMPattern, estimator: str) -> SparsifyPass:
    """The sampling pass of a layer, for the tokens that it last saw."""
    return sample_pass(layer.path, layer.tokens, layer.weight.shape[0], pattern, _OPERATIONS[estimator])
