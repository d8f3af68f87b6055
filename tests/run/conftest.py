"""Traces made by hand from real masks, and the machine they run on."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmsim.arch.load import load_gpu
from nmsim.arch.spec import GpuSpec
from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.mask import nm_mask
from nmsim.sparsity.packing import mask_digest
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.catalogue import WeightStructure, WeightStructures, attention_gemms, linear_gemms
from nmsim.workload.gemm import Gemm, GroupCheck, MaskRecord
from nmsim.workload.trace import Operator, Provenance, SparsifyPass, TileWisePlan, Trace

Mask = np.ndarray
TWO_FOUR = NMPattern(2, 4)


@pytest.fixture(scope="session")
def spec(ampere: Path) -> GpuSpec:
    return load_gpu(ampere)


def both_phases(pattern: NMPattern, forward_axis: int, key: str) -> WeightStructures:
    """A recipe that records one mask for a weight, its groups along `forward_axis`, in both phases that multiply by it."""
    structure = WeightStructure(pattern, forward_axis, key)
    return {"forward": structure, "backward_data": structure}


def record_of(mask: Mask, pattern: NMPattern, payload: bool = True) -> MaskRecord:
    checks = {}
    for axis in {0, mask.ndim - 1}:
        report = check_groups(mask, pattern, axis)
        checks[axis] = GroupCheck(pattern, report.groups, report.violations)
    return MaskRecord(mask.shape, int(mask.sum()) / mask.size, mask_digest(mask), payload, checks)


def trace_of(gemms: list[Gemm], masks: Mapping[str, Mask], pattern: NMPattern = TWO_FOUR, *, payload: bool = True, **others: Any) -> Trace:
    provenance = Provenance("trained", "hand-made", "none", "sr-ste", {}, 0, 1, None, None, {})
    trace = Trace(
        name="hand-made",
        provenance=provenance,
        batch=4,
        dtype=gemms[0].dtype,
        gemms=tuple(gemms),
        masks={key: record_of(mask, pattern, payload) for key, mask in masks.items()},
        payloads=dict(masks) if payload else {},
    )
    return replace(trace, **others)


@pytest.fixture(scope="session")
def structures() -> Callable[..., WeightStructures]:
    return both_phases


@pytest.fixture(scope="session")
def make_trace() -> Callable[..., Trace]:
    return trace_of


@pytest.fixture(scope="session")
def step() -> Trace:
    """A small transformer-like step: two pruned layers, one dense one, attention, operators, passes, tile-wise plans."""
    generator, pattern = np.random.default_rng(5), TWO_FOUR
    masks = {name: nm_mask(generator.normal(size=shape), pattern, 1) for name, shape in (("up", (512, 128)), ("down", (128, 512)))}
    gemms = [
        *linear_gemms("up", 256, 128, 512, "fp16", weight_structure=both_phases(pattern, 1, "up"), repeat=2),
        *linear_gemms("down", 256, 512, 128, "fp16", weight_structure=both_phases(pattern, 1, "down"), repeat=2),
        *linear_gemms("head", 256, 128, 96, "fp16", first=True),
        *attention_gemms("attention", 8, 64, 64, 32, "fp16"),
    ]
    plans = {
        "up": TileWisePlan(128, generator.random(512) < 0.7, generator.random((3, 128)) < 0.7),
        "down": TileWisePlan(128, np.ones(128, dtype=np.bool_), generator.random((1, 512)) < 0.5),
    }
    plans["up"] = replace(plans["up"], rows=plans["up"].rows[: -(-int(plans["up"].columns.sum()) // 128)])
    operators = (
        Operator("norm", "layer_norm", "forward", 65536, 65536, 300_000, 2, True),
        Operator("adam", "adam", "optimizer", 1 << 20, 1 << 20, 2_000_000, 1, False),
    )
    passes = (
        SparsifyPass("search", "mask_search", "up", 131072, 16384, 400_000, every_steps=4),
        SparsifyPass("compress", "compress", "down", 131072, 81920, 100_000),
    )
    return trace_of(gemms, masks, operators=operators, passes=passes, tile_wise={"1/2": plans}, own_density="1/2")
