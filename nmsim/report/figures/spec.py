"""How a figure is made: the row that the table of figures holds for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import pandas as pd
from matplotlib.figure import Figure

Subject = TypeVar("Subject")


@dataclass(frozen=True)
class FigureSpec(Generic[Subject]):
    """How one figure is made: `data` selects the numbers (they become its CSV), `draw` draws those and nothing else."""

    name: str
    """File name without ending."""
    title: str
    caption: str
    """How to read it, one or two sentences."""
    data: Callable[[Subject], pd.DataFrame]
    """An empty frame where the subject (a run, or a study of many) has nothing to show."""
    draw: Callable[[pd.DataFrame], Figure]
