"""Any model of the `transformers` library from its configuration class, initialised at random: nothing is downloaded.

`hf:BertConfig` is a causal language model where the library has one for the configuration, else a masked one, else an image
classifier, wrapped so that it takes what nmsim's own models take (character codes, or 8 x 8 images) and gives logits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from nmsim.errors import InputError
from nmsim.training import require_training_packages
from nmsim.training.data.dataset import Kind

DEFAULT_IMAGE_SIZE = 224
DEFAULT_CHANNELS = 3


@dataclass(frozen=True)
class HfConfig:
    """A configuration class of the library by name, what of it is set, and the characters of a text sample."""

    class_name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    context: int = 128


class HfModel(nn.Module):
    """Codes [batch, context] or images [batch, 1, 8, 8] -> logits; images are enlarged to what the model reads."""

    def __init__(self, config: HfConfig, classes: int) -> None:
        super().__init__()
        reads, automatic, made = _resolve(config)
        if reads == "images":
            made.num_labels = classes
        self.image_size = getattr(made, "image_size", DEFAULT_IMAGE_SIZE) if reads == "images" else None
        self.channels = getattr(made, "num_channels", DEFAULT_CHANNELS)
        self.model: nn.Module = automatic.from_config(made)
        _plain_linears(self.model)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, classes], or [batch, context, vocabulary]."""
        if self.image_size is None:
            text: Tensor = self.model(input_ids=inputs).logits
            return text
        with torch.no_grad():
            pixels = interpolate(inputs, size=self.image_size).expand(-1, self.channels, -1, -1).contiguous()
        logits: Tensor = self.model(pixel_values=pixels).logits
        return logits


def reads_of(config: HfConfig) -> Kind:
    """The kind of data that the model of a configuration reads; InputError for a class that the library does not have."""
    return _resolve(config)[0]


def is_masked(config: HfConfig) -> bool:
    """True where the model predicts characters that were masked, and not the next one."""
    import transformers

    return _resolve(config)[1] is transformers.AutoModelForMaskedLM


def parse_values(texts: Mapping[str, str]) -> dict[str, Any]:
    """`KEY=VALUE` texts of `--config`: JSON where a value is JSON (numbers, true, lists), else text."""
    values: dict[str, Any] = {}
    for key, text in texts.items():
        try:
            values[key] = json.loads(text)
        except ValueError:
            values[key] = text
    return values


def _resolve(config: HfConfig) -> tuple[Kind, Any, Any]:
    """(kind of data, the library's automatic class, the configuration itself)."""
    require_training_packages("transformers", extra="hf")
    import transformers

    transformers.logging.set_verbosity_error()
    kind = getattr(transformers, config.class_name, None)
    if not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedConfig):
        fix = "give a class such as hf:BertConfig, hf:GPT2Config, hf:ViTConfig, hf:ResNetConfig or hf:LlamaConfig"
        raise InputError("transformers has no such configuration class", path="MODEL", value=f"hf:{config.class_name}", fix=fix)
    defaults = kind()
    for key in config.values:
        if not hasattr(defaults, key):
            raise InputError(f"{config.class_name} has no such value", path="--config", value=key)
    made = kind(**config.values)
    # A model of a family that has both is asked for what it was made for: BERT for masked words, GPT for the next one.
    tables: list[tuple[Kind, Any, Any]] = [
        ("images", transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, transformers.AutoModelForImageClassification),
        ("text", transformers.MODEL_FOR_MASKED_LM_MAPPING, transformers.AutoModelForMaskedLM),
        ("text", transformers.MODEL_FOR_CAUSAL_LM_MAPPING, transformers.AutoModelForCausalLM),
    ]
    for reads, mapping, automatic in tables:
        if kind in mapping:
            return reads, automatic, made
    raise InputError(
        "the model is neither a language model nor an image classifier", path="MODEL", value=f"hf:{config.class_name}",
        fix="record your own training step with nmsim.training.record",
    )  # fmt: skip


def _plain_linears(model: nn.Module) -> None:
    """GPT-2's `Conv1D`, a linear layer whose weight is stored [I, O], as `nn.Linear`, so that recipes know it."""
    from transformers.pytorch_utils import Conv1D

    for name, module in list(model.named_modules()):
        if not isinstance(module, Conv1D):
            continue
        inputs, outputs = module.weight.shape
        linear = nn.Linear(inputs, outputs)
        with torch.no_grad():
            linear.weight.copy_(module.weight.t())
            linear.bias.copy_(module.bias)
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, linear)
