"""What is no GEMM: bytes, phases, and whether it grows with the batch."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

import nmsim.training
from nmsim.sparsity.pattern import NMPattern
from nmsim.training.loop import Run
from nmsim.training.options import TrainOptions
from nmsim.workload.rescale import rescale_batch


def recorded(model, inputs, optimizer=None):
    with nmsim.training.record(model) as builder:
        model(inputs).square().sum().backward()
        if optimizer is not None:
            optimizer.step()
    return {(one.name, one.phase): one for one in builder.trace("test").operators}


def test_an_activation_reads_and_writes_its_elements_and_grows_with_the_batch():
    operators = recorded(nn.Sequential(nn.Linear(4, 6), nn.ReLU()), torch.randn(10, 4))
    relu = operators["relu", "forward"]
    assert (relu.bytes_read, relu.bytes_written, relu.count, relu.scales_with_batch) == (240, 240, 1, True)
    assert operators["threshold_backward", "backward"].bytes_read == 480


def test_the_gradient_of_a_bias_is_read_whole_and_written_small():
    operators = recorded(nn.Sequential(nn.Linear(4, 6)), torch.randn(10, 4))
    bias = operators["sum", "backward"]
    assert (bias.bytes_read, bias.bytes_written) == (240, 24)


def test_views_and_shapes_move_nothing():
    class Shaped(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 6)

        def forward(self, inputs):
            return self.linear(inputs).view(5, 2, 6).transpose(0, 1)[:, 1:].mT

    names = {name for name, phase in recorded(Shaped(), torch.randn(10, 4)) if phase == "forward"}
    assert not names & {"view", "transpose", "detach", "slice", "t", "expand"}


@pytest.mark.parametrize(("kind", "reads", "writes"), [(torch.optim.SGD, 3, 2), (torch.optim.AdamW, 4, 3)])
def test_a_fused_optimiser_is_one_kernel_over_all_parameters(kind, reads, writes):
    """SGD with momentum reads weight, gradient, momentum and writes two of them; Adam has one state more."""
    model = nn.Sequential(nn.Linear(4, 6, bias=False))
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    optimizer = kind(model.parameters(), lr=0.1, fused=True, **options)
    updates = [one for one in recorded(model, torch.randn(10, 4), optimizer).values() if one.name.startswith("_fused")]
    (update,) = updates
    # Adam also reads its step counter, 4 bytes.
    assert update.bytes_read == pytest.approx(reads * 4 * 24, abs=4)
    assert update.bytes_written == writes * 4 * 24
    assert (update.phase, update.scales_with_batch) == ("optimizer", False)


def test_the_first_step_of_an_optimiser_is_recorded_like_any_other():
    model = nn.Sequential(nn.Linear(4, 6))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    first = recorded(model, torch.randn(10, 4), optimizer)
    optimizer.zero_grad()
    assert first == recorded(model, torch.randn(10, 4), optimizer)


@pytest.mark.parametrize(
    ("model", "sizes"), [("resnet", {"width": 16, "layers": 1}), ("gpt", {"width": 64, "layers": 1, "heads": 2, "context": 64})]
)
def test_a_step_of_three_times_the_batch_is_the_rescaled_step(model, sizes):
    """GEMMs exactly; operators up to the vectors (biases, statistics) that travel with growing tensors."""

    def step(batch):
        options = TrainOptions(model, "sr-ste", NMPattern(2, 4), steps=1, batch=batch, sizes=sizes)
        return Run(options).recorded_step()[1].trace("test")

    rescaled, recorded_large = rescale_batch(step(16), 48), step(48)
    assert rescaled.gemms == recorded_large.gemms
    for phase in ("forward", "backward", "optimizer"):
        one, other = (_bytes_by_operator(trace.operators, phase) for trace in (rescaled, recorded_large))
        assert one.keys() == other.keys()
        for name in one:
            assert one[name] == pytest.approx(other[name], rel=0.12), (phase, name)


def _bytes_by_operator(operators, phase):
    total: Counter[str] = Counter()
    for one in operators:
        # The seed of the backward is a scalar; it has no size to compare.
        if one.phase == phase and one.name != "ones_like":
            total[one.name] += (one.bytes_read + one.bytes_written) * one.count
    return total
