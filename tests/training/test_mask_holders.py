"""Masks as training libraries really hold them, each found in a step that the library itself would run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao.pruning.sparsifier.weight_norm_sparsifier import WeightNormSparsifier

import nmsim.training
from nmsim.sparsity.pattern import NMPattern
from nmsim.training.masking import nm_mask
from nmsim.workload.legality import usable_structure

PATTERN = NMPattern(2, 4)


def network():
    return nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 4))


def recorded(model):
    with nmsim.training.record(model) as builder:
        model(torch.randn(5, 16)).sum().backward()
    return builder.trace("test")


def usable_phases(trace, module="1"):
    return {
        gemm.phase: str(operand.pattern)
        for gemm in trace.gemms
        for operand in (gemm.a, gemm.b)
        if gemm.module == module and usable_structure(gemm, operand, trace).ok
    }


def test_the_sparsifier_of_torch_ao_counts_zeros_and_its_parametrisation_is_found():
    """`zeros_per_block=3` of 4 is 1:4 in the field's terms: the pruner counts zeros, a pattern what is kept."""
    model = network()
    sparsifier = WeightNormSparsifier(sparsity_level=1.0, sparse_block_shape=(1, 4), zeros_per_block=3)
    sparsifier.prepare(model, [{"tensor_fqn": "1.weight"}])
    sparsifier.step()
    trace = recorded(model)
    assert usable_phases(trace) == {"forward": "1:4"}
    assert np.array_equal(trace.payloads["1.weight"], model[1].parametrizations.weight[0].mask.bool().numpy())


def test_the_buffer_of_apex_is_found_and_a_kept_zero_stays_kept():
    """ASP zeroes the weight itself and holds the mask beside it under a name of its own, pattern string M first (m4n2_1d)."""
    model = network()
    mask = nm_mask(model[1].weight, PATTERN)
    model[1].register_buffer("__weight_mma_mask", mask)
    with torch.no_grad():
        model[1].weight.mul_(mask)
        row, column = mask.nonzero()[0].tolist()
        model[1].weight[row, column] = 0
    trace = recorded(model)
    assert usable_phases(trace) == {"forward": "2:4"}
    assert trace.payloads["1.weight"][row, column]


class Sparse(torch.autograd.Function):
    """The authors' own SR-STE: the mask is drawn in the forward and held nowhere."""

    @staticmethod
    def forward(ctx, weight):
        mask = nm_mask(weight, PATTERN)
        ctx.save_for_backward(weight, mask)
        return weight * mask

    @staticmethod
    def backward(ctx, gradient):
        weight, mask = ctx.saved_tensors
        return gradient + 2e-4 * (~mask) * weight


class SparseLinear(nn.Linear):
    def forward(self, inputs):
        return nn.functional.linear(inputs, Sparse.apply(self.weight), self.bias)


def test_a_mask_that_nobody_holds_is_read_from_the_operand():
    model = network()
    own = SparseLinear(32, 32)
    model[1] = own
    trace = recorded(model)
    assert usable_phases(trace) == {"forward": "2:4"}
    assert np.array_equal(trace.payloads["1.weight"], nm_mask(own.weight, PATTERN).numpy())
    assert trace.masks["1.weight"].checks[0].violations > 0


@pytest.mark.parametrize("transposable", [False, True])
def test_what_backward_data_may_use_is_its_own_operand(transposable):
    model = network()
    mask = nm_mask(model[1].weight, PATTERN)
    if transposable:
        mask = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1]], dtype=torch.bool).repeat_interleave(1, 0).repeat(16, 8)
    model[1].register_buffer("weight_mask", mask)
    with torch.no_grad():
        model[1].weight.mul_(mask)
    expected = {"forward": "2:4", "backward_data": "2:4"} if transposable else {"forward": "2:4"}
    assert dict.fromkeys(usable_phases(recorded(model)), "2:4") == expected
