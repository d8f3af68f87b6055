"""The models by name: adding one is a file here and a row in the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
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


HF_PREFIX = "hf:"
"""What a configuration class of the transformers library is marked with, as in hf:BertConfig."""


def model_kind(name: str) -> ModelKind:
    """The row of `name`, or of a configuration class such as `hf:BertConfig`; InputError for an unknown model."""
    if name.startswith(HF_PREFIX):
        return _hf_kind(name)
    if name not in MODELS:
        fix = f"choose one of {', '.join(MODELS)}, or a configuration class such as {HF_PREFIX}BertConfig"
        raise InputError("no such model", path="MODEL", value=name, fix=fix)
    return MODELS[name]


def model_config(name: str, sizes: dict[str, int], values: Mapping[str, str] | None = None) -> Any:
    """The config of model `name` with the given sizes (width, layers, ...); InputError for a size that it does not have.

    `values` are those of a configuration class of transformers, as texts; no other model has any.
    """
    kind = model_kind(name)
    make: Callable[..., Any] = kind.config
    if name.startswith(HF_PREFIX):
        from nmsim.training.models.hf import HfConfig, parse_values

        known = ["context"]
        of_its_own: dict[str, Any] = {"class_name": name.removeprefix(HF_PREFIX), "values": parse_values(values or {})}
        make = partial(HfConfig, **of_its_own)
    else:
        if values:
            raise InputError(f"only {HF_PREFIX} models have configuration values", path="--config", value=next(iter(values)))
        known = [field.name for field in fields(kind.config)]
    for size, value in sizes.items():
        if size not in known:
            raise InputError(f"model {name} has no such size", path=f"--{size}", value=value, fix=f"its sizes: {', '.join(known)}")
        if value < 1:
            raise InputError("a size is at least 1", path=f"--{size}", value=value)
    return make(**sizes)


def _hf_kind(name: str) -> ModelKind:
    from nmsim.training.models.hf import HfConfig, HfModel, is_masked, reads_of

    config = HfConfig(name.removeprefix(HF_PREFIX))
    reads = reads_of(config)
    data = "digits" if reads == "images" else "pydoc-masked" if is_masked(config) else "pydoc"
    return ModelKind(HfModel, HfConfig, reads, data, optimizer="adamw", learning_rate=5e-4, weight_decay=0.01, batch=8)
