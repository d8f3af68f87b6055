"""Recorded products and convolutions as `Gemm` entries with their operands' structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.tile_wise import mask_of_plan
from nmsim.training.layers import SparseLayer
from nmsim.training.recorder.capture import Convolution
from nmsim.training.recorder.convolutions import stored_filters
from nmsim.training.recorder.mask_finder import MaskFinder, weight_path
from nmsim.training.recorder.matrix import Matrix
from nmsim.training.recorder.origins import CONSTANT, DATA
from nmsim.training.recorder.products import Product
from nmsim.training.recorder.structure import MaskShelf, structured_activation
from nmsim.workload.gemm import Gemm, Operand, Phase
from nmsim.workload.shapes import batch_axis_of, conv_dimensions, conv_operands, hand_count_macs
from nmsim.workload.trace import TileWisePlan


@dataclass(frozen=True)
class Entry:
    """A GEMM before it has its id: which forward product it belongs to, and which side's gradient it is."""

    source: int
    side: str
    gemm: Gemm


class Assembler:
    """Takes products and convolutions as they come and keeps entries, masks and, for the tile-wise baseline, master weights."""

    def __init__(self, model: nn.Module, masks: Mapping[str, Any], pattern: NMPattern | None, keep_weights: bool) -> None:
        self.shelf = MaskShelf()
        self.weights: dict[str, NDArray[np.float32]] = {}
        self.pruned: set[str] = set()
        self.tile_wise: dict[str, tuple[str, TileWisePlan]] = {}
        self._entries: list[Entry] = []
        self._finder = MaskFinder(model, masks)
        self._pattern, self._keep_weights = pattern, keep_weights
        self._modules = dict(model.named_modules())
        self._parameters = dict(model.named_parameters())

    def take_product(self, product: Product) -> None:
        """Adds a matrix product."""
        a_axes, a_shape = product.a.stored_axes("m", "k")
        b_axes, b_shape = product.b.stored_axes("k", "n")
        a = self._operand(Operand(product.a_role, a_axes, a_shape), product.a, product, "a")
        b = self._operand(Operand(product.b_role, b_axes, b_shape), product.b, product, "b")
        m, k, n = product.a.rows, product.a.columns, product.b.columns
        batch = product.a.batch or 1
        gemm = Gemm(
            "", product.module, product.phase, m, n, k, batch, product.dtype, product.out_dtype, a, b, m * n * k * batch, product.batch_axis
        )
        self._entries.append(Entry(product.source, product.side, gemm))
        if product.phase == "forward" and product.b_role == "weight" and product.b.batch is None:
            self._keep_weight(product.module, product.b.origin, b_axes == ("k", "n"))

    def take_convolution(self, event: Convolution) -> None:
        """Adds one GEMM of a convolution."""
        a, b = conv_operands(event.phase, event.geometry)
        if event.phase == "backward_weight":
            # Pixels that several taps read in turn lie in no fixed group: of X nothing can be used, of dY the pixels are the reduction.
            pixels = _as_numpy(event.moving.movedim(1, -1).flatten(0, -2) != 0)
            a = structured_activation(a, f"{event.module}#{event.source}:dY", pixels, self.shelf, self._gradient_pattern(event.module))
        elif event.parameter is not None:
            b = self._weight_operand(b, event.parameter, event.module, event.phase, stored_filters(event.weight), convolution=True)
        m, n, k, groups = conv_dimensions(event.phase, event.geometry)
        macs = hand_count_macs(event.phase, (m, n, k, groups), event.geometry)
        axis = batch_axis_of(event.phase)
        gemm = Gemm("", event.module, event.phase, m, n, k, groups, event.dtype, event.out_dtype, a, b, macs, axis, event.geometry)
        self._entries.append(Entry(event.source, "", gemm))
        if event.phase == "forward" and event.parameter is not None and groups == 1:
            self._keep_weight(event.module, event.parameter, False)

    def gemms(self) -> tuple[Gemm, ...]:
        """All entries in order, each with an id: `module:phase`, numbered where a module multiplies more than once."""
        numbers: dict[str, dict[int, int]] = {}
        for entry in self._entries:
            within = numbers.setdefault(entry.gemm.module, {})
            within.setdefault(entry.source, len(within))
        named = []
        for entry in self._entries:
            module = entry.gemm.module
            number = f"#{numbers[module][entry.source]}" if len(numbers[module]) > 1 else ""
            side = f":{entry.side}" if entry.side else ""
            named.append(replace(entry.gemm, id=f"{module}{number}:{entry.gemm.phase}{side}"))
        return tuple(named)

    def _operand(self, operand: Operand, matrix: Matrix, product: Product, side: str) -> Operand:
        if operand.role == "weight" and matrix.origin not in (DATA, CONSTANT):
            return self._weight_operand(operand, matrix.origin, product.module, product.phase, matrix.stored, convolution=False)
        if operand.role != "weight" and matrix.batch is None:
            key = f"{product.module}#{product.source}:{product.phase}:{side}"
            is_sampled = product.phase == "backward_weight" and operand.role == "gradient"
            stated = self._gradient_pattern(product.module) if is_sampled else None
            return structured_activation(operand, key, _as_numpy(matrix.stored != 0), self.shelf, stated)
        return operand

    def _weight_operand(self, operand: Operand, parameter: str, module: str, phase: Phase, stored: Tensor, convolution: bool) -> Operand:
        mask = _as_numpy(self._finder.find(parameter, phase, stored, convolution))
        owner = self._modules.get(module)
        if isinstance(owner, SparseLayer) and owner.tile_wise is not None:
            self.pruned.add(module)
            self.tile_wise[module] = owner.tile_wise
            # The plan says what the tiles keep; a mask is needed only for what lies outside them.
            key = None if _obeys(mask, owner.tile_wise[1]) else self.shelf.shelve(weight_path(parameter), mask, {}, of_a_weight=True)
            return replace(operand, structure="tile_wise", mask=key)
        stated = owner.recipe.pattern if isinstance(owner, SparseLayer) else self._pattern
        structured = self.shelf.structured(operand, weight_path(parameter), mask, stated)
        if structured.structure != "dense":
            self.pruned.add(module)
        return structured

    def _gradient_pattern(self, module: str) -> NMPattern | None:
        """What the recipe of a layer says of its sampled dY; None where nobody says anything."""
        owner = self._modules.get(module)
        return owner.recipe.gradient_pattern if isinstance(owner, SparseLayer) else None

    def _keep_weight(self, module: str, parameter: str, is_k_by_n: bool) -> None:
        """The master weight of a layer as [K, N], K in (R, S, C) order for a convolution."""
        master = self._parameters[parameter].detach().float()
        if not self._keep_weights or module in self.weights or master.dim() < 2:
            return
        if master.dim() > 2:
            master = stored_filters(master).flatten(1)
        self.weights[module] = _as_numpy(master if is_k_by_n else master.t()).copy()


def _obeys(mask: NDArray[np.bool_], plan: TileWisePlan) -> bool:
    """True where a weight is zero wherever the plan, of W[K, N], prunes it."""
    allowed = mask_of_plan(plan.columns, plan.rows, plan.tile_width)
    # Stored [O, ...] in every layer of nmsim's own: outputs first.
    return not bool((mask.reshape(mask.shape[0], -1) & ~allowed.T).any())


def _as_numpy(tensor: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.cpu().numpy())
