"""A decoder-only transformer (GPT-2's block: pre-norm, learned positions, GELU), for characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from nmsim.errors import InputError
from nmsim.training.channels import Axis, ChannelSpace, norm


@dataclass(frozen=True)
class GptConfig:
    """`width` features, `layers` blocks, `heads` attention heads a block, `context` characters a sample."""

    width: int = 128
    layers: int = 2
    heads: int = 4
    context: int = 128

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise InputError("the width of a GPT is a multiple of its heads", path="--width", value=f"{self.width} with {self.heads} heads")


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a position sees itself and what came before."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.projection = nn.Linear(config.width, config.width)

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, context, width] -> the same."""
        batch, context, width = hidden.shape
        split = self.query_key_value(hidden).view(batch, context, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        projected: Tensor = self.projection(mixed.transpose(1, 2).reshape(batch, context, width))
        return projected


class Mlp(nn.Module):
    """The feed-forward half of a block, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, context, width] -> the same."""
        result: Tensor = self.down(gelu(self.up(hidden)))
        return result


class Block(nn.Module):
    """Attention and feed-forward, each on a normalised input and added to the stream."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.attention = CausalSelfAttention(config)
        self.norm2 = nn.LayerNorm(config.width)
        self.mlp = Mlp(config.width)

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, context, width] -> the same."""
        hidden = hidden + self.attention(self.norm1(hidden))
        result: Tensor = hidden + self.mlp(self.norm2(hidden))
        return result


def transformer_spaces(blocks: nn.Sequential, width: int, heads: int, stream: Sequence[Axis], read_last: Axis) -> list[ChannelSpace]:
    """Spaces of pre-norm blocks: the stream through all of them, the inside of each feed-forward, the values of each head.

    `stream` are the tensors outside the blocks that write to the stream or normalise it, `read_last` the head that reads it.
    """
    spaces: list[ChannelSpace] = []
    holders, readers = [*stream], [read_last]
    for index, block in enumerate(blocks):
        path = f"blocks.{index}"
        holders += [*norm(f"{path}.norm1", block.get_submodule("norm1")), *norm(f"{path}.norm2", block.get_submodule("norm2"))]
        for writer in ("attention.projection", "mlp.down"):
            holders += [Axis(f"{path}.{writer}.weight"), Axis(f"{path}.{writer}.bias")]
        readers += [Axis(f"{path}.attention.query_key_value.weight", 1), Axis(f"{path}.mlp.up.weight", 1)]
        inner, last = (Axis(f"{path}.mlp.up.weight"), Axis(f"{path}.mlp.up.bias")), Axis(f"{path}.mlp.down.weight", 1)
        spaces.append(ChannelSpace(4 * width, (*inner, last), (last,)))
        qkv, mixed = f"{path}.attention.query_key_value", Axis(f"{path}.attention.projection.weight", 1)
        values = (Axis(f"{qkv}.weight", 0, 2 * width), Axis(f"{qkv}.bias", 0, 2 * width))
        spaces.append(ChannelSpace(width, (*values, mixed), (mixed,), blocks=heads))
    return [*spaces, ChannelSpace(width, (*holders, *readers), tuple(readers))]


class Gpt(nn.Module):
    """Character codes [batch, context] -> logits of the next one [batch, context, classes]."""

    def __init__(self, config: GptConfig, classes: int) -> None:
        super().__init__()
        self.width, self.heads = config.width, config.heads
        self.characters = nn.Embedding(classes, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, classes, bias=False)
        self._initialise(config.layers)

    def channel_spaces(self) -> list[ChannelSpace]:
        """The stream begins in the embeddings and ends in the head."""
        stream = [Axis("characters.weight", 1), Axis("positions.weight", 1), *norm("norm", self.norm)]
        return transformer_spaces(self.blocks, self.width, self.heads, stream, Axis("head.weight", 1))

    def _initialise(self, layers: int) -> None:
        """GPT-2's: normal of 0.02, and what is added to the stream scaled down by the number of additions."""
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            residual = name.endswith(("projection.weight", "down.weight"))
            nn.init.normal_(parameter, std=0.02 / (2 * layers) ** 0.5 if residual else 0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes [batch, context] -> logits [batch, context, classes]."""
        places = torch.arange(codes.shape[1], device=codes.device)
        hidden = self.characters(codes) + self.positions(places)
        logits: Tensor = self.head(self.norm(self.blocks(hidden)))
        return logits
