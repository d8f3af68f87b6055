"""`trace show` adds up what is there; `trace check` finds what is odd and stays silent where nothing is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from nmsim.workload.store import write_trace
from nmsim.workload.summary import check_trace, summarise_trace
from nmsim.workload.trace import TileWisePlan


@pytest.fixture
def sound(tiny, tmp_path):
    """The tiny trace with a plan of exactly one half, beside the traces that its schedule names."""
    rows = np.zeros((2, 12), dtype=bool)
    rows[:, :6] = True
    plan = TileWisePlan(4, np.ones(8, dtype=bool), rows)
    trace = replace(tiny, tile_wise={"1/2": {"fc1": plan}})
    write_trace(trace, tmp_path / "dense.nmtrace")
    return trace, write_trace(trace, tmp_path / "tiny.nmtrace")


def test_a_summary_is_plain_json(tiny) -> None:
    assert json.loads(json.dumps(summarise_trace(tiny))) == summarise_trace(tiny) | {
        "provenance": json.loads(json.dumps(summarise_trace(tiny)["provenance"]))
    }


def test_phases_add_up_to_the_step_repeats_included(tiny) -> None:
    phases = summarise_trace(tiny)["phases"]
    assert sum(phase["macs"] for phase in phases.values()) == sum(gemm.macs * gemm.repeat for gemm in tiny.gemms)
    assert sum(phase["gemms"] for phase in phases.values()) == sum(gemm.repeat for gemm in tiny.gemms)
    assert all(phase["usable_sparse_macs"] <= phase["macs"] for phase in phases.values())


def test_a_forward_recipe_is_usable_forward_and_transposable_masks_backward_too(tiny) -> None:
    phases = summarise_trace(tiny)["phases"]
    assert phases["forward"]["usable_sparse_gemms"] == 1 + 1 + 2 + 1, "conv, fc1, fc2 twice, fc3"
    assert phases["backward_data"]["usable_sparse_gemms"] == 1, "fc1 alone"
    assert phases["backward_weight"]["usable_sparse_gemms"] == 1, "the MVUE gradient of fc1"
    assert phases["backward_weight"]["structures"] == ["gradient nm 2:4"]


def test_payload_sizes_are_those_of_the_file(tiny, folder) -> None:
    sizes = {key: mask["payload_bytes"] for key, mask in summarise_trace(tiny)["masks"].items()}
    assert sizes == {"conv.weight": 72, "fc1.gradient": 8, "fc1.weight": 16, "fc2.weight": 16, "fc3.weight": 0}


def test_the_kept_share_of_a_plan_is_counted_element_by_element(tiny) -> None:
    plan = tiny.tile_wise["1/2"]["fc1"]
    kept_columns = np.flatnonzero(plan.columns)
    kept = sum(int(plan.rows[tile].sum()) for tile in (np.arange(kept_columns.size) // plan.tile_width))
    assert summarise_trace(tiny)["tile_wise"]["1/2"]["kept_share"] == pytest.approx(kept / (8 * 12))


def test_a_sound_trace_has_no_findings(sound) -> None:
    assert check_trace(sound[1]) == []


def test_a_lie_is_a_finding_and_hides_lesser_ones(sound) -> None:
    file = sound[1] / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["gemms"][0]["macs"] += 1
    manifest["own_density"] = "1/4"
    file.write_text(json.dumps(manifest))
    (finding,) = check_trace(sound[1])
    assert "gemms['conv:forward'].macs: is not the hand count" in finding


def test_what_can_not_be_read_is_a_finding(tmp_path) -> None:
    (finding,) = check_trace(tmp_path / "absent.nmtrace")
    assert "there is no such trace" in finding


def test_a_weight_that_breaks_its_own_pattern_is_found_and_its_module_named(sound, honest_record) -> None:
    trace, folder = sound
    mask = trace.payloads["fc2.weight"].copy()
    mask[5, 4:8] = True
    record = honest_record(mask, 0, 1)
    broken = replace(trace, masks={**trace.masks, "fc2.weight": record}, payloads={**trace.payloads, "fc2.weight": mask})
    write_trace(broken, folder)
    (finding,) = check_trace(folder)
    assert finding.endswith("gemms['fc2:forward'].b: group 1 of row 5 keeps 4 of 4: broken 2:4: this GEMM of fc2 runs dense")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda trace: {"own_density": "1/4"}, "own_density: there is no tile-wise plan at 1/4"),
        (
            lambda trace: {"masks": {**trace.masks, "spare": replace(trace.masks["fc3.weight"])}},
            "masks['spare']: no operand names this mask",
        ),
        (lambda trace: {"schedule": ({"steps": 1, "trace": "gone.nmtrace"},)}, "schedule[0].trace: there is no gone.nmtrace"),
        (lambda trace: {"tile_wise": {**trace.tile_wise, "1/8": trace.tile_wise["1/2"]}}, "tile_wise['1/8']: the plans keep 0.5000"),
    ],
)
def test_what_is_legal_and_surely_not_meant_is_found(sound, change, message) -> None:
    trace, folder = sound
    write_trace(replace(trace, **change(trace)), folder)
    (finding,) = check_trace(folder)
    assert message in finding
