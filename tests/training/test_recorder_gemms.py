"""The GEMMs of a recorded step, against hand counts and against torch's own FLOP counter."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import nmsim.training
from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern
from nmsim.training.data.text import ALPHABET
from nmsim.training.models.gpt import Gpt, GptConfig
from nmsim.training.models.resnet import ResNet, ResNetConfig
from nmsim.training.recipes.sr_ste import SrSte
from nmsim.training.recorder.flops import gemm_flops
from nmsim.training.selection import sparsify
from nmsim.workload.store import read_trace
from nmsim.workload.validate import trace_findings

PATTERN = NMPattern(2, 4)


def recorded(model, inputs, targets, **options):
    """The trace of one step of `model`, and the FLOPs that torch counted in it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with FlopCounterMode(display=False) as counter, nmsim.training.record(model, **options) as builder:
        logits = model(inputs)
        loss = cross_entropy(logits.flatten(0, -2), targets.flatten())
        loss.backward()
        optimizer.step()
    trace = builder.trace("test")
    assert list(trace_findings(trace)) == []
    return trace, counter.get_total_flops()


def shapes(trace):
    return {gemm.id: (gemm.m, gemm.n, gemm.k, gemm.l) for gemm in trace.gemms}


def mlp():
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 8))


def test_three_lines_around_a_plain_training_step_write_a_trace(tmp_path):
    model, inputs, targets = mlp(), torch.randn(6, 12), torch.randint(8, (6,))
    optimizer = torch.optim.AdamW(model.parameters())

    with nmsim.training.record(model) as trace_builder:
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
    trace_builder.write(tmp_path / "mine.nmtrace")

    trace = read_trace(tmp_path / "mine.nmtrace")
    assert (trace.name, trace.batch, trace.dtype, trace.provenance.model) == ("mine", 6, "fp32", "Sequential")
    assert shapes(trace) == {
        "0:forward": (6, 20, 12, 1),
        "2:forward": (6, 8, 20, 1),
        "2:backward_data": (6, 20, 8, 1),
        "2:backward_weight": (8, 20, 6, 1),
        # A first layer has no backward_data: nobody asks for the gradient of the inputs.
        "0:backward_weight": (20, 12, 6, 1),
    }
    by_id = {gemm.id: gemm for gemm in trace.gemms}
    forward, weight_gradient = by_id["2:forward"], by_id["2:backward_weight"]
    assert (forward.a.role, forward.a.axes, forward.a.shape) == ("activation", ("m", "k"), (6, 20))
    assert (forward.b.role, forward.b.axes, forward.b.shape) == ("weight", ("n", "k"), (8, 20))
    assert (weight_gradient.a.role, weight_gradient.a.axes, weight_gradient.a.shape) == ("gradient", ("k", "m"), (6, 8))
    assert (weight_gradient.b.role, weight_gradient.b.axes, weight_gradient.b.shape) == ("activation", ("k", "n"), (6, 20))
    assert {gemm.batch_axis for gemm in trace.gemms if gemm.phase != "backward_weight"} == {"m"}
    assert {gemm.batch_axis for gemm in trace.gemms if gemm.phase == "backward_weight"} == {"k"}
    assert trace.masks == {}


def test_flops_of_an_mlp_are_the_hand_count_and_torchs():
    trace, counted = recorded(mlp(), torch.randn(6, 12), torch.randint(8, (6,)))
    assert gemm_flops(trace) == 2 * 6 * (2 * 12 * 20 + 3 * 20 * 8) == counted


def test_flops_of_a_gpt_are_the_hand_count_and_torchs():
    width, layers, heads, context, batch = 32, 2, 4, 16, 3
    model = Gpt(GptConfig(width, layers, heads, context), ALPHABET)
    sparsify(model, SrSte(PATTERN), PATTERN)
    codes = torch.randint(ALPHABET, (batch, context))
    trace, counted = recorded(model, codes, codes)
    tokens = batch * context
    attention = 3 * 2 * 2 * batch * context * context * width
    weights = 3 * 2 * tokens * (layers * 12 * width * width + width * ALPHABET)
    assert gemm_flops(trace) == layers * attention + weights == counted
    products = [gemm for gemm in trace.gemms if gemm.l > 1]
    assert {gemm.l for gemm in products} == {batch * heads}
    assert {gemm.batch_axis for gemm in products} == {"l"}
    phases = [gemm.phase for gemm in products if gemm.module == "blocks.0.attention"]
    assert (phases.count("forward"), phases.count("backward_data"), len(phases)) == (2, 4, 6)


def test_flops_of_a_resnet_are_the_hand_count_and_torchs():
    model, batch = ResNet(ResNetConfig(width=8, layers=1), 10), 4
    sparsify(model, SrSte(PATTERN), PATTERN)
    trace, counted = recorded(model, torch.randn(batch, 1, 8, 8), torch.randint(10, (batch,)))
    # (output pixels of an image, reduction, filters) of every convolution but the stem, then the stem and the classifier.
    inner = [(64, 72, 8), (64, 72, 8), (16, 72, 16), (16, 144, 16), (16, 8, 16), (4, 144, 32), (4, 288, 32), (4, 16, 32)]
    three = sum(pixels * k * filters for pixels, k, filters in inner) + 32 * 10
    assert gemm_flops(trace) == 2 * batch * (3 * three + 2 * 64 * 9 * 8) == counted
    strided = next(gemm for gemm in trace.gemms if gemm.id == "blocks.1.conv1:backward_data")
    assert (strided.m, strided.n, strided.k) == (batch * 64, 8, 9 * 16)
    assert strided.macs == batch * 16 * 72 * 16


def test_grouped_convolutions_are_l_gemms_and_their_backward_is_not_counted_twice():
    model = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 16, 3, groups=4, padding=1), nn.Flatten(), nn.Linear(16 * 25, 3))
    trace, _ = recorded(model, torch.randn(2, 8, 5, 5), torch.randint(3, (2,)))
    assert shapes(trace)["1:forward"] == (50, 4, 18, 4)
    assert shapes(trace)["1:backward_data"] == (50, 2, 36, 4)
    assert shapes(trace)["1:backward_weight"] == (4, 18, 50, 4)
    assert {gemm.macs for gemm in trace.gemms if gemm.module == "1"} == {50 * 4 * 18 * 4}


def test_dilated_convolutions_reach_further_and_multiply_as_often():
    second = nn.Conv2d(8, 8, 3, padding=(2, 1), dilation=(2, 1))
    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=2, dilation=2), second, nn.Flatten(), nn.Linear(8 * 100, 3))
    trace, counted = recorded(model, torch.randn(2, 4, 10, 10), torch.randint(3, (2,)))
    assert shapes(trace)["1:forward"] == (200, 8, 72, 1)
    geometry = trace.gemms[1].conv
    assert geometry is not None
    assert (geometry.dilation_h, geometry.dilation_w) == (2, 1)
    assert gemm_flops(trace) == counted


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_a_convolution_multiplies_as_often_in_each_phase_whatever_its_padding(padding):
    """Without padding dX has more pixels than Y, with much of it fewer; dX = sum over taps of dY W has a term for each of Y's."""
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 8, 3, padding=padding), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    trace, counted = recorded(model, torch.randn(2, 1, 6, 6), torch.randint(3, (2,)))
    pixels = 2 * (4 + 2 * padding) ** 2
    assert [gemm.macs for gemm in trace.gemms if gemm.module == "1"] == [pixels * 4 * 9 * 8] * 3
    assert gemm_flops(trace) == counted


def test_one_dimensional_convolutions_have_height_one_and_three_dimensional_ones_are_refused():
    model = nn.Sequential(nn.Conv1d(4, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 6, 3))
    trace, counted = recorded(model, torch.randn(2, 4, 6), torch.randint(3, (2,)))
    assert shapes(trace)["0:forward"] == (12, 8, 12, 1)
    assert gemm_flops(trace) == counted
    deep = nn.Sequential(nn.Conv3d(1, 2, 2), nn.Flatten())
    with pytest.raises(InputError, match="0: the recorder knows 1-D and 2-D convolutions, and this one is 3-D"):
        recorded(deep, torch.randn(2, 1, 3, 3, 3), torch.randint(3, (2,)))


def test_frozen_weights_have_no_backward_weight():
    model = mlp()
    model[0].weight.requires_grad_(False)
    model[2].weight.requires_grad_(False)
    trace, counted = recorded(model, torch.randn(6, 12), torch.randint(8, (6,)))
    assert set(shapes(trace)) == {"0:forward", "2:forward", "2:backward_data"}
    assert gemm_flops(trace) == counted


def test_square_layers_and_equal_sizes_still_know_their_phases():
    """Tokens, inputs and outputs all alike: only identity, not shape, tells the two gradients apart."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    trace, _ = recorded(model, torch.randn(8, 8), torch.randint(8, (8,)))
    phases = {gemm.id: (gemm.a.role, gemm.b.role, gemm.b.axes) for gemm in trace.gemms}
    assert phases["1:backward_data"] == ("gradient", "weight", ("k", "n"))
    assert phases["1:backward_weight"] == ("gradient", "activation", ("k", "n"))
    assert len(trace.gemms) == 5


class Odd(nn.Module):
    """What users do: a weight stored [I, O], a weight that comes first, one module used twice, and attention by hand."""

    def __init__(self):
        super().__init__()
        self.inputs = nn.Linear(8, 8)
        self.stored_by_input = nn.Parameter(torch.randn(8, 12))
        self.comes_first = nn.Parameter(torch.randn(16, 12))
        self.twice = nn.Linear(16, 16)

    def forward(self, features):
        hidden = self.inputs(features) @ self.stored_by_input
        hidden = (self.comes_first @ hidden.t()).t()
        hidden = self.twice(self.twice(hidden).relu())
        scores = (hidden.unsqueeze(0) @ hidden.unsqueeze(0).transpose(1, 2)).softmax(-1)
        return (scores @ hidden.unsqueeze(0)).squeeze(0)


def test_odd_modules_are_put_in_one_frame():
    trace, counted = recorded(Odd(), torch.randn(6, 8), torch.randint(16, (6,)))
    assert gemm_flops(trace) == counted
    by_id = {gemm.id: gemm for gemm in trace.gemms}
    # In its own module "model": 0 is the weight stored [I, O], 1 the one that comes first, 2 and 3 the attention products.
    stored = by_id["model#0:forward"]
    assert (stored.m, stored.n, stored.k, stored.b.axes, stored.b.shape) == (6, 12, 8, ("k", "n"), (8, 12))
    first = by_id["model#1:forward"]
    assert (first.m, first.n, first.k, first.b.role, first.b.axes) == (6, 16, 12, "weight", ("n", "k"))
    gradient = by_id["model#1:backward_weight"]
    assert (gradient.m, gradient.n, gradient.k, gradient.a.role) == (16, 12, 6, "gradient")
    assert {f"twice#{use}:{phase}" for use in (0, 1) for phase in ("forward", "backward_data", "backward_weight")} <= set(by_id)
    assert {"model#2:backward_data:a", "model#2:backward_data:b", "model#3:backward_data:a", "model#3:backward_data:b"} <= set(by_id)
    assert {gemm.phase for gemm in trace.gemms if gemm.module == "inputs"} == {"forward", "backward_weight"}


def test_inputs_drawn_inside_the_block_are_data_and_not_constants():
    model = mlp()
    with nmsim.training.record(model) as builder:
        model(torch.randn(6, 12)).sum().backward()
    trace = builder.trace("test")
    assert {gemm.batch_axis for gemm in trace.gemms} == {"m", "k"}
    assert trace.batch == 6


def test_checkpointed_layers_count_their_forward_again():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(8, 8), nn.Linear(16, 4)
            self.inner = nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 16))

        def forward(self, features):
            return self.last(checkpoint(self.inner, self.first(features), use_reentrant=False))

    trace, counted = recorded(Checkpointed(), torch.randn(6, 8), torch.randint(4, (6,)))
    phases = sorted(gemm.phase for gemm in trace.gemms if gemm.module == "inner.0")
    assert phases == ["backward_data", "backward_weight", "forward", "forward"]
    assert gemm_flops(trace) == counted


@pytest.mark.parametrize("reentrant", [False, True])
def test_square_checkpointed_layers_are_not_taken_for_gradients(reentrant):
    """Recomputed inside a backward, with operands that fit every role by their shape."""

    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)
            self.inner = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Tanh())

        def forward(self, features):
            return self.last(checkpoint(self.inner, self.first(features), use_reentrant=reentrant))

    trace, counted = recorded(Square(), torch.randn(8, 8), torch.randint(8, (8,)))
    for module in ("inner.0", "inner.1"):
        phases = [gemm.phase for gemm in trace.gemms if gemm.module == module]
        assert sorted(phases) == ["backward_data", "backward_weight", "forward", "forward"]
    assert gemm_flops(trace) == counted


def test_torchs_own_transformer_layer_is_recorded_and_a_fused_recurrent_one_refused():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.head = nn.Linear(16, 4)

        def forward(self, features):
            return self.head(self.layer(features))

    trace, counted = recorded(Encoder(), torch.randn(2, 6, 16), torch.randint(4, (2, 6)))
    assert gemm_flops(trace) == counted
    assert {"layer.linear1:backward_data", "layer.self_attn#0:forward", "head:backward_weight"} <= set(shapes(trace))
    recurrent = nn.LSTM(4, 8, batch_first=True)
    with pytest.raises(InputError, match="does not know the product mkldnn_rnn_layer"), nmsim.training.record(recurrent):
        recurrent(torch.randn(2, 3, 4))


def test_a_fixed_matrix_that_comes_first_leaves_the_samples_where_they_are():
    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)
            self.register_buffer("mix", torch.randn(5, 8))

        def forward(self, features):
            return (self.mix @ self.linear(features).t()).t()

    trace, _ = recorded(Mixing(), torch.randn(6, 8), torch.randint(5, (6,)))
    axes = {gemm.id: (gemm.n, gemm.k, gemm.batch_axis) for gemm in trace.gemms}
    assert axes["model:forward"] == (6, 8, "n")
    # d(features) as its own transpose, dD^T A: rows are samples.
    assert axes["model:backward_data:b"] == (8, 5, "m")


def test_fused_attention_is_recorded_as_its_math_products_and_never_silently_lost():
    class Attention(nn.Module):
        def forward(self, query):
            return scaled_dot_product_attention(query, query, query)

    model, query = Attention(), torch.randn(2, 2, 8, 4, requires_grad=True)
    with nmsim.training.record(model) as builder:
        model(query).sum().backward()
    assert len(builder.trace("test", kind="initialised").gemms) == 6
    with (
        pytest.raises(InputError, match="does not know the product _scaled_dot_product_flash_attention_for_cpu"),
        nmsim.training.record(model),
        sdpa_kernel(SDPBackend.FLASH_ATTENTION),
    ):
        model(query)


def test_a_backward_without_its_forward_is_refused():
    model = mlp()
    loss = model(torch.randn(6, 12)).sum()
    with pytest.raises(InputError, match="no gradient of a recorded forward product"), nmsim.training.record(model):
        loss.backward()


def test_an_empty_block_and_an_early_question_are_refused():
    model = mlp()
    with pytest.raises(InputError, match="no GEMM ran inside record"), nmsim.training.record(model):
        pass
    with pytest.raises(InputError, match="nothing is recorded yet"), nmsim.training.record(model) as builder:
        builder.trace("early")


def test_recording_changes_neither_the_loss_nor_the_update_and_leaves_no_hooks():
    inputs, targets = torch.randn(6, 12), torch.randint(8, (6,))
    torch.manual_seed(1)
    plain = mlp()
    torch.manual_seed(1)
    watched = mlp()
    cross_entropy(plain(inputs), targets).backward()
    with nmsim.training.record(watched):
        cross_entropy(watched(inputs), targets).backward()
    for expected, found in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(expected.grad, found.grad)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in watched.modules())
