"""Channels reordered through residual joins, normalisations and attention: the function stays, and more magnitude is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.permutation import kept_magnitude
from nmsim.training.channels import channel_spaces, read_matrices, reorder
from nmsim.training.masking import nm_mask
from nmsim.training.models.gpt import Gpt, GptConfig
from nmsim.training.models.resnet import ResNet, ResNetConfig
from nmsim.training.models.vit import Vit, VitConfig
from nmsim.training.recipes.permute import Permute
from nmsim.training.selection import sparsify

PATTERN = NMPattern(2, 4)


def resnet():
    model = ResNet(ResNetConfig(width=8, layers=2), 10)
    # Statistics and gains that differ by channel, so that one forgotten in a reordering shows.
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 1, 8, 8))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
    return model.eval(), torch.randn(4, 1, 8, 8)


def randomised(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def vit():
    return randomised(Vit(VitConfig(width=16, layers=2, heads=2), 10)), torch.randn(4, 1, 8, 8)


def gpt():
    return randomised(Gpt(GptConfig(width=16, layers=2, heads=2, context=8), 128)), torch.randint(128, (3, 8))


@pytest.mark.parametrize("case", [resnet, vit, gpt])
def test_any_order_of_any_space_leaves_the_function_as_it_is(case):
    model, inputs = case()
    generator = np.random.default_rng(0)
    spaces = channel_spaces(model)
    expected = model(inputs)
    for space in spaces:
        width = space.size // space.blocks
        reorder(model, space, np.concatenate([block * width + generator.permutation(width) for block in range(space.blocks)]))
        torch.testing.assert_close(model(inputs), expected, rtol=1e-4, atol=1e-4)
    assert len({axis.name for space in spaces for axis in space.readers}) >= 8


def test_a_channel_moved_in_one_tensor_alone_changes_the_function():
    model, inputs = vit()
    space = channel_spaces(model)[-1]
    expected = model(inputs)
    short = type(space)(space.size, space.holders[1:], space.readers, space.blocks)
    reorder(model, short, np.roll(np.arange(space.size), 1).astype(np.int64))
    assert not torch.allclose(model(inputs), expected, atol=1e-3)


@pytest.mark.parametrize("case", [resnet, vit, gpt])
def test_the_recipe_keeps_more_magnitude_than_pruning_in_place(case):
    model, inputs = case()
    recipe = Permute(PATTERN)
    layers = list(sparsify(model, recipe, PATTERN).values())
    weights = [layer.to_gemm_layout(layer.weight.detach()) for layer in layers]
    before = sum(float((weight.abs() * nm_mask(weight, PATTERN)).sum()) for weight in weights)
    expected = model(inputs)
    with torch.no_grad():
        recipe.prune(model, layers)
    kept = sum(float((layer.to_gemm_layout(layer.weight.detach()).abs() * layer.mask_in_gemm_layout()).sum()) for layer in layers)
    assert kept > 1.005 * before
    for layer in layers:
        layer.drop_masks()
    torch.testing.assert_close(model(inputs), expected, rtol=1e-4, atol=1e-4)


def test_what_a_space_is_searched_for_are_the_pruned_layers_that_read_it():
    model, _ = vit()
    stream = channel_spaces(model)[-1]
    everything = read_matrices(model, stream, ["blocks.0.attention.query_key_value", "blocks.0.mlp.up", "classifier"])
    assert everything.shape == (3 * 16 + 4 * 16 + 10, 16)
    assert read_matrices(model, stream, []).shape == (0, 16)
    assert kept_magnitude(everything, PATTERN) > 0


def test_a_model_that_declares_no_channels_is_refused():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
    recipe = Permute(PATTERN)
    layers = list(sparsify(model, recipe, PATTERN).values())
    with pytest.raises(InputError, match="does not say which of its channels belong together, got 'Sequential'"):
        recipe.prune(model, layers)
