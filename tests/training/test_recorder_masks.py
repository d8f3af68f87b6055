"""Where masks are found, what is said of them, and what is kept."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

import nmsim.training
from nmsim.errors import InputError
from nmsim.sparsity.mask import nm_mask
from nmsim.sparsity.packing import mask_digest
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.tile_wise import kept_macs
from nmsim.training import masking
from nmsim.training.recipes.recipe import Recipe
from nmsim.training.recipes.sr_ste import SrSte
from nmsim.training.selection import sparsify
from nmsim.workload.validate import trace_findings

PATTERN = NMPattern(2, 4)


def network():
    return nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 4))


def recorded(model, **options):
    with nmsim.training.record(model, **options) as builder:
        model(torch.randn(5, 16)).sum().backward()
    trace = builder.trace("test")
    assert list(trace_findings(trace)) == []
    return trace, {gemm.id: gemm for gemm in trace.gemms}


def two_of_four(weight, axis=1):
    return torch.from_numpy(nm_mask(weight.detach().numpy(), PATTERN, axis))


class Masked(nn.Module):
    """A parametrisation that keeps its mask as torch.ao.pruning does."""

    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight):
        return weight * self.mask


def prune_with_torch(model):
    prune.custom_from_mask(model[1], "weight", two_of_four(model[1].weight))


def parametrise(model):
    parametrize.register_parametrization(model[1], "weight", Masked(two_of_four(model[1].weight)))


def zero_in_place(model):
    with torch.no_grad():
        model[1].weight.mul_(two_of_four(model[1].weight))


@pytest.mark.parametrize("how", [prune_with_torch, parametrise, zero_in_place])
def test_the_mask_is_found_wherever_a_library_keeps_it(how):
    model = network()
    expected = two_of_four(model[1].weight).numpy()
    how(model)
    trace, by_id = recorded(model)
    weight = by_id["1:forward"].b
    assert (weight.structure, weight.pattern, weight.group_axis, weight.mask) == ("nm", PATTERN, 1, "1.weight")
    assert np.array_equal(trace.payloads["1.weight"], expected)
    assert trace.masks["1.weight"].digest == mask_digest(expected)
    assert by_id["0:forward"].b.structure == "dense"
    assert trace.own_density == "1/2"
    assert set(trace.tile_wise["1/4"]) == {"1"}


def test_a_stored_mask_keeps_its_zeros_valued_weights():
    """A kept weight may be exactly 0: the library's mask says it is kept, the zeros would not."""
    model = network()
    prune_with_torch(model)
    mask = model[1].weight_mask.bool()
    row, column = mask.nonzero()[0].tolist()
    with torch.no_grad():
        model[1].weight_orig[row, column] = 0
    trace, _ = recorded(model)
    assert trace.payloads["1.weight"][row, column]


def test_an_argument_comes_before_everything_and_must_be_true():
    model = network()
    zero_in_place(model)
    looser = torch.ones(32, 32, dtype=torch.bool)
    looser[two_of_four(model[1].weight) == 0] = False
    trace, _ = recorded(model, masks={"1.weight": looser})
    assert np.array_equal(trace.payloads["1.weight"], looser.numpy())
    with pytest.raises(InputError, match=r"the mask given for 1\.weight is not the one that the forward used"):
        recorded(model, masks={"1": ~looser})
    with pytest.raises(InputError, match=r"the mask given for 1\.weight has another shape"):
        recorded(model, masks={"1": looser[:4]})


def test_a_forward_mask_is_checked_along_both_reductions_and_honestly_breaks_one():
    model = network()
    sparsify(model, SrSte(PATTERN), PATTERN)
    trace, by_id = recorded(model)
    checks = trace.masks["1.weight"].checks
    assert (checks[1].groups, checks[1].violations) == (32 * 8, 0)
    assert checks[0].groups == 8 * 32
    # 5 of 16 groups of a random mask break along the other axis.
    assert 0 < checks[0].violations < checks[0].groups
    backward = by_id["1:backward_data"].b
    assert (backward.structure, backward.group_axis, backward.axes[backward.group_axis]) == ("nm", 1, "n")
    assert by_id["1:backward_weight"].b.structure == "dense"
    assert {one.module for one in trace.passes} == {"0", "1"}


class Bidirectional(Recipe):
    """BDWP in short: an independent mask along the outputs for `backward_data`."""

    def forward_weight(self, layer, weight):
        return weight * layer.keep_mask(masking.nm_mask(weight, self.pattern))

    def backward_weight(self, layer, weight, forward_weight):
        return weight * layer.keep_backward_mask(masking.nm_mask(weight, self.pattern, axis=0))


def test_a_second_mask_of_the_backward_is_its_own_and_lies_along_the_outputs():
    model = network()
    sparsify(model, Bidirectional(PATTERN), PATTERN)
    trace, by_id = recorded(model)
    forward, backward = by_id["1:forward"].b, by_id["1:backward_data"].b
    assert forward.mask != backward.mask
    assert (forward.axes[forward.group_axis], backward.axes[backward.group_axis]) == ("k", "k")
    assert trace.masks[backward.mask].checks[0].violations == 0


class DenseBackward(SrSte):
    def backward_weight(self, layer, weight, forward_weight):
        return weight


def test_a_recipe_that_multiplies_by_the_dense_weight_in_the_backward_has_no_mask_there():
    model = network()
    sparsify(model, DenseBackward(PATTERN), PATTERN)
    _, by_id = recorded(model)
    assert by_id["1:forward"].b.structure == "nm"
    assert by_id["1:backward_data"].b.structure == "dense"


class SparseGradient(Recipe):
    """MVUE's place: a dY that is N:M along the tokens."""

    def output_gradient(self, layer, gradient):
        return gradient * masking.nm_mask(gradient, self.pattern, axis=0)


def test_a_sparse_gradient_is_verified_along_the_tokens_of_backward_weight():
    model = network()
    sparsify(model, SparseGradient(PATTERN), PATTERN)
    with nmsim.training.record(model) as builder:
        (model(torch.randn(16, 16)) * torch.randn(16, 4)).sum().backward()
    trace = builder.trace("test")
    gemm = next(gemm for gemm in trace.gemms if gemm.id == "1:backward_weight")
    # dY is stored [tokens, outputs], so its groups run along axis 0.
    assert (gemm.a.structure, gemm.a.pattern, gemm.a.axes, gemm.a.group_axis) == ("nm", PATTERN, ("k", "m"), 0)
    assert trace.masks[str(gemm.a.mask)].checks[0].violations == 0
    assert next(gemm for gemm in trace.gemms if gemm.id == "1:backward_data").a.structure == "dense"


def test_unstructured_zeros_are_unstructured():
    model = network()
    prune.random_unstructured(model[1], "weight", 0.5)
    trace, by_id = recorded(model)
    weight = by_id["1:forward"].b
    assert (weight.structure, weight.pattern, weight.group_axis) == ("unstructured", None, None)
    assert trace.masks[weight.mask].density == 0.5
    assert trace.own_density is None


def test_masks_beyond_the_limit_are_checked_but_not_kept_the_largest_first():
    model = network()
    sparsify(model, SrSte(PATTERN), PATTERN)
    trace, _ = recorded(model, payload_limit_bytes=32 * 2)
    assert {key: record.payload for key, record in trace.masks.items()} == {"0.weight": True, "1.weight": False}
    assert set(trace.payloads) == {"0.weight"}
    assert trace.masks["1.weight"].checks[1].violations == 0


def test_the_tile_wise_baseline_of_a_dense_step_ranks_what_would_be_pruned():
    trace, _ = recorded(network())
    assert {density: set(plans) for density, plans in trace.tile_wise.items()} == {"1/2": {"0", "1"}, "1/4": {"0", "1"}, "1/8": {"0", "1"}}
    for density, plans in trace.tile_wise.items():
        kept = sum(kept_macs(plan.columns, plan.rows, plan.tile_width) for plan in plans.values())
        assert kept / (16 * 32 + 32 * 32) == pytest.approx(float(Fraction(density)), abs=0.02)
    assert recorded(network(), tile_wise=False)[0].tile_wise == {}


def test_the_tile_wise_baseline_leaves_every_layer_what_it_is_asked_to():
    kept = {}
    for least in (0.0, 0.2):
        model = network()
        with torch.no_grad():
            model[1].weight.mul_(0.01)
        plans = recorded(model, tile_wise_least_share=least)[0].tile_wise
        plan = plans["1/4"]["1"]
        kept[least] = kept_macs(plan.columns, plan.rows, plan.tile_width) / (plan.columns.size * plan.rows.shape[1])
        # A share above the density asks for the density.
        assert sum(kept_macs(one.columns, one.rows, one.tile_width) for one in plans["1/8"].values()) > 0
    assert kept[0.0] < 0.1
    assert kept[0.2] >= 0.2


def test_recording_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recorded(network())
