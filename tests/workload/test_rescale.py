"""Another batch is the same network on more or fewer samples: what counts samples scales, nothing else moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.workload.catalogue import attention_gemms, conv_gemms, linear_gemms
from nmsim.workload.gemm import ConvGeometry
from nmsim.workload.legality import usable_structure
from nmsim.workload.rescale import rescale_batch
from nmsim.workload.store import read_trace, write_trace
from nmsim.workload.trace import Operator, Provenance, Trace
from nmsim.workload.validate import trace_findings

SHAPES_ONLY = Provenance("shapes-only", "", "", "", {}, 0, 0, None, None, {})


def layers(batch: int) -> Trace:
    """Three tokens a sample through every kind of layer, counted by hand for `batch` samples."""
    geometry = ConvGeometry(batch, 7, 5, 4, 8, 3, 3, stride_h=2, pad_h=1, groups=2)
    gemms = (
        *conv_gemms("conv", geometry, "fp16"),
        *linear_gemms("fc", 3 * batch, 8, 16, "fp16"),
        *attention_gemms("attention", 2 * batch, 3, 3, 4, "fp16"),
    )
    return Trace("layers", SHAPES_ONLY, batch, "fp16", gemms)


@given(st.integers(1, 9), st.integers(1, 9))
def test_rescaling_gives_the_gemms_that_a_recording_at_that_batch_has(recorded, asked) -> None:
    assert rescale_batch(layers(recorded), asked).gemms == layers(asked).gemms


@settings(deadline=None)
@given(st.integers(1, 40))
def test_a_rescaled_trace_is_still_true(tiny, batch) -> None:
    assert [str(finding) for finding in trace_findings(rescale_batch(tiny, batch))] == []


def test_a_rescaled_trace_can_be_kept(tiny, tmp_path, normal) -> None:
    scaled = rescale_batch(tiny, 12)
    assert normal(read_trace(write_trace(scaled, tmp_path / "scaled.nmtrace"))) == normal(scaled)


def test_the_recorded_batch_changes_nothing(tiny) -> None:
    assert rescale_batch(tiny, tiny.batch) is tiny


def test_weights_keep_their_masks_and_dynamic_operands_their_density(tiny) -> None:
    scaled = rescale_batch(tiny, 8)
    assert set(tiny.payloads) - set(scaled.payloads) == {"fc1.gradient"}
    assert scaled.payloads["fc1.weight"] is tiny.payloads["fc1.weight"]
    before, after = tiny.masks["fc1.gradient"], scaled.masks["fc1.gradient"]
    assert (after.shape, after.payload, after.density) == ((16, 8), False, before.density)
    assert (after.checks[0].groups, after.checks[0].violations) == (2 * before.checks[0].groups, 0)
    gemm = next(gemm for gemm in scaled.gemms if gemm.id == "fc1:backward_weight")
    usable = usable_structure(gemm, gemm.a, scaled)
    assert (usable.ok, usable.source) == (True, "verified-at-record")


@pytest.mark.parametrize("batch", [1, 3, 5, 400])
def test_a_gradient_that_broke_its_pattern_goes_on_breaking_it(tiny, honest_record, batch) -> None:
    mask = tiny.payloads["fc1.gradient"].copy()
    mask[:4, 0] = True
    record = honest_record(mask, 0)
    assert record.checks[0].violations == 1
    broken = replace(tiny, masks={**tiny.masks, "fc1.gradient": record}, payloads={**tiny.payloads, "fc1.gradient": mask})
    scaled = rescale_batch(broken, batch)
    assert list(trace_findings(scaled)) == []
    gemm = next(gemm for gemm in scaled.gemms if gemm.id == "fc1:backward_weight")
    assert not usable_structure(gemm, gemm.a, scaled).ok


def test_provenance_says_what_was_done(tiny) -> None:
    twice = rescale_batch(rescale_batch(tiny, 8), 2)
    assert (twice.batch, twice.rescaled_from_batch) == (2, 4)
    assert twice.provenance.notes[:2] == tiny.provenance.notes
    assert "re-scaled from 4 to 8 samples" in twice.provenance.notes[2]
    assert "fc1.gradient" in twice.provenance.notes[2]
    assert "re-scaled from 8 to 2 samples" in twice.provenance.notes[3]


def test_operators_and_passes_scale_only_where_they_say_so(tiny) -> None:
    scaled = rescale_batch(tiny, 6)
    norm, adam = scaled.operators
    assert (norm.bytes_read, norm.bytes_written, norm.flops, norm.count) == (150, 152, 450, 2)
    assert adam == tiny.operators[1]
    search, mvue = scaled.passes
    assert search == tiny.passes[0]
    assert (mvue.bytes_read, mvue.bytes_written, mvue.operations) == (45, 23, 135)


def test_a_gemm_that_is_none_of_the_batchs_business_stays(tiny) -> None:
    fixed = replace(tiny, gemms=tuple(replace(gemm, batch_axis="none") for gemm in tiny.gemms))
    assert rescale_batch(fixed, 8).gemms == fixed.gemms


def test_tokens_that_are_no_whole_number_a_sample_are_refused_by_name() -> None:
    trace = replace(layers(2), batch=4)
    with pytest.raises(InputError, match=r"gemms\['conv:forward'\].m: m is not a whole number for each of 4 samples"):
        rescale_batch(replace(trace, gemms=trace.gemms[:3]), 8)
    with pytest.raises(InputError, match=r"gemms\['fc:forward'\].m: .*, got 6"):
        rescale_batch(replace(trace, gemms=trace.gemms[3:]), 8)


@pytest.mark.parametrize("batch", [0, -1, 2**31])
def test_a_batch_is_at_least_one_sample_and_not_beyond_all_bounds(tiny, batch) -> None:
    with pytest.raises(InputError, match="a batch is 1 to"):
        rescale_batch(tiny, batch)


def test_a_batch_that_no_gemm_can_hold_is_refused(tiny) -> None:
    with pytest.raises(InputError, match="the batch is too large"):
        rescale_batch(tiny, 2**31 - 1)
    operator = Operator("o", "o", "forward", 2**62, 0, 0, 1, True)
    with pytest.raises(InputError, match="the batch is too large"):
        rescale_batch(replace(tiny, gemms=(), operators=(operator,)), 400)


def test_a_mask_shared_by_tensors_that_grow_differently_is_refused(tiny) -> None:
    gemm = next(gemm for gemm in tiny.gemms if gemm.id == "fc1:backward_weight")
    clash = replace(gemm, id="clash", batch_axis="none")
    with pytest.raises(InputError, match=r"entries that share the mask 'fc1.gradient' grow differently"):
        rescale_batch(replace(tiny, gemms=(*tiny.gemms, clash)), 8)


def test_macs_grow_in_proportion(tiny) -> None:
    macs = [sum(gemm.macs * gemm.repeat for gemm in rescale_batch(tiny, batch).gemms) for batch in (4, 8, 20)]
    assert np.array_equal(np.array(macs) / macs[0], [1, 2, 5])
