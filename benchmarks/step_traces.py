"""Shapes-only traces of training steps that nobody trains on a laptop, with 2:4 forward weights and tile-wise plans."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.tile_wise import plan_network
from nmsim.workload.catalogue import WeightStructure, WeightStructures, attention_gemms, conv_gemms, linear_gemms
from nmsim.workload.gemm import ConvGeometry, Gemm
from nmsim.workload.trace import Operator, Provenance, TileWisePlan, Trace

DTYPE = "bf16"
TWO_OF_FOUR = NMPattern(2, 4)
TILE_WIDTH = 128

Weights = dict[str, NDArray[np.float32]]


def bert_step(layers: int, hidden: int, feed_forward: int, heads: int, batch: int, tokens: int) -> Trace:
    """One step of an encoder; its layers are alike and share their plans."""
    rng = np.random.default_rng(0)
    forward: WeightStructures = {"forward": WeightStructure(TWO_OF_FOUR, 1)}
    linears = dict.fromkeys(("query", "key", "value", "output"), (hidden, hidden))
    linears |= {"up": (hidden, feed_forward), "down": (feed_forward, hidden)}
    plans = plan_network({name: rng.standard_normal(shape).astype(np.float32) for name, shape in linears.items()}, 0.5)
    gemms: list[Gemm] = []
    tile_wise = {}
    for layer in range(layers):
        for name, (inputs, outputs) in linears.items():
            gemms += linear_gemms(f"{layer}.{name}", batch * tokens, inputs, outputs, DTYPE, weight_structure=forward)
            tile_wise[f"{layer}.{name}"] = TileWisePlan(TILE_WIDTH, *plans[name])
        gemms += attention_gemms(f"{layer}.attention", batch * heads, tokens, tokens, hidden // heads, DTYPE)
    moved = batch * tokens * hidden * 2
    norms = (Operator("norm", "layer_norm", "forward", moved, moved, 3 * moved, 2 * layers, True),)
    return _trace(f"bert-{layers}x{hidden}", batch, gemms, norms, tile_wise)


def resnet50_step(batch: int) -> Trace:
    """One step of ResNet-50 on 224 x 224 images."""
    rng = np.random.default_rng(0)
    gemms: list[Gemm] = []
    weights: Weights = {}

    def convolution(name: str, size: int, inputs: int, outputs: int, kernel: int, stride: int) -> int:
        geometry = ConvGeometry(batch, size, size, inputs, outputs, kernel, kernel, stride, stride, kernel // 2, kernel // 2)
        first = name == "stem"
        gemms.extend(
            conv_gemms(name, geometry, DTYPE, first, weight_structure=None if first else {"forward": WeightStructure(TWO_OF_FOUR, 3)})
        )
        if not first:
            weights[name] = rng.standard_normal((kernel * kernel * inputs, outputs)).astype(np.float32)
        return geometry.out_height

    convolution("stem", 224, 3, 64, 7, 2)
    size, channels = 56, 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            name = f"stage{stage}.{block}"
            convolution(f"{name}.reduce", size, channels, width, 1, 1)
            if not block:
                convolution(f"{name}.shortcut", size, channels, 4 * width, 1, stride)
            size = convolution(f"{name}.spatial", size, width, width, 3, stride)
            convolution(f"{name}.expand", size, width, 4 * width, 1, 1)
            channels = 4 * width
    gemms += linear_gemms("classifier", batch, channels, 1000, DTYPE)
    tile_wise = {name: TileWisePlan(TILE_WIDTH, *plan) for name, plan in plan_network(weights, 0.5).items()}
    return _trace("resnet50", batch, gemms, (), tile_wise)


def _trace(name: str, batch: int, gemms: list[Gemm], operators: tuple[Operator, ...], plans: dict[str, TileWisePlan]) -> Trace:
    origin = Provenance("shapes-only", name, "none", "sr-ste", {}, 0, 0, None, None, {})
    return Trace(name, origin, batch, DTYPE, tuple(gemms), operators, (), {}, {}, {"1/2": plans}, "1/2")
