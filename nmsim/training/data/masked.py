"""Masked characters: the text data for a model that sees both sides (Devlin et al., NAACL 2019), 15 % of the characters hidden."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nmsim.training.data.dataset import Dataset

MASKED_SHARE = 0.15
MASK_CODE = 0
"""No character of the text has it."""
IGNORED = -100
"""Target of a character that was not masked: what the cross entropy leaves out."""


@dataclass(frozen=True)
class MaskedText(Dataset):
    """Samples whose targets are their own masked characters; held-out samples are masked in one fixed way."""

    @classmethod
    def of(cls, text: Dataset) -> MaskedText:
        """The same text, to be filled in instead of continued."""
        return cls(
            description=f"{text.description}, {MASKED_SHARE:.0%} of the characters masked",
            classes=text.classes,
            train_inputs=text.train_inputs,
            train_targets=text.train_inputs,
            held_out_inputs=text.held_out_inputs,
            held_out_targets=text.held_out_inputs,
        )

    def random_batch(self, samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`samples` training samples, masked anew."""
        return _masked(super().random_batch(samples, generator)[0], generator)

    def held_out_batches(self, samples: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All held-out samples in order, `samples` at a time."""
        generator = torch.Generator().manual_seed(0)
        for inputs, _ in super().held_out_batches(samples):
            yield _masked(inputs, generator)


def _masked(codes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    hidden = torch.rand(codes.shape, generator=generator) < MASKED_SHARE
    return codes.masked_fill(hidden, MASK_CODE), codes.masked_fill(~hidden, IGNORED)
