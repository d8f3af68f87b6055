"""Whether a GEMM may run sparse follows from its mask and its own reduction, and is said in plain words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nmsim.sparsity import legality as sparsity_legality
from nmsim.sparsity.mask import nm_mask
from nmsim.sparsity.packing import mask_digest
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload import legality
from nmsim.workload.catalogue import WeightStructure, WeightStructures, attention_gemms, conv_gemms, linear_gemms
from nmsim.workload.gemm import ConvGeometry, Gemm, GroupCheck, MaskRecord
from nmsim.workload.legality import usable_structure
from nmsim.workload.store import read_trace, write_trace
from nmsim.workload.trace import Provenance, Trace

TWO_FOUR = NMPattern(2, 4)
SHAPES_ONLY = Provenance("shapes-only", "", "", "", {}, 0, 0, None, None, {})


def find(trace: Trace, name: str) -> Gemm:
    return next(gemm for gemm in trace.gemms if gemm.id == name)


def with_mask(tiny: Trace, key: str, mask: np.ndarray) -> Trace:
    """The trace with another mask, honestly recorded."""
    old = tiny.masks[key]
    checks = {}
    for axis, check in old.checks.items():
        report = sparsity_legality.check_groups(mask, check.pattern, axis)
        checks[axis] = GroupCheck(check.pattern, report.groups, report.violations)
    record = MaskRecord(mask.shape, int(mask.sum()) / mask.size, mask_digest(mask), True, checks)
    return replace(tiny, masks={**tiny.masks, key: record}, payloads={**tiny.payloads, key: mask})


def test_a_transposable_mask_serves_forward_and_backward_data(tiny) -> None:
    for name in ("fc1:forward", "fc1:backward_data"):
        gemm = find(tiny, name)
        usable = usable_structure(gemm, gemm.b, tiny)
        assert (usable.ok, usable.pattern, usable.source) == (True, TWO_FOUR, "mask")


def test_a_forward_mask_does_not_serve_backward_data_and_the_reason_counts_the_broken_groups(tiny) -> None:
    gemm, mask = find(tiny, "fc2:backward_data"), tiny.payloads["fc2.weight"]
    broken = sum(int(mask[start : start + 4, column].sum()) > 2 for start in range(0, 16, 4) for column in range(8))
    assert broken > 0
    usable = usable_structure(gemm, gemm.b, tiny)
    assert not usable.ok
    assert usable.reason == (f"groups of W run along inputs (n); this GEMM reduces over outputs (k): {broken} of 32 groups there break 2:4")


def test_a_mask_that_happens_to_obey_the_other_reduction_serves_it_whatever_axis_was_declared(tiny) -> None:
    trace = with_mask(tiny, "fc2.weight", np.tile(tiny.payloads["fc1.weight"][:4, :8], (4, 1)))
    gemm = find(trace, "fc2:backward_data")
    assert gemm.b.group_axis != gemm.b.reduction_axis
    assert usable_structure(gemm, gemm.b, trace).ok


def test_the_word_of_the_recipe_changes_nothing(tiny) -> None:
    for recipe in ("dense", "transposable", "bidirectional"):
        trace = replace(tiny, provenance=replace(tiny.provenance, recipe=recipe))
        gemm = find(trace, "fc2:backward_data")
        assert not usable_structure(gemm, gemm.b, trace).ok


def test_one_broken_group_makes_the_gemm_dense_and_is_named(tiny, tmp_path) -> None:
    mask = tiny.payloads["fc2.weight"].copy()
    mask[5, 4:8] = [True, True, True, False]
    trace = read_trace(write_trace(with_mask(tiny, "fc2.weight", mask), tmp_path / "broken.nmtrace"))
    gemm = find(trace, "fc2:forward")
    usable = usable_structure(gemm, gemm.b, trace)
    assert (usable.ok, usable.reason) == (False, "group 1 of row 5 keeps 3 of 4: broken 2:4")
    other = find(trace, "fc1:forward")
    assert usable_structure(other, other.b, trace).ok


def test_a_column_group_is_named_by_its_column(tiny) -> None:
    mask = tiny.payloads["fc1.weight"].copy()
    mask[4:8, 7] = True
    trace = with_mask(tiny, "fc1.weight", mask)
    gemm = find(trace, "fc1:backward_data")
    assert usable_structure(gemm, gemm.b, trace).reason == "group 1 of column 7 keeps 4 of 4: broken 2:4"


def test_several_broken_groups_are_counted(tiny) -> None:
    mask = tiny.payloads["fc2.weight"].copy()
    mask[3:5, :4] = True
    trace = with_mask(tiny, "fc2.weight", mask)
    gemm = find(trace, "fc2:forward")
    reason = usable_structure(gemm, gemm.b, trace).reason
    assert reason == "group 0 of row 3 keeps 4 of 4: broken 2:4 (2 of 32 groups of W are)"


def test_backward_weight_has_no_weight_in_it(tiny) -> None:
    gemm = find(tiny, "fc2:backward_weight")
    for operand in (gemm.a, gemm.b):
        usable = usable_structure(gemm, operand, tiny)
        assert (usable.ok, usable.reason) == (False, "no operand is sparse: backward_weight has no weight in it")


def test_a_sparse_gradient_along_the_tokens_serves_backward_weight(tiny) -> None:
    gemm = find(tiny, "fc1:backward_weight")
    assert usable_structure(gemm, gemm.a, tiny).ok
    assert usable_structure(gemm, gemm.b, tiny).reason == "X is dense"


def test_attention_has_no_weight(tiny) -> None:
    for gemm in attention_gemms("attention", 8, 5, 7, 6, "fp16"):
        for operand in (gemm.a, gemm.b):
            assert usable_structure(gemm, operand, tiny).reason == "attention product: neither operand is a weight"


def test_a_sparse_operand_of_an_attention_product_is_judged_like_any_other(tiny) -> None:
    gemm = attention_gemms("attention", 2, 4, 4, 8, "fp16")[0]
    legal = np.tile([True, True, False, False], (2, 4, 2))
    for mask, ok in ((legal, True), (np.ones_like(legal), False)):
        operand = replace(gemm.b, structure="nm", pattern=TWO_FOUR, group_axis=2, mask="p")
        trace = replace(tiny, masks={"p": MaskRecord(mask.shape, 0.5, "", True)}, payloads={"p": mask})
        usable = usable_structure(replace(gemm, b=operand), operand, trace)
        assert usable.ok == ok
        assert ("of B along k" in usable.reason) == ok


def test_a_convolution_is_usable_along_channels_and_not_along_filters(tiny) -> None:
    forward, backward_data = find(tiny, "conv:forward"), find(tiny, "conv:backward_data")
    assert usable_structure(forward, forward.b, tiny).ok
    reason = usable_structure(backward_data, backward_data.b, tiny).reason
    assert reason.startswith("groups of W run along inputs (n); this GEMM reduces over outputs (k): ")


def test_groups_do_not_straddle_convolution_groups() -> None:
    """Two convolution groups of 6 filters: along O, groups of 4 begin anew at filter 6."""
    geometry = ConvGeometry(1, 4, 4, 2, 12, 1, 1, groups=2)
    structure: WeightStructures = {"backward_data": WeightStructure(TWO_FOUR, 0, "w")}
    gemm = conv_gemms("conv", geometry, "fp16", weight_structure=structure)[1]
    kept = np.array([1, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0], dtype=bool).reshape(12, 1, 1, 1)
    assert sparsity_legality.check_groups(kept, TWO_FOUR, 0).violations == 0
    trace = Trace("t", SHAPES_ONLY, 1, "fp16", (gemm,), masks={"w": MaskRecord(kept.shape, 5 / 12, "", True)}, payloads={"w": kept})
    assert not usable_structure(gemm, gemm.b, trace).ok
    other = np.array([0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0], dtype=bool).reshape(12, 1, 1, 1)
    assert usable_structure(gemm, gemm.b, replace(trace, payloads={"w": other})).ok
    left_out = MaskRecord(kept.shape, 5 / 12, "", False, {0: GroupCheck(TWO_FOUR, 3, 0)})
    usable = usable_structure(gemm, gemm.b, replace(trace, masks={"w": left_out}, payloads={}))
    assert not usable.ok
    assert "straddle convolution groups of 6" in usable.reason


def test_recorded_checks_stand_for_a_payload_that_was_left_out(tiny) -> None:
    gemm = find(tiny, "fc3:forward")
    usable = usable_structure(gemm, gemm.b, tiny)
    assert (usable.ok, usable.source) == (True, "verified-at-record")
    check = replace(tiny.masks["fc3.weight"].checks[1], violations=3)
    broken = replace(tiny, masks={**tiny.masks, "fc3.weight": replace(tiny.masks["fc3.weight"], checks={1: check})})
    usable = usable_structure(gemm, gemm.b, broken)
    assert (usable.ok, usable.reason) == (False, "W was recorded with 3 of 16 groups that break 2:4")


def test_no_recorded_check_along_the_reduction_is_no_permission(tiny) -> None:
    gemm = find(tiny, "fc3:backward_data")
    across = replace(gemm.b, structure="nm", pattern=TWO_FOUR, group_axis=1, mask="fc3.weight")
    usable = usable_structure(replace(gemm, b=across), across, tiny)
    assert not usable.ok
    assert usable.reason.endswith("reduces over outputs (k): no check along outputs (k) was recorded")


def test_hardware_that_holds_a_wider_pattern_may_run_a_narrower_mask(tiny) -> None:
    for payloads in (tiny.payloads, {}):
        trace = replace(tiny, payloads=payloads)
        gemm = find(trace, "fc1:forward")
        assert usable_structure(gemm, gemm.b, trace, NMPattern(4, 8)).ok
        assert not usable_structure(gemm, gemm.b, trace, NMPattern(1, 4)).ok


def test_an_assumed_structure_says_so_and_still_needs_its_axis(tiny) -> None:
    structure: WeightStructures = {"forward": WeightStructure(TWO_FOUR, 1), "backward_data": WeightStructure(TWO_FOUR, 1)}
    forward, backward_data, _ = linear_gemms("fc", 4, 8, 8, "fp16", weight_structure=structure)
    usable = usable_structure(forward, forward.b, tiny)
    assert (usable.ok, usable.source) == (True, "assumed")
    assert not usable_structure(backward_data, backward_data.b, tiny).ok
    assert not usable_structure(forward, forward.b, tiny, NMPattern(1, 4)).ok


def test_a_mask_that_can_not_change_is_checked_once(folder, monkeypatch) -> None:
    trace = read_trace(folder)
    calls = []

    def counting(mask, pattern, axis):
        calls.append((pattern, axis))
        return sparsity_legality.check_groups(mask, pattern, axis)

    monkeypatch.setattr(legality, "check_groups", counting)
    gemm = find(trace, "fc1:forward")
    for _ in range(3):
        usable_structure(gemm, gemm.b, trace)
    assert calls == [(TWO_FOUR, 1)]
    usable_structure(find(trace, "fc1:backward_data"), find(trace, "fc1:backward_data").b, trace)
    assert calls == [(TWO_FOUR, 1), (TWO_FOUR, 0)]


def test_a_mask_that_is_still_being_edited_is_checked_each_time(tiny) -> None:
    mask = tiny.payloads["fc2.weight"].copy()
    trace = replace(tiny, payloads={**tiny.payloads, "fc2.weight": mask})
    gemm = find(trace, "fc2:forward")
    assert usable_structure(gemm, gemm.b, trace).ok
    mask[0] = True
    assert not usable_structure(gemm, gemm.b, trace).ok


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.sampled_from(["1:2", "2:4", "3:5", "4:8"]))
def test_usable_means_that_no_group_along_the_reduction_holds_too_many(mask, text) -> None:
    pattern = NMPattern.parse(text)
    outputs, inputs = mask.shape
    structure: WeightStructures = dict.fromkeys(("forward", "backward_data"), WeightStructure(pattern, 1, "w"))
    forward, backward_data, _ = linear_gemms("fc", 3, inputs, outputs, "fp16", weight_structure=structure)
    record = MaskRecord(mask.shape, float(mask.mean()), "", True)
    trace = Trace("t", SHAPES_ONLY, 1, "fp16", (forward, backward_data), masks={"w": record}, payloads={"w": mask})
    for gemm, lines in ((forward, mask), (backward_data, mask.T)):
        legal = all(line[start : start + pattern.m].sum() <= pattern.n for line in lines for start in range(0, line.size, pattern.m))
        assert usable_structure(gemm, gemm.b, trace).ok == legal


@pytest.mark.parametrize("structure", ["tile_wise", "unstructured"])
def test_other_structures_have_no_pattern_to_run(tiny, structure) -> None:
    gemm = find(tiny, "fc1:forward")
    operand = replace(gemm.b, structure=structure, pattern=None, group_axis=None)
    assert usable_structure(replace(gemm, b=operand), operand, tiny).source == "none"
    assert usable_structure(gemm, replace(operand), tiny, TWO_FOUR).ok, "an unstructured mask may happen to obey a pattern"


def test_a_magnitude_mask_of_any_tensor_is_usable_where_it_was_made(tiny) -> None:
    mask = nm_mask(np.random.default_rng(1).normal(size=(8, 3, 3, 4)), TWO_FOUR, 0)
    trace = with_mask(tiny, "conv.weight", mask)
    gemm = find(trace, "conv:backward_data")
    assert usable_structure(gemm, gemm.b, trace).ok
