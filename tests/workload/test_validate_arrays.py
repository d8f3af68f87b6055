"""A trace in memory is held against its own arrays before it is written, and every contradiction is listed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmsim.errors import InputError
from nmsim.workload.store import write_trace
from nmsim.workload.trace import TileWisePlan
from nmsim.workload.validate import trace_findings


def texts(trace) -> list[str]:
    return [str(finding) for finding in trace_findings(trace)]


def plan_of(columns: int, tiles: int, rows: int, width: int = 4) -> dict[str, dict[str, TileWisePlan]]:
    return {"1/2": {"fc1": TileWisePlan(width, np.ones(columns, dtype=bool), np.ones((tiles, rows), dtype=bool))}}


def test_a_sound_trace_has_nothing_to_say(tiny) -> None:
    assert texts(tiny) == []
    assert texts(replace(tiny, tile_wise=plan_of(8, 2, 12))) == []


@pytest.mark.parametrize(
    ("plans", "message"),
    [
        (plan_of(12, 3, 12), "tile_wise['1/2']['fc1'].columns: the weight of this module has 8, got 12"),
        (plan_of(8, 2, 8), "tile_wise['1/2']['fc1'].rows: the weight of this module has 12, got 8"),
        (plan_of(8, 1, 12), "tile_wise['1/2']['fc1'].tiles: is not the number of tiles, got 1; 8 kept columns make 2 tiles of 4"),
        (plan_of(8, 2, 12, width=0), "tile_wise['1/2']['fc1'].tile_width: a tile is at least one column wide, got 0"),
        (
            {"1/2": {"fc1": TileWisePlan(4, np.ones((8, 1), dtype=bool), np.ones((2, 12), dtype=bool))}},
            "tile_wise['1/2']['fc1']: a plan is columns bool [N] and rows bool [tiles, K]",
        ),
    ],
)
def test_a_plan_fits_the_weight_it_is_for(tiny, plans, message) -> None:
    (finding,) = texts(replace(tiny, tile_wise=plans))
    assert finding.startswith(message)


def test_a_payload_and_its_record_come_together(tiny, tmp_path) -> None:
    without = {key: mask for key, mask in tiny.payloads.items() if key != "fc1.weight"}
    (finding,) = texts(replace(tiny, payloads=without))
    assert finding.startswith("masks['fc1.weight'].payload: the mask is said to be stored and is not")
    stray = {**tiny.payloads, "fc3.weight": np.zeros((4, 16), dtype=bool), "stray": np.zeros((1, 1), dtype=bool)}
    assert [text.split(":")[0] for text in texts(replace(tiny, payloads=stray))] == ["masks['fc3.weight'].payload", "masks"]
    with pytest.raises(InputError, match=r"a tensor that the manifest does not name, got 'fc3.weight'"):
        write_trace(replace(tiny, payloads=stray), tmp_path / "stray.nmtrace")


@pytest.mark.parametrize("mask", [np.zeros((8, 8), dtype=np.int8), np.zeros((8, 7), dtype=bool)])
def test_a_payload_is_bool_and_of_the_recorded_shape(tiny, mask) -> None:
    (finding,) = texts(replace(tiny, payloads={**tiny.payloads, "fc1.gradient": mask}))
    assert finding.startswith("masks['fc1.gradient'].shape: the stored mask is ")


def test_each_contradiction_is_told_once(tiny) -> None:
    """Five lies, five findings: one lie does not hide the next, nor raise a second finding of its own."""
    first, *rest = tiny.gemms
    gemms = [replace(first, m=first.m + 1), *rest]
    gemms[3] = replace(rest[2], a=replace(rest[2].a, role="gradient"))
    gemms[4] = replace(rest[3], b=replace(rest[3].b, group_axis=None))
    gemms[5] = replace(rest[4], a=replace(rest[4].a, mask="absent"))
    gemms[6] = replace(rest[5], conv=replace(first.conv, groups=3))
    allowed = "activation x activation or activation x weight"
    assert texts(replace(tiny, gemms=tuple(gemms))) == [
        "gemms['conv:forward'].m: contradicts the convolution's geometry, got 37; it gives 36",
        f"gemms['fc1:forward']: forward multiplies {allowed}, got 'gradient x weight'; correct the phase or the roles",
        "gemms['fc1:backward_data'].b.group_axis: an nm operand names the stored axis that its groups run along",
        "gemms['fc1:backward_weight'].a.mask: there is no such mask, got 'absent'; add it to masks",
        "gemms['fc2:forward'].conv: 3 groups do not divide 4 input and 8 output channels",
    ]


def test_a_folder_that_can_not_be_made_is_one_sentence(tiny, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="can't be read or written"):
        write_trace(tiny, tmp_path / "file" / "tiny.nmtrace")
