"""A network of one small layer, recorded with three recipes: sweeps of it take milliseconds a point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.mask import nm_mask
from nmsim.sparsity.packing import mask_digest
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.catalogue import WeightStructure, linear_gemms
from nmsim.workload.gemm import GroupCheck, MaskRecord, Phase
from nmsim.workload.store import write_trace
from nmsim.workload.trace import Operator, Provenance, SparsifyPass, TileWisePlan, Trace


def recorded(name: str, recipe: str, pattern: str | None, outputs: int = 128) -> Trace:
    """The step of a layer of 128 inputs at a batch of 8, its weight dense or pruned N:M along the inputs."""
    weight = np.random.default_rng(3).normal(size=(outputs, 128))
    structures: dict[Phase, WeightStructure] = {}
    masks, payloads, passes = {}, {}, []
    if pattern is not None:
        group = NMPattern.parse(pattern)
        mask = nm_mask(weight, group, 1)
        report = check_groups(mask, group, 1)
        checks = {1: GroupCheck(group, report.groups, report.violations)}
        masks["fc"] = MaskRecord(mask.shape, int(mask.sum()) / mask.size, mask_digest(mask), True, checks)
        payloads["fc"] = mask
        structures = {"forward": WeightStructure(group, 1, "fc")}
        passes = [SparsifyPass("search", "mask_search", "fc", 32768, 2048, 50_000)]
    plan = TileWisePlan(128, np.ones(outputs, dtype=np.bool_), np.arange(128) % 2 == np.arange(-(-outputs // 128))[:, None] % 2)
    return Trace(
        name=name,
        provenance=Provenance("trained", "one-layer", "noise", recipe, {}, 0, 1, 0.5, 0.9 if pattern is None else 0.8, {}),
        batch=8,
        dtype="fp16",
        gemms=tuple(linear_gemms("fc", 256, 128, outputs, "fp16", weight_structure=structures)),
        operators=(Operator("relu", "relu", "forward", 65536, 65536, 32768, 1, True),),
        passes=tuple(passes),
        masks=masks,
        payloads=payloads,
        tile_wise={"1/2": {"fc": plan}},
        own_density=None if pattern is None else str(NMPattern.parse(pattern).density),
    )


@pytest.fixture(scope="session")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two stages: `layer_fst_2to4`, 90 steps 2:4 (a step of which is recorded), and its dense tail of 10."""
    folder = tmp_path_factory.mktemp("staged")
    names = ("layer_fst_2to4", "layer_fst_2to4-dense_tail")
    schedule = tuple({"steps": steps, "trace": name} for steps, name in zip((90, 10), names, strict=True))
    write_trace(replace(recorded(names[0], "fst", "2:4"), schedule=schedule), folder / f"{names[0]}.nmtrace")
    write_trace(recorded(names[1], "fst", None), folder / f"{names[1]}.nmtrace")
    return folder


@pytest.fixture(scope="session")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `layer_dense`, `layer_sr_ste_2to4`, `layer_mvue_1to4` (one network) and `wide_sr_ste_2to4` (another)."""
    folder = tmp_path_factory.mktemp("traces")
    write_trace(recorded("layer_dense", "dense", None), folder / "layer_dense.nmtrace")
    write_trace(recorded("layer_sr_ste_2to4", "sr-ste", "2:4"), folder / "layer_sr_ste_2to4.nmtrace")
    write_trace(recorded("layer_mvue_1to4", "mvue", "1:4"), folder / "layer_mvue_1to4.nmtrace")
    write_trace(recorded("wide_sr_ste_2to4", "sr-ste", "2:4", outputs=256), folder / "wide_sr_ste_2to4.nmtrace")
    return folder
