"""A small trace with one of everything: legal in one phase, in two, broken honestly, dynamic, without payload, tile-wise."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.mask import nm_mask
from nmsim.sparsity.packing import mask_digest
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.catalogue import WeightStructure, WeightStructures, attention_gemms, conv_gemms, linear_gemms
from nmsim.workload.gemm import ConvGeometry, GroupCheck, MaskRecord
from nmsim.workload.store import read_trace, write_trace
from nmsim.workload.trace import Operator, Provenance, SparsifyPass, TileWisePlan, Trace

TWO_FOUR = NMPattern(2, 4)
TRANSPOSABLE_BLOCK = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], dtype=bool)


def record_of(mask: np.ndarray, *axes: int, pattern: NMPattern = TWO_FOUR, payload: bool = True) -> MaskRecord:
    """The honest record of a mask, with the check of each of `axes`."""
    checks = {}
    for axis in axes:
        report = check_groups(mask, pattern, axis)
        checks[axis] = GroupCheck(pattern, report.groups, report.violations)
    return MaskRecord(mask.shape, int(mask.sum()) / mask.size, mask_digest(mask), payload, checks)


def build_trace() -> Trace:
    rng = np.random.default_rng(7)
    geometry = ConvGeometry(4, 6, 6, 4, 8, 3, 3, stride_h=2, stride_w=2, pad_h=1, pad_w=1)
    both: WeightStructures = {
        "forward": WeightStructure(TWO_FOUR, 1, "fc1.weight"),
        "backward_data": WeightStructure(TWO_FOUR, 0, "fc1.weight"),
    }
    one_way: WeightStructures = {
        "forward": WeightStructure(TWO_FOUR, 1, "fc2.weight"),
        "backward_data": WeightStructure(TWO_FOUR, 1, "fc2.weight"),
    }
    filters: WeightStructures = {
        "forward": WeightStructure(TWO_FOUR, 3, "conv.weight"),
        "backward_data": WeightStructure(TWO_FOUR, 3, "conv.weight"),
    }
    absent: WeightStructures = {"forward": WeightStructure(TWO_FOUR, 1, "fc3.weight")}
    fc1 = linear_gemms("fc1", 8, 12, 8, "fp16", weight_structure=both)
    gradient = replace(fc1[2].a, structure="nm", pattern=TWO_FOUR, group_axis=0, mask="fc1.gradient")
    fc1[2] = replace(fc1[2], a=gradient)
    payloads = {
        "conv.weight": nm_mask(rng.normal(size=(8, 3, 3, 4)), TWO_FOUR, 3),
        "fc1.gradient": nm_mask(rng.normal(size=(8, 8)), TWO_FOUR, 0),
        "fc1.weight": np.tile(TRANSPOSABLE_BLOCK, (2, 3)),
        "fc2.weight": nm_mask(rng.normal(size=(16, 8)), TWO_FOUR, 1),
    }
    left_out = nm_mask(rng.normal(size=(4, 16)), TWO_FOUR, 1)
    masks = {
        "conv.weight": record_of(payloads["conv.weight"], 0, 3),
        "fc1.gradient": record_of(payloads["fc1.gradient"], 0),
        "fc1.weight": record_of(payloads["fc1.weight"], 0, 1),
        "fc2.weight": record_of(payloads["fc2.weight"], 0, 1),
        "fc3.weight": record_of(left_out, 1, payload=False),
    }
    columns = np.array([1, 1, 0, 1, 1, 0, 1, 1], dtype=bool)
    plan = TileWisePlan(4, columns, rng.random((2, 12)) < 0.6)
    return Trace(
        name="tiny",
        provenance=Provenance(
            kind="trained",
            model="tiny",
            dataset="digits",
            recipe="sr-ste",
            hyper_parameters={"learning_rate": 0.1, "betas": [0.9, 0.999], "decay": {"on": True, "lambda": 2e-4}},
            seed=3,
            step=100,
            loss=0.25,
            accuracy=0.9,
            versions={"torch": "2.13", "numpy": "2.4"},
            command="nmsim train tiny",
            notes=("first", "second"),
        ),
        batch=4,
        dtype="fp16",
        gemms=(
            *conv_gemms("conv", geometry, "fp16", weight_structure=filters),
            *fc1,
            *linear_gemms("fc2", 8, 8, 16, "fp16", weight_structure=one_way, out_dtype="fp32", repeat=2),
            *linear_gemms("fc3", 8, 16, 4, "fp16", weight_structure=absent),
            *attention_gemms("attention", 8, 5, 7, 6, "fp16"),
        ),
        operators=(
            Operator("norm", "layer_norm", "forward", 100, 101, 300, 2, True),
            Operator("adam", "adam", "optimizer", 7, 8, 9, 1, False),
        ),
        passes=(
            SparsifyPass("search", "mask_search", "fc1", 40, 20, 60, every_steps=10),
            SparsifyPass("mvue", "mvue_sample", "fc1", 30, 15, 90, scales_with_batch=True),
        ),
        masks=masks,
        payloads=payloads,
        tile_wise={"1/2": {"fc1": plan}},
        own_density="1/2",
        schedule=({"steps": 90, "trace": "dense.nmtrace"}, {"steps": 10, "trace": "tiny.nmtrace"}),
    )


def normal_form(trace: Trace) -> dict[str, Any]:
    """All that a trace says, arrays as bytes, so that two traces compare with ==."""
    fields = dict(vars(trace))
    fields["payloads"] = {key: (mask.shape, mask.dtype.str, mask.tobytes()) for key, mask in trace.payloads.items()}
    fields["tile_wise"] = {
        density: {
            module: (plan.tile_width, plan.columns.shape, plan.columns.tobytes(), plan.rows.shape, plan.rows.tobytes())
            for module, plan in plans.items()
        }
        for density, plans in trace.tile_wise.items()
    }
    return fields


@pytest.fixture(scope="session")
def tiny() -> Trace:
    return build_trace()


@pytest.fixture(scope="session")
def normal() -> Callable[[Trace], dict[str, Any]]:
    return normal_form


@pytest.fixture(scope="session")
def honest_record() -> Callable[..., MaskRecord]:
    return record_of


@pytest.fixture
def folder(tiny: Trace, tmp_path: Path) -> Path:
    """The tiny trace, written."""
    return write_trace(tiny, tmp_path / "tiny.nmtrace")


@pytest.fixture
def edited(folder: Path) -> Callable[[Callable[[Any], None]], Trace]:
    """Reads the tiny trace back after `edit` changed its manifest."""

    def read_after(edit: Callable[[Any], None]) -> Trace:
        file = folder / "manifest.json"
        manifest = json.loads(file.read_text())
        edit(manifest)
        file.write_text(json.dumps(manifest))
        return read_trace(folder)

    return read_after
