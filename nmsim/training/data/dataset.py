"""What the training loop asks of data: random training batches, and a held-out part that training never sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["images", "text"]


@dataclass(frozen=True)
class Dataset:
    """Samples and their targets, [samples, ...] each; targets are class indices, one a sample or one a position.

    `description` names the source and the sha256 of what was read.
    """

    description: str
    classes: int
    train_inputs: Tensor
    train_targets: Tensor
    held_out_inputs: Tensor
    held_out_targets: Tensor

    def random_batch(self, samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`samples` training samples drawn with replacement."""
        chosen = torch.randint(len(self.train_inputs), (samples,), generator=generator)
        return self.train_inputs[chosen], self.train_targets[chosen]

    def held_out_batches(self, samples: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All held-out samples in order, `samples` at a time."""
        yield from zip(torch.split(self.held_out_inputs, samples), torch.split(self.held_out_targets, samples), strict=True)
