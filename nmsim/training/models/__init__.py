"""The models by name: adding one is a file here and a row in the table."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from nmsim.errors import InputError
from nmsim.training.data.dataset import Kind
from nmsim.training.models.gpt import Gpt, GptConfig
from nmsim.training.models.resnet import ResNet, ResNetConfig
from nmsim.training.models.vit import Vit, VitConfig


@dataclass(frozen=True)
class ModelKind:
    """A model, `build(config, classes)`, the kind of data it reads, and the defaults that suit it."""

    build: type[nn.Module]
    config: type[Any]
    reads: Kind
    data: str
    optimizer: str
    learning_rate: float
    weight_decay: float
    batch: int


MODELS: dict[str, ModelKind] = {
    "resnet": ModelKind(ResNet, ResNetConfig, "images", data="digits", optimizer="sgd", learning_rate=0.1, weight_decay=5e-4, batch=64),
    "vit": ModelKind(Vit, VitConfig, "images", data="digits", optimizer="adamw", learning_rate=3e-3, weight_decay=0.05, batch=64),
    "gpt": ModelKind(Gpt, GptConfig, "text", data="pydoc", optimizer="adamw", learning_rate=1e-3, weight_decay=0.1, batch=8),
}


def model_kind(name: str) -> ModelKind:
    """The row of `name`; InputError for an unknown model."""
    if name not in MODELS:
        raise InputError("no such model", path="MODEL", value=name, fix=f"choose one of {', '.join(MODELS)}")
    return MODELS[name]


def model_config(name: str, sizes: dict[str, int]) -> Any:
    """The config of model `name` with the given sizes (width, layers, ...); InputError for a size that it does not have."""
    kind = model_kind(name)
    known = [field.name for field in fields(kind.config)]
    for size, value in sizes.items():
        if size not in known:
            raise InputError(f"model {name} has no such size", path=f"--{size}", value=value, fix=f"its sizes: {', '.join(known)}")
        if value < 1:
            raise InputError("a size is at least 1", path=f"--{size}", value=value)
    return kind.config(**sizes)
