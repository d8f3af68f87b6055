"""Everything that decides a training run, checked before torch starts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern

DEFAULT_PAYLOAD_LIMIT_BYTES = 8 * 2**20
"""Packed masks of a trace kept in it, in total: above, the largest are checked and left out."""


DEFAULT_DENSITIES = ("1/2", "1/4", "1/8")
"""Densities of the tile-wise baseline beside the pattern's own."""


@dataclass(frozen=True)
class TrainOptions:
    """A run: None where the model's own default holds. `sizes` are the model's (width, layers, heads, context).

    `config_values` are those of a configuration class of transformers.
    """

    model: str
    recipe: str
    pattern: NMPattern
    steps: int
    data: str | None = None
    batch: int | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    warmup_share: float = 0.1
    seed: int = 0
    threads: int | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    config_values: Mapping[str, str] = field(default_factory=dict)
    recipe_options: Mapping[str, str] = field(default_factory=dict)
    payload_limit_bytes: int = DEFAULT_PAYLOAD_LIMIT_BYTES
    tile_wise_densities: tuple[str, ...] = DEFAULT_DENSITIES
    tile_wise_least_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError("must be at least 1", path=f"--{name}", value=value)
        if not 0 <= self.tile_wise_least_share < 1:
            raise InputError("what each layer keeps is a share in [0, 1)", path="--tile-wise-least-share", value=self.tile_wise_least_share)
        if not 0 <= self.warmup_share < 1:
            raise InputError("the warm-up is a share of the steps in [0, 1)", path="--warmup", value=self.warmup_share)
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise InputError("must be above 0", path="--lr", value=self.learning_rate)

    def command(self, trace: str) -> str:
        """The `nmsim train` command line of this run, with the defaults left out."""
        words = ["nmsim", "train", self.model]
        for option, value in self._given():
            words += [option, str(value)]
        return shlex.join([*words, "--trace", trace])

    def _given(self) -> list[tuple[str, Any]]:
        given: list[tuple[str, Any]] = [("--data", self.data), ("--recipe", self.recipe), ("--pattern", self.pattern)]
        given += [(f"--{size}", value) for size, value in self.sizes.items()]
        given += [("--config", f"{key}={text}") for key, text in self.config_values.items()]
        given += [("--steps", self.steps), ("--batch", self.batch), ("--optimizer", self.optimizer), ("--lr", self.learning_rate)]
        given += [("--weight-decay", self.weight_decay), ("--warmup", None if self.warmup_share == 0.1 else self.warmup_share)]
        given += [("--recipe-option", f"{key}={text}") for key, text in self.recipe_options.items()]
        if self.tile_wise_densities != DEFAULT_DENSITIES:
            given += [("--tile-wise-density", density) for density in self.tile_wise_densities]
        given += [("--tile-wise-least-share", self.tile_wise_least_share or None)]
        limit = None if self.payload_limit_bytes == DEFAULT_PAYLOAD_LIMIT_BYTES else self.payload_limit_bytes
        given += [("--seed", self.seed), ("--threads", self.threads), ("--mask-payload-limit", limit)]
        return [(option, value) for option, value in given if value is not None]
