"""Channels that several tensors of a network share, and reordering them without changing what the network computes.

Which channel of a producer is read as which input of its consumers is only a convention: reordered in all of them alike, through
residual additions (one space for the whole stream), normalisations (statistics and gains move along) and attention (values within
a head), the function stays as it is. A model that can be reordered declares its spaces in `channel_spaces()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nmsim.errors import InputError


class Axis(NamedTuple):
    """`size` channels along `axis` of the tensor `name` (a parameter or buffer), from `start` on; the size is the space's."""

    name: str
    axis: int = 0
    start: int = 0


@dataclass(frozen=True)
class ChannelSpace:
    """`size` channels that all `holders` share; channels move only within each of `blocks` equal parts (attention heads).

    `readers` are those holders whose weight reduces over the channels: what an order is searched for.
    """

    size: int
    holders: tuple[Axis, ...]
    readers: tuple[Axis, ...]
    blocks: int = 1


def channel_spaces(model: nn.Module) -> Sequence[ChannelSpace]:
    """The spaces that `model` declares; InputError where it declares none."""
    declared: Callable[[], Sequence[ChannelSpace]] | None = getattr(model, "channel_spaces", None)
    if declared is None:
        fix = "give the model a method channel_spaces, or use another recipe"
        raise InputError("the model does not say which of its channels belong together", path="MODEL", value=type(model).__name__, fix=fix)
    return declared()


def norm(path: str, module: nn.Module) -> tuple[Axis, ...]:
    """The vectors of a normalisation at `path`: gains, shifts and, of a batch normalisation, statistics."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return tuple(Axis(f"{path}.{name}") for name, tensor in tensors.items() if tensor.dim() == 1)


@torch.no_grad()
def reorder(model: nn.Module, space: ChannelSpace, order: NDArray[np.int64]) -> None:
    """Puts channel `order[i]` of the space in place i, in every tensor that holds it."""
    index = torch.from_numpy(order)
    for holder in space.holders:
        part = _channels(model, holder, space.size)
        part.copy_(part.index_select(holder.axis, index))


def read_matrices(model: nn.Module, space: ChannelSpace, pruned: Iterable[str]) -> NDArray[np.float32]:
    """The weights of the `pruned` layers that read the space, as one matrix [rows, channels]."""
    wanted = set(pruned)
    rows = [
        _channels(model, reader, space.size).detach().movedim(reader.axis, -1).reshape(-1, space.size)
        for reader in space.readers
        if reader.name.rpartition(".")[0] in wanted
    ]
    return torch.cat(rows).numpy() if rows else np.empty((0, space.size), dtype=np.float32)


def _channels(model: nn.Module, holder: Axis, size: int) -> Tensor:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return tensors[holder.name].narrow(holder.axis, holder.start, size)
