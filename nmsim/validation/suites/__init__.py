"""The suites, by name: a suite is one file in this package and one row in SUITES; its bars are in `data/suites.yaml`.

A suite's module has one function, `measure(context) -> Measured`: it loads the published rows it is about, simulates
them through `nmsim.api`, and hands back both. Judging is not its business.
"""

from __future__ import annotations

SUITES = {
    "tensor_core": ("nmsim.validation.suites.tensor_core", "matrix instructions of the A100: latency and throughput"),
    "bad_kernels": ("nmsim.validation.suites.bad_kernels", "three deliberately bad GEMM kernels: bank conflicts and copies that block"),
    "memory": ("nmsim.validation.suites.memory", "latency and bandwidth over the working set"),
    "gemm": ("nmsim.validation.suites.gemm", "whole GEMMs, dense and 2:4, on the A100"),
    "gemm_stretched": ("nmsim.validation.suites.gemm_stretched", "weights with 2 zeros in L, slid to 2:4 with a longer reduction"),
    "training": ("nmsim.validation.suites.training", "forward and backward of an MLP with 2:4 weights, pruned and compressed in each step"),
    "power": ("nmsim.validation.suites.power", "large GEMMs against two boards' power limits, one set of energy costs"),
    "gemm_other_gpus": ("nmsim.validation.suites.gemm_other_gpus", "whole GEMMs on the H100, RTX 4090 and RTX 4070 Ti SUPER"),
    "gemm_held_out": ("nmsim.validation.suites.gemm_held_out", "GEMMs of a language model whose times nothing was fitted to or chosen by"),
    "tile_wise": ("nmsim.validation.suites.tile_wise", "tile-wise pruning on the V100, and the imbalance of unequal tiles"),
    "systolic": ("nmsim.validation.suites.systolic", "compute cycles of systolic arrays against SCALE-Sim, to the cycle"),
    "monotone": ("nmsim.validation.suites.monotone", "200 random GEMMs on better machines: none may be slower"),
}
"""Name -> (module, one line of what is compared); in the order in which they run."""

ONLY_WHEN_NAMED = ("gemm_held_out",)
"""Suites that a run without names leaves out: a second look, with bars of our own."""
