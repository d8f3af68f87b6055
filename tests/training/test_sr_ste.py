from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nmsim.errors import InputError
from nmsim.sparsity.mask import nm_mask
from nmsim.sparsity.metrics import flip_rate
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.sr_ste import sgd_step
from nmsim.training.layers import SparseConv2d, SparseLayer, SparseLinear
from nmsim.training.recipes import RECIPES, make_recipe
from nmsim.training.recipes.sr_ste import SrSte

PATTERN = NMPattern(2, 4)


def layer_with(weights: torch.Tensor, recipe: SrSte) -> SparseLinear:
    dense = nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    with torch.no_grad():
        dense.weight.copy_(weights)
    return SparseLinear(dense, "layer", recipe)


def kept(layer: SparseLayer) -> torch.Tensor:
    assert layer.weight_mask is not None
    return layer.weight_mask


def test_a_step_is_the_published_one(vectors):
    """W, gradient and result of the vectors: the gradient g(W~) is fed through the layer's own backward."""
    case = vectors["sr_ste_update"]
    weights, gradient = torch.tensor(case["W"]), torch.tensor(case["grad_wrt_sparse_W"])
    layer = layer_with(weights, SrSte(NMPattern(case["N"], case["M"]), decay=case["lambda_w"]))
    # With X the identity, Y = W~^T and dW = dY^T X is dY^T itself.
    outputs = layer(torch.eye(4))
    torch.testing.assert_close(outputs.detach().t(), torch.tensor(case["sparse_W"]))
    outputs.backward(gradient.t())
    torch.testing.assert_close(layer.weight.grad, torch.tensor(case["effective_grad"]), rtol=1e-6, atol=1e-8)
    torch.optim.SGD(layer.parameters(), lr=case["lr"]).step()
    torch.testing.assert_close(layer.weight.detach(), torch.tensor(case["W_next_plain_sgd"]))


def test_decay_goes_through_adam_as_part_of_the_gradient(vectors):
    case, decay = vectors["sr_ste_update"], vectors["masked_decay_adam_step1"]
    layer = layer_with(torch.tensor(case["W"]), SrSte(PATTERN, decay=decay["lambda_w"]))
    layer(torch.eye(4)).backward(torch.tensor(case["grad_wrt_sparse_W"]).t())
    torch.optim.Adam(layer.parameters(), lr=decay["lr"], betas=tuple(decay["betas"]), eps=decay["eps"]).step()
    torch.testing.assert_close(layer.weight.detach(), torch.tensor(decay["W_next_decay_on_grad"]), rtol=1e-6, atol=1e-7)


def test_ten_steps_equal_the_numpy_reference_masks_included():
    generator = np.random.default_rng(0)
    weights = generator.standard_normal((8, 16)).astype(np.float32)
    layer = layer_with(torch.from_numpy(weights), SrSte(PATTERN, decay=0.01))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    expected = weights
    for _ in range(10):
        inputs, gradient = generator.standard_normal((2, 5, 16)).astype(np.float32)[0], generator.standard_normal((5, 8)).astype(np.float32)
        mask = nm_mask(expected, PATTERN)
        expected = sgd_step(expected, gradient.T @ inputs, mask, 0.5, 0.01)
        optimizer.zero_grad()
        layer(torch.from_numpy(inputs)).backward(torch.from_numpy(gradient))
        assert np.array_equal(kept(layer).numpy(), mask)
        optimizer.step()
    np.testing.assert_allclose(layer.weight.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_groups_of_a_convolution_run_along_the_input_channels_of_one_tap():
    dense = nn.Conv2d(8, 4, 3, bias=False)
    layer = SparseConv2d(dense, "layer", SrSte(PATTERN))
    layer(torch.randn(1, 8, 5, 5))
    stored = kept(layer).permute(0, 2, 3, 1)
    assert torch.equal(stored.reshape(-1, 4).sum(1), torch.full((4 * 9 * 2,), 2))
    assert np.array_equal(stored.numpy(), nm_mask(dense.weight.detach().permute(0, 2, 3, 1).numpy(), PATTERN))


def test_the_layer_counts_the_flips_between_two_forwards():
    layer = layer_with(torch.randn(4, 8), SrSte(PATTERN))
    layer(torch.randn(1, 8))
    before = kept(layer).numpy().copy()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(4, 8))
    layer(torch.randn(1, 8))
    after = kept(layer).numpy()
    assert layer.flipped == round(flip_rate(before, after) * before.size) > 0


def test_passes_are_charged_by_the_shape_of_the_weight():
    layer = layer_with(torch.randn(64, 128), SrSte(PATTERN))
    passes = {one.kind: one for one in layer.recipe.passes(layer)}
    elements = 64 * 128
    assert passes["mask_search"].bytes_read == 4 * elements
    assert passes["mask_search"].operations == 6 * elements // 4
    # Two of four values of 2 bytes, and 2 bits of metadata for each.
    assert passes["compress"].bytes_written == elements // 2 * 2 + elements // 2 * 2 // 8
    assert passes["decay"].bytes_written == 4 * elements
    assert not any(one.scales_with_batch for one in passes.values())


def test_recipe_options_are_typed_and_unknown_ones_are_named():
    assert make_recipe("sr-ste", PATTERN, {"decay": "6e-5"}) == SrSte(PATTERN, decay=6e-5)
    with pytest.raises(InputError, match="no such recipe, got 'magic'; choose one of dense, asp, ste, sr-ste"):
        make_recipe("magic", PATTERN, {})
    with pytest.raises(InputError, match="recipe sr-ste has no such option, got 'rate'; its options: decay"):
        make_recipe("sr-ste", PATTERN, {"rate": "1"})
    with pytest.raises(InputError, match="decay is of type float, got 'much'"):
        make_recipe("sr-ste", PATTERN, {"decay": "much"})
    assert all(issubclass(kind, RECIPES["dense"].__mro__[1]) for kind in RECIPES.values())
