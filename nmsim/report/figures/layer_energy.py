"""Which layers save energy, and in which of their three products."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from nmsim.report.figures.speedup import Quantity, draw_gains, gains
from nmsim.result.rows import SimulationResult

ENERGY = Quantity("energy_j", "saving", "energy saving over dense (energy of dense / energy)", "1: the energy of dense")


def data(result: SimulationResult) -> pd.DataFrame:
    """A row a layer x phase x scheme, see `nmsim.report.figures.speedup.gains`."""
    return gains(result, ENERGY)


def draw(frame: pd.DataFrame) -> Figure:
    """A panel a phase, a row a layer, a marker a scheme."""
    return draw_gains(frame, ENERGY)
