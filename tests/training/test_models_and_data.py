from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern
from nmsim.training.data import load_dataset
from nmsim.training.data.text import ALPHABET, encode
from nmsim.training.layers import SparseLayer
from nmsim.training.models import model_config
from nmsim.training.models.gpt import Gpt, GptConfig
from nmsim.training.models.resnet import ResNet, ResNetConfig
from nmsim.training.recipes.sr_ste import SrSte
from nmsim.training.schedule import learning_rate, make_optimizer
from nmsim.training.selection import prunable_layers, sparsify

PATTERN = NMPattern(2, 4)


def test_a_gpt_sees_no_future():
    model = Gpt(GptConfig(width=16, layers=2, heads=2, context=8), ALPHABET)
    codes = torch.randint(ALPHABET, (1, 8))
    changed = codes.clone()
    changed[0, 5] = (codes[0, 5] + 1) % ALPHABET
    before, after = model(codes), model(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_the_convention_leaves_first_convolution_head_and_embeddings_dense():
    resnet = prunable_layers(ResNet(ResNetConfig(width=8, layers=1), 10))
    assert "stem.0" not in resnet
    assert "classifier" not in resnet
    assert {"blocks.0.conv1", "blocks.1.shortcut.0", "blocks.2.conv2"} <= set(resnet)
    gpt = prunable_layers(Gpt(GptConfig(width=16, layers=1, heads=2, context=8), ALPHABET))
    assert set(gpt) == {f"blocks.0.{part}" for part in ("attention.query_key_value", "attention.projection", "mlp.up", "mlp.down")}


def test_grouped_tied_and_too_narrow_layers_stay_dense():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(8, 8)
            self.tied, self.last = nn.Linear(8, 8, bias=False), nn.Linear(8, 2)
            self.tied.weight = self.embedding.weight
            self.convolutions = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 2, 1), nn.Conv2d(2, 4, 1))

    model = Tied()
    assert list(prunable_layers(model)) == ["convolutions.2", "convolutions.3"]
    # 2 of 4 saves nothing on 2 channels: the padded group keeps both.
    assert list(sparsify(model, SrSte(PATTERN), PATTERN)) == ["convolutions.2"]
    assert [name for name, module in model.named_modules() if isinstance(module, SparseLayer)] == ["convolutions.2"]


def test_held_out_digits_are_no_training_digits():
    data = load_dataset("digits", "images", 0)
    assert data.train_inputs.shape == (1437, 1, 8, 8)
    assert data.held_out_inputs.shape == (360, 1, 8, 8)
    train = {bytes(image) for image in data.train_inputs.numpy()}
    assert not train & {bytes(image) for image in data.held_out_inputs.numpy()}
    assert 0 <= data.train_inputs.min() < data.train_inputs.max() == 1


def test_the_target_of_a_character_is_the_next_one():
    data = load_dataset("pydoc", "text", 16)
    inputs, targets = data.random_batch(4, torch.Generator().manual_seed(0))
    assert inputs.shape == targets.shape == (4, 16)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    covered = sum(batch.numel() for batch, _ in data.held_out_batches(7))
    assert covered == data.held_out_inputs.numel() > 40_000


def test_characters_outside_ascii_share_the_last_code():
    assert encode("a\u2013z\u00e9").tolist() == [97, 127, 122, 127]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: load_dataset("imagenet", "images", 0), "no such data set, got 'imagenet'; choose digits"),
        (lambda: load_dataset("digits", "text", 16), "the model reads text, got 'digits'; choose pydoc"),
        (lambda: load_dataset("pydoc", "text", 10**6), "the context is longer than the held-out text"),
        (lambda: model_config("lenet", {}), "no such model, got 'lenet'; choose one of resnet, vit, gpt"),
        (lambda: model_config("resnet", {"heads": 2}), "model resnet has no such size, got 2; its sizes: width, layers"),
        (lambda: model_config("gpt", {"width": 0}), "a size is at least 1"),
        (lambda: model_config("gpt", {"width": 10, "heads": 4}), "a multiple of its heads"),
        (lambda: make_optimizer("lion", nn.Linear(2, 2), 0.1, 0.0), "no such optimizer, got 'lion'; choose one of sgd, adamw"),
    ],
)
def test_what_does_not_exist_or_fit_is_named_in_one_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()


def test_the_learning_rate_rises_to_its_peak_and_falls_to_a_hundredth():
    rates = [learning_rate(step, 100, 2.0, 10) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[9] == 2.0
    assert rates[-1] == pytest.approx(0.02)
    assert all(before > after for before, after in pairwise(rates[9:]))
