"""Watches a run: which masks changed, what they keep, and what sparsifying a gradient costs, at some forty of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import log10, prod

import torch
from torch import Tensor

from nmsim.sparsity.metrics import mask_diversity, transposable_mask_diversity, transposable_mask_diversity_formula
from nmsim.sparsity.pattern import NMPattern
from nmsim.training.gradient_sampling import gradient_statistics
from nmsim.training.layers import SparseLayer
from nmsim.training.recipes.transposable import Transposable
from nmsim.workload.history import History

OBSERVED_STEPS = 40
"""About how many steps of a run are observed."""
LARGEST_COUNTED_M = 8
_OF_MASKS = ("sad", "flip_rate", "retained_magnitude")


class Observer:
    """Collects the history of a run; observed steps are evenly spaced, and the first and the last are among them."""

    def __init__(self, layers: Mapping[str, SparseLayer], steps: int) -> None:
        self._layers, self._steps = layers, steps
        self._every = max(1, round(steps / OBSERVED_STEPS))
        self._masks: dict[str, Tensor] = {}
        self._step: list[int] = []
        self._lines: dict[str, list[float]] = {"loss": [], "accuracy": [], "flip_rate": []}
        self._series: dict[str, dict[str, list[float]]] = {name: {} for name in layers}

    def before_step(self, step: int) -> None:
        """Puts watchers on the gradients where `step` is observed."""
        if not self._observes(step):
            return
        for name, layer in self._layers.items():
            pattern = layer.recipe.gradient_pattern
            if pattern is not None:
                layer.gradient_observer = partial(self._add_gradient, name, pattern)

    def after_step(self, step: int, loss: float, accuracy: float, flip_rate: float) -> None:
        """Adds a row where `step` is observed."""
        if not self._observes(step):
            return
        self._step.append(step)
        for name, value in (("loss", loss), ("accuracy", accuracy), ("flip_rate", flip_rate)):
            self._lines[name].append(_short(value))
        for name, layer in self._layers.items():
            layer.gradient_observer = None
            self._add_mask(name, layer)

    def history(self) -> History:
        """What was seen; nothing of masks for a layer that never had one."""
        layers = {
            name: {metric: values for metric, values in series.items() if name in self._masks or metric not in _OF_MASKS}
            for name, series in self._series.items()
        }
        diversity = {name: _diversity(layer) for name, layer in self._layers.items() if name in self._masks}
        return History(self._step, layers=layers, mask_diversity_log10=diversity, **self._lines)

    def _observes(self, step: int) -> bool:
        return step in (1, self._steps) or step % self._every == 0

    def _add_gradient(self, name: str, pattern: NMPattern, rows: Tensor) -> None:
        for metric, value in gradient_statistics(rows, pattern).items():
            self._add(name, metric, value)

    def _add_mask(self, name: str, layer: SparseLayer) -> None:
        magnitudes = layer.weight.detach().abs()
        mask = layer.weight_mask if layer.weight_mask is not None else torch.ones_like(magnitudes, dtype=torch.bool)
        changed = torch.count_nonzero(mask != self._masks[name]) if name in self._masks else 0
        if layer.is_masked or name in self._masks:
            self._masks[name] = mask
        self._add(name, "sad", float(changed))
        self._add(name, "flip_rate", layer.flipped / mask.numel())
        self._add(name, "retained_magnitude", float((magnitudes * mask).sum() / magnitudes.sum().clamp_min(1e-30)))

    def _add(self, name: str, metric: str, value: float) -> None:
        self._series[name].setdefault(metric, []).append(_short(value))


def _diversity(layer: SparseLayer) -> dict[str, float]:
    """log10 of the masks that the pattern admits for this layer, over its whole blocks: by formula, and counted where it can be."""
    pattern, shape = layer.recipe.pattern, layer.to_gemm_layout(layer.weight).shape
    m = pattern.m
    if not isinstance(layer.recipe, Transposable):
        groups = prod(shape) // shape[-1] * (shape[-1] // m)
        counted = groups * log10(mask_diversity(m, pattern))
        return {"formula": _short(counted), "exact": _short(counted)}
    blocks = prod(shape) // (shape[0] * shape[-1]) * (shape[0] // m) * (shape[-1] // m)
    found = {"formula": _short(blocks * log10(transposable_mask_diversity_formula(m * m, pattern)))}
    # Beyond, counting does not end in seconds.
    if m <= LARGEST_COUNTED_M:
        found["exact"] = _short(blocks * log10(transposable_mask_diversity(m * m, pattern)))
    return found


def _short(value: float) -> float:
    """Six significant digits: what a plot shows, in a file of a few kilobytes."""
    return float(f"{value:.6g}")
