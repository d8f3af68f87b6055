"""The JSON of a result has fixed keys, is plain data, and its parts sum to its total."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from nmsim.result.json import result_to_json
from nmsim.result.rows import SimulationResult
from nmsim.rules.stalls import STALL_NAMES

MakeResult = Callable[..., SimulationResult]


def test_the_keys_and_their_order_are_those_of_the_documented_object(make_result: MakeResult) -> None:
    found = result_to_json(make_result())
    promised = "arch trace rows phases total notes model_version engine options provenance"
    assert list(found) == promised.split()
    row = "gemm_id module phase scheme m n k l ran_sparse reason kernel native_pattern clock_mhz cycles time_us energy_j bound stall_cycles"
    assert list(found["rows"][0]) == row.split()
    assert list(found["phases"][0]) == ["phase", "scheme", "cycles", "time_us", "energy_j"]
    assert list(found["total"]["traced"]) == ["cycles", "time_us", "energy_j", "speedup_vs_dense", "speedup_vs_tile_wise"]
    assert list(found["rows"][0]["stall_cycles"]) == list(STALL_NAMES)


def test_it_survives_strict_json_and_sums_exactly_on_the_other_side(make_result: MakeResult) -> None:
    found = json.loads(json.dumps(result_to_json(make_result(seed=5)), allow_nan=False))
    for scheme, total in found["total"].items():
        for quantity in ("cycles", "time_us", "energy_j"):
            added = 0.0
            for phase in found["phases"]:
                added += phase[quantity] if phase["scheme"] == scheme else 0.0
            assert added == total[quantity]


def test_a_row_without_recorded_stalls_still_names_them_all(make_result: MakeResult) -> None:
    result = make_result()
    bare = replace(result, rows=(replace(result.rows[0], stall_cycles={}),))
    assert result_to_json(bare)["rows"][0]["stall_cycles"] == dict.fromkeys(STALL_NAMES, 0.0)
