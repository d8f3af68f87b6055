"""Learning rate and optimiser."""

from __future__ import annotations

import math

import torch
from torch import nn

from nmsim.errors import InputError

OPTIMIZERS = ("sgd", "adamw")
MOMENTUM = 0.9
ADAM_BETAS = (0.9, 0.95)
FINAL_SHARE = 0.01
"""The learning rate of the last step as a share of the peak."""


def learning_rate(step: int, steps: int, peak: float, warmup_steps: int) -> float:
    """Linear warm-up over the first `warmup_steps`, then half a cosine down to a hundredth of the peak at the last step.

    `step` counts from 1 to `steps`.
    """
    if step <= warmup_steps:
        return peak * step / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * (FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * progress)))


def make_optimizer(name: str, model: nn.Module, peak: float, weight_decay: float) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; weight decay on matrices and filters only.

    Fused: one kernel for all parameters, which is what a trace of the step should show.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=peak, momentum=MOMENTUM, nesterov=True, fused=True)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=peak, betas=ADAM_BETAS, fused=True)
    raise InputError("no such optimizer", path="--optimizer", value=name, fix=f"choose one of {', '.join(OPTIMIZERS)}")
