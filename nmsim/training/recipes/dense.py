"""Dense training: the baseline that every recipe's accuracy is read against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nmsim.training.recipes.recipe import Recipe


@dataclass(frozen=True)
class Dense(Recipe):
    """Nothing is pruned; the pattern is ignored."""

    prunes: ClassVar[bool] = False
