"""The three products of a sparse layer, against autograd on plain tensors."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, linear

from nmsim.sparsity.pattern import NMPattern
from nmsim.training.layers import SparseConv2d, SparseLinear
from nmsim.training.recipes.recipe import Recipe

PATTERN = NMPattern(2, 4)


@dataclass(frozen=True)
class HalfForwardThirdBackward(Recipe):
    """Every hook is told apart by a factor of its own."""

    def forward_weight(self, layer, weight):
        return weight / 2

    def backward_weight(self, layer, weight, forward_weight):
        return weight / 3

    def output_gradient(self, layer, gradient):
        return gradient * 5

    def weight_gradient(self, layer, weight, gradient):
        return gradient + 7 * weight


def dense_gradients(product, inputs, weight, bias, gradient):
    """(Y, dX, dW, db) by autograd."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (inputs, weight, bias)]
    outputs = product(*leaves)
    outputs.backward(gradient)
    return outputs.detach(), *(leaf.grad for leaf in leaves)


def linear_case():
    layer = nn.Linear(8, 12)
    return layer, SparseLinear, torch.randn(2, 3, 8), lambda x, w, b: linear(x, w, b)


def conv_case():
    layer = nn.Conv2d(4, 8, 3, stride=2, padding=1)
    return layer, SparseConv2d, torch.randn(2, 4, 6, 6), lambda x, w, b: conv2d(x, w, b, stride=2, padding=1)


@pytest.mark.parametrize("case", [linear_case, conv_case])
def test_each_product_uses_the_operand_of_its_own_hook(case):
    dense, kind, inputs, product = case()
    layer = kind(dense, "layer", HalfForwardThirdBackward(PATTERN))
    inputs.requires_grad_()
    outputs = layer(inputs)
    gradient = torch.randn_like(outputs)
    outputs.backward(gradient)
    weight, bias = dense.weight.detach(), dense.bias.detach()
    expected, _, _, bias_gradient = dense_gradients(product, inputs, weight / 2, bias, gradient)
    _, data, _, _ = dense_gradients(product, inputs, weight / 3, bias, gradient)
    _, _, weights, _ = dense_gradients(product, inputs, weight, bias, 5 * gradient)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(inputs.grad, data)
    torch.testing.assert_close(dense.weight.grad, weights + 7 * weight)
    torch.testing.assert_close(dense.bias.grad, bias_gradient)


@pytest.mark.parametrize("case", [linear_case, conv_case])
def test_a_layer_under_the_base_recipe_is_the_dense_layer_also_under_autocast(case):
    dense, kind, inputs, _ = case()
    layer = kind(dense, "layer", Recipe(PATTERN))
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = dense(inputs), layer(inputs)
    assert found.dtype == torch.bfloat16
    assert torch.equal(expected, found)
    expected.sum().backward()
    weights = dense.weight.grad.clone()
    dense.weight.grad = None
    found.sum().backward()
    assert torch.equal(weights, dense.weight.grad)


def test_a_frozen_weight_and_a_first_layer_get_no_gradient():
    dense = nn.Linear(8, 12)
    dense.weight.requires_grad_(False)
    SparseLinear(dense, "layer", Recipe(PATTERN))(torch.randn(2, 8)).sum().backward()
    assert dense.weight.grad is None
    assert dense.bias.grad is not None


def test_a_sparse_layer_keeps_the_parameters_and_the_state_dict_of_the_dense_one():
    dense = nn.Conv2d(4, 8, 3)
    layer = SparseConv2d(dense, "layer", Recipe(PATTERN))
    layer.keep_mask(torch.ones(8, 3, 3, 4, dtype=torch.bool))
    assert layer.weight is dense.weight
    assert list(layer.state_dict()) == list(dense.state_dict())
