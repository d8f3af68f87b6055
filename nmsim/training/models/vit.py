"""A small vision transformer for 8 x 8 images (Dosovitskiy et al., ICLR 2021): patches of 2 x 2, pre-norm blocks, mean pooling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from nmsim.errors import InputError
from nmsim.training.channels import Axis, ChannelSpace, norm
from nmsim.training.models.gpt import Mlp, transformer_spaces

PATCH = 2
IMAGE = 8


@dataclass(frozen=True)
class VitConfig:
    """`width` features, `layers` blocks, `heads` attention heads a block."""

    width: int = 64
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise InputError("the width of a ViT is a multiple of its heads", path="--width", value=f"{self.width} with {self.heads} heads")


class SelfAttention(nn.Module):
    """Multi-head attention in which every patch sees every other."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.projection = nn.Linear(config.width, config.width)

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, patches, width] -> the same."""
        batch, patches, width = hidden.shape
        split = self.query_key_value(hidden).view(batch, patches, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.projection(mixed.transpose(1, 2).reshape(batch, patches, width))
        return projected


class EncoderBlock(nn.Module):
    """Attention and feed-forward, each on a normalised input and added to the stream."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.attention = SelfAttention(config)
        self.norm2 = nn.LayerNorm(config.width)
        self.mlp = Mlp(config.width)

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, patches, width] -> the same."""
        hidden = hidden + self.attention(self.norm1(hidden))
        result: Tensor = hidden + self.mlp(self.norm2(hidden))
        return result


class Vit(nn.Module):
    """Images [batch, 1, 8, 8] -> logits [batch, classes]."""

    def __init__(self, config: VitConfig, classes: int) -> None:
        super().__init__()
        self.width, self.heads = config.width, config.heads
        self.patches = nn.Conv2d(1, config.width, PATCH, PATCH)
        self.positions = nn.Parameter(0.02 * torch.randn((IMAGE // PATCH) ** 2, config.width))
        self.blocks = nn.Sequential(*(EncoderBlock(config) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width)
        self.classifier = nn.Linear(config.width, classes)

    def channel_spaces(self) -> list[ChannelSpace]:
        """The stream begins in the patches and ends in the classifier."""
        stream = [Axis("patches.weight"), Axis("patches.bias"), Axis("positions", 1), *norm("norm", self.norm)]
        return transformer_spaces(self.blocks, self.width, self.heads, stream, Axis("classifier.weight", 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images [batch, 1, 8, 8] -> logits [batch, classes]."""
        hidden = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.classifier(self.norm(self.blocks(hidden)).mean(1))
        return logits
