"""Minimum-variance unbiased N:M estimators of a gradient (Chmiel et al., ICLR 2023, arXiv 2203.10991), in torch.

Every estimator keeps at most N of each M consecutive elements along axis 0 (the tokens: the reduction of `backward_weight`).
*Exact* keeps element i with p_i = min(1, c |a_i|), sum p = N, and emits a_i / p_i: no unbiased estimator has less variance.
*Approximate* is what the published 2:4 kernel draws (huyz2023/2by4-pretrain): two without replacement, each by magnitude.
*Greedy* keeps the N largest as they are: the least error of a single draw, and biased.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern
from nmsim.training.masking import nm_mask

Estimator = Literal["exact", "approximate", "greedy"]
ESTIMATORS: tuple[str, ...] = get_args(Estimator)


def require_estimator(estimator: str, pattern: NMPattern) -> None:
    """InputError for an unknown estimator, and for a pattern that it is not defined for."""
    if estimator not in ESTIMATORS:
        raise InputError(
            "no such estimator", path="--recipe-option estimator", value=estimator, fix=f"choose one of {', '.join(ESTIMATORS)}"
        )
    if estimator == "approximate" and pattern.n != 2:
        raise InputError("the approximate estimator draws two of each group", path="--pattern", value=str(pattern), fix="use exact")


def sampled(rows: Tensor, pattern: NMPattern, estimator: str, generator: torch.Generator) -> Tensor:
    """An N:M estimate of `rows` [tokens, outputs] along axis 0, in its type."""
    if estimator == "greedy":
        return rows * nm_mask(rows, pattern, axis=0)
    groups = _groups(rows, pattern)
    if estimator == "exact":
        probabilities = exact_probabilities(groups, pattern)
        kept = _systematic(probabilities, generator)
    else:
        probabilities, kept = approximate_probabilities(groups), _two_by_magnitude(groups, generator)
    estimate = torch.where(kept, groups / probabilities.clamp_min(torch.finfo(groups.dtype).tiny), 0.0)
    return estimate.reshape(-1, rows.shape[1])[: len(rows)].to(rows.dtype)


def exact_probabilities(groups: Tensor, pattern: NMPattern) -> Tensor:
    """p_i = min(1, c |a_i|) with sum p = N over axis 1 of `groups` [count, M, ...]; a group of at most N non-zeros keeps them all."""
    magnitudes = groups.abs()
    certain = torch.zeros_like(magnitudes, dtype=torch.bool)
    shares = magnitudes
    # Each round can only add to what is certain, and at most N elements are.
    for _ in range(pattern.n):
        rest = torch.where(certain, 0.0, magnitudes)
        left = pattern.n - certain.sum(1, keepdim=True)
        shares = rest * (left / rest.sum(1, keepdim=True).clamp_min(torch.finfo(groups.dtype).tiny))
        certain = certain | (shares >= 1)
    return torch.where(certain, 1.0, shares)


def approximate_probabilities(groups: Tensor) -> Tensor:
    """p_i = t_i + |a_i| sum over j != i of t_j / (S - |a_j|), t = |a| / S: drawn first, or second after j."""
    tiny = torch.finfo(groups.dtype).tiny
    magnitudes = groups.abs()
    total = magnitudes.sum(1, keepdim=True)
    first = magnitudes / total.clamp_min(tiny)
    # Added up rather than subtracted: beside one dominant element a difference would have no digits left.
    everyone_else = 1 - torch.eye(groups.shape[1], dtype=groups.dtype)
    others = first / (everyone_else @ magnitudes).clamp_min(tiny)
    # A group of a single non-zero element keeps it for certain.
    return (first + magnitudes * (everyone_else @ others)).clamp_max(1.0)


def variance(groups: Tensor, probabilities: Tensor) -> Tensor:
    """Sum of a_i^2 (1 / p_i - 1): the variance of an unbiased estimator with these probabilities, over all groups."""
    return torch.where(probabilities > 0, groups.square() * (1 / probabilities.clamp_min(torch.finfo(groups.dtype).tiny) - 1), 0.0).sum()


def gradient_statistics(rows: Tensor, pattern: NMPattern) -> dict[str, float]:
    """What sparsifying `rows` [tokens, outputs] costs, each over the squared norm of `rows`.

    `mvue_variance` of the exact unbiased estimator (its bias is 0) and `greedy_bias`, the squared error of keeping the largest.
    """
    groups = _groups(rows, pattern)
    norm = groups.square().sum().clamp_min(torch.finfo(groups.dtype).tiny)
    lost = torch.where(nm_mask(groups, pattern, axis=1), 0.0, groups)
    return {
        "mvue_variance": float(variance(groups, exact_probabilities(groups, pattern)) / norm),
        "greedy_bias": float(lost.square().sum() / norm),
    }


def _groups(rows: Tensor, pattern: NMPattern) -> Tensor:
    """[tokens, outputs] -> fp32 [groups, M, outputs], zero-padded."""
    return pad(rows.detach().float(), (0, 0, 0, -len(rows) % pattern.m)).reshape(-1, pattern.m, rows.shape[1])


def _systematic(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """Keeps each element with its own probability, and never more than their sum, rounded up: one uniform number a group."""
    ends = probabilities.cumsum(1)
    start = torch.rand(probabilities[:, :1].shape, generator=generator, dtype=probabilities.dtype)
    # Element i is kept where one of the points u, u + 1, ... lies in its interval; a certain one always holds a point.
    # The sum may round to a little above N: a point beyond N would break the pattern.
    points = torch.minimum(torch.ceil(ends - start), probabilities.sum(1, keepdim=True).round())
    before = torch.cat([torch.ceil(-start), points[:, :-1]], 1)
    return (points > before) & (probabilities > 0)


def _two_by_magnitude(groups: Tensor, generator: torch.Generator) -> Tensor:
    """Draws two elements of each group without replacement, each with a probability in proportion to its magnitude."""
    magnitudes = groups.abs()
    kept = torch.zeros_like(magnitudes, dtype=torch.bool)
    for _ in range(2):
        left = torch.where(kept, 0.0, magnitudes)
        total = left.sum(1, keepdim=True)
        threshold = torch.rand(total.shape, generator=generator, dtype=groups.dtype) * total
        ends = left.cumsum(1)
        drawn = (ends > threshold) & (ends - left <= threshold) & (left > 0)
        kept = kept | drawn
    return kept
