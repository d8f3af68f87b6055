"""Characters of Python's own reference manual: the help topics that ship with every Python as `pydoc_data.topics`.

The text differs a little between Python versions (the description holds its sha256); the alphabet does not, so neither do the
shapes of a model: 128 codes, ASCII, with code 127 for every other character.
"""

from __future__ import annotations

import hashlib
import platform

import torch
from torch import Tensor

from nmsim.errors import InputError
from nmsim.training.data.dataset import Dataset

ALPHABET = 128
_OTHER = ALPHABET - 1
_HELD_OUT_SHARE = 10
"""One part in ten, the end of the text, is held out."""


def load_pydoc_text(context: int) -> Dataset:
    """Samples of `context` characters, the target of each being the character after it.

    Training samples are all windows of the first nine tenths (overlapping views of one tensor); held-out samples are
    consecutive windows of the rest.
    """
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name] for name in sorted(topics))
    digest = hashlib.sha256(text.encode()).hexdigest()
    codes = encode(text)
    split = len(codes) - len(codes) // _HELD_OUT_SHARE
    if context >= len(codes) // _HELD_OUT_SHARE:
        raise InputError("the context is longer than the held-out text", path="--context", value=context)
    train, held_out = codes[:split], codes[split:]
    inputs, targets = _windows(train, context, step=1)
    held_out_inputs, held_out_targets = _windows(held_out, context, step=context)
    source = f"pydoc_data.topics of Python {platform.python_version()}"
    return Dataset(
        description=f"{source}, {len(text)} characters, last tenth held out, sha256 {digest}",
        classes=ALPHABET,
        train_inputs=inputs,
        train_targets=targets,
        held_out_inputs=held_out_inputs,
        held_out_targets=held_out_targets,
    )


def encode(text: str) -> Tensor:
    """Text -> int64 codes in [0, 128)."""
    return torch.tensor([code if (code := ord(character)) < _OTHER else _OTHER for character in text])


def _windows(codes: Tensor, context: int, step: int) -> tuple[Tensor, Tensor]:
    """(inputs, targets), [windows, context] each: views in which the targets lie one character further."""
    windows = codes.unfold(0, context + 1, step)
    return windows[:, :-1], windows[:, 1:]
