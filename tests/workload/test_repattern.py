"""A pattern or type that was not recorded is an assumption, and is never passed off as the recorded run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.legality import usable_structure
from nmsim.workload.repattern import with_dtype, with_pattern
from nmsim.workload.store import read_trace, write_trace
from nmsim.workload.validate import trace_findings

ONE_EIGHT = NMPattern(1, 8)


def usable_ids(trace) -> set[str]:
    return {gemm.id for gemm in trace.gemms if any(usable_structure(gemm, operand, trace).ok for operand in (gemm.a, gemm.b))}


def test_a_new_pattern_is_usable_in_the_phases_in_which_the_recorded_one_was(tiny) -> None:
    assert usable_ids(with_pattern(tiny, ONE_EIGHT)) == usable_ids(tiny)


def test_a_mask_that_served_both_phases_under_one_recorded_axis_goes_on_serving_both(tiny) -> None:
    gemms = tuple(replace(gemm, b=replace(gemm.b, group_axis=1)) if gemm.id == "fc1:backward_data" else gemm for gemm in tiny.gemms)
    trace = replace(tiny, gemms=gemms)
    assert "fc1:backward_data" in usable_ids(trace) & usable_ids(with_pattern(trace, ONE_EIGHT))


def test_only_weights_that_were_recorded_nm_change(tiny) -> None:
    for before, after in zip(tiny.gemms, with_pattern(tiny, ONE_EIGHT).gemms, strict=True):
        for old, new in ((before.a, after.a), (before.b, after.b)):
            if old.role == "weight" and old.structure == "nm":
                assert (new.structure, new.pattern, new.mask) == ("nm", ONE_EIGHT, None)
            else:
                assert new == old


def test_an_assumption_says_so(tiny) -> None:
    trace = with_pattern(tiny, ONE_EIGHT)
    assert (trace.provenance.kind, trace.provenance.loss, trace.provenance.accuracy) == ("shapes-only", None, None)
    assert "1:8 assumed on the group axes of a trained run (sr-ste)" in trace.provenance.notes[-1]
    assert trace.own_density == "1/8"
    assert {usable_structure(gemm, gemm.b, trace).source for gemm in trace.gemms if gemm.b.structure == "nm"} == {"assumed"}


def test_masks_of_weights_go_and_those_of_gradients_stay(tiny) -> None:
    trace = with_pattern(tiny, ONE_EIGHT)
    assert set(trace.masks) == set(trace.payloads) == {"fc1.gradient"}
    assert list(trace_findings(trace)) == []


def test_an_assumed_trace_can_be_kept(tiny, tmp_path, normal) -> None:
    trace = with_dtype(with_pattern(tiny, ONE_EIGHT), "int8")
    assert normal(read_trace(write_trace(trace, tmp_path / "assumed.nmtrace"))) == normal(trace)


def test_no_axis_is_invented_for_a_dense_trace(tiny) -> None:
    dense = replace(tiny, gemms=tuple(gemm for gemm in tiny.gemms if gemm.module == "attention"))
    with pytest.raises(InputError, match="no weight of this trace was recorded with an N:M structure"):
        with_pattern(dense, ONE_EIGHT)


def test_the_pattern_that_was_recorded_may_be_assumed_as_well(tiny) -> None:
    assert usable_ids(with_pattern(with_pattern(tiny, ONE_EIGHT), ONE_EIGHT)) == usable_ids(tiny)


def test_the_dtype_of_autocast_gemms_changes_and_that_of_others_stays(tiny) -> None:
    mixed = replace(tiny, gemms=(replace(tiny.gemms[0], dtype="fp32", out_dtype="fp32"), *tiny.gemms[1:]))
    trace = with_dtype(mixed, "fp8")
    assert trace.dtype == "fp8"
    assert trace.gemms[0] == mixed.gemms[0]
    assert {gemm.dtype for gemm in trace.gemms[1:]} == {"fp8"}
    out = {gemm.id: gemm.out_dtype for gemm in trace.gemms}
    assert (out["fc1:forward"], out["fc2:forward"]) == ("fp8", "fp32"), "a result recorded wider than its operands stays so"


def test_a_dtype_override_is_noted_and_the_recorded_one_is_none(tiny) -> None:
    assert with_dtype(tiny, "fp16") is tiny
    assert with_dtype(tiny, "bf16").provenance.notes[-1].startswith("element type bf16 in place of the recorded fp16")
    with pytest.raises(InputError, match="there is no such element type, got 'fp12'"):
        with_dtype(tiny, "fp12")


def test_masks_survive_another_dtype(tiny) -> None:
    trace = with_dtype(tiny, "bf16")
    assert all(np.array_equal(trace.payloads[key], tiny.payloads[key]) for key in tiny.payloads)
    assert usable_ids(trace) == usable_ids(tiny)
