"""A small residual network for 8 x 8 images (He et al., CVPR 2016, basic blocks, three stages)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import relu

from nmsim.training.channels import Axis, ChannelSpace, norm


@dataclass(frozen=True)
class ResNetConfig:
    """`width` channels in the first stage, doubled in each of the next two; `layers` basic blocks a stage."""

    width: int = 32
    layers: int = 2


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, 1 x 1 where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))

    def forward(self, pixels: Tensor) -> Tensor:
        """[batch, in_channels, h, w] -> [batch, out_channels, h / stride, w / stride]."""
        inner = relu(self.norm1(self.conv1(pixels)))
        return relu(self.norm2(self.conv2(inner)) + self.shortcut(pixels))


class ResNet(nn.Module):
    """Images [batch, 1, 8, 8] -> logits [batch, classes]."""

    def __init__(self, config: ResNetConfig, classes: int) -> None:
        super().__init__()
        self.width = config.width
        widths = [config.width * 2**stage for stage in range(3)]
        self.stem = nn.Sequential(nn.Conv2d(1, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        blocks: list[nn.Module] = []
        channels = widths[0]
        for stage, width in enumerate(widths):
            for layer in range(config.layers):
                blocks.append(BasicBlock(channels, width, stride=2 if stage and not layer else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, classes)

    def channel_spaces(self) -> list[ChannelSpace]:
        """One space for the stream of each stage, one inside each block."""
        spaces: list[ChannelSpace] = []
        stream = [Axis("stem.0.weight"), *norm("stem.1", self.stem[1])]
        readers: list[Axis] = []
        width = self.width
        for index, block in enumerate(self.blocks):
            path = f"blocks.{index}"
            assert isinstance(block, BasicBlock)
            readers.append(Axis(f"{path}.conv1.weight", 1))
            inside = (Axis(f"{path}.conv1.weight"), *norm(f"{path}.norm1", block.norm1))
            last = Axis(f"{path}.conv2.weight", 1)
            spaces.append(ChannelSpace(len(block.conv1.weight), (*inside, last), (last,)))
            if isinstance(block.shortcut, nn.Sequential):
                readers.append(Axis(f"{path}.shortcut.0.weight", 1))
                spaces.append(ChannelSpace(width, (*stream, *readers), tuple(readers)))
                stream, readers = [Axis(f"{path}.shortcut.0.weight"), *norm(f"{path}.shortcut.1", block.shortcut[1])], []
                width = len(block.conv2.weight)
            stream += [Axis(f"{path}.conv2.weight"), *norm(f"{path}.norm2", block.norm2)]
        readers.append(Axis("classifier.weight", 1))
        return [*spaces, ChannelSpace(width, (*stream, *readers), tuple(readers))]

    def forward(self, images: Tensor) -> Tensor:
        """Images [batch, 1, 8, 8] -> logits [batch, classes]."""
        features: Tensor = self.blocks(self.stem(images)).mean((2, 3))
        logits: Tensor = self.classifier(features)
        return logits
