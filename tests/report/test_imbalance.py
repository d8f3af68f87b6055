"""SMs without work are seen in the stall stack: unequal tiles of a tile-wise weight, from its real masks, leave some idle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from nmsim.arch.load import load_gpu
from nmsim.arch.spec import GpuSpec, TileSpec
from nmsim.report.figures import stalls
from nmsim.report.style import STALL_COLOURS, STALL_HATCHES, figure_style
from nmsim.result.rows import SimulationResult
from nmsim.run.trace import simulate_trace
from nmsim.workload.catalogue import linear_gemms
from nmsim.workload.trace import Provenance, TileWisePlan, Trace

MakeResult = Callable[..., SimulationResult]
AMPERE = Path(__file__).parents[2] / "arch_configs" / "ampere.yaml"
TILE = 128


def in_tiles(rows: Sequence[int]) -> SimulationResult:
    """1152 x 1536 x 1024 with `rows` of 1024 kept in each of twelve tiles: one CTA of work for each of the A100's 108 SMs."""
    generator = np.random.default_rng(3)
    kept = np.zeros((len(rows), 1024), dtype=np.bool_)
    for tile, count in enumerate(rows):
        kept[tile, generator.choice(1024, count, replace=False)] = True
    gemms = [gemm for gemm in linear_gemms("fc", 9 * TILE, 1024, len(rows) * TILE, "fp16") if gemm.phase == "forward"]
    plan = TileWisePlan(TILE, np.ones(len(rows) * TILE, dtype=np.bool_), kept)
    provenance = Provenance("trained", "hand-made", "none", "tile-wise", {}, 0, 1, None, None, {})
    trace = Trace("tiles", provenance, 4, "fp16", tuple(gemms), tile_wise={"1/2": {"fc": plan}}, own_density="1/2")
    return simulate_trace(one_tile(load_gpu(AMPERE)), trace, schemes=("tile_wise",))


def one_tile(spec: GpuSpec) -> GpuSpec:
    tile = TileSpec(cta=(TILE, TILE, 64), warp=(64, 64), stages=4)
    return spec.model_copy(update={"kernels": spec.kernels.model_copy(update={"tiles": (tile,), "max_split_k": 1})})


def test_unequal_tiles_are_seen_as_imbalance_in_the_stall_stack() -> None:
    """Half of the tiles keep 832 rows and half 192: the same work, and the SMs of the short ones have none for most of the time."""
    frames = {name: stalls.data(in_tiles(rows)) for name, rows in (("even", [512] * 12), ("uneven", [832] * 6 + [192] * 6))}
    shares = {name: frame[(frame["scheme"] == "tile_wise") & (frame["phase"] == "forward")].iloc[0] for name, frame in frames.items()}
    assert shares["uneven"]["imbalance_share"] > shares["even"]["imbalance_share"] + 0.15
    with figure_style():
        axes = stalls.draw(frames["uneven"]).axes[0]
    bars = [one for one in axes.patches if isinstance(one, Rectangle) and one.get_hatch() == STALL_HATCHES["imbalance"]]
    grounds = [one for one in axes.patches if isinstance(one, Rectangle) and one.get_facecolor() == to_rgba(STALL_COLOURS["imbalance"])]
    assert [one.get_width() for one in bars] == [one.get_width() for one in grounds]
    assert 100 * shares["uneven"]["imbalance_share"] in [pytest.approx(one.get_width()) for one in bars]


def test_a_phase_that_no_scheme_changes_is_one_bar(make_result: MakeResult) -> None:
    frame = stalls.data(make_result(1))
    with figure_style():
        labels = [label.get_text() for label in stalls.draw(frame).axes[0].get_yticklabels()]
    assert [label for label in labels if label.startswith("other operators")] == ["other operators · all schemes"]
    assert sum(label.startswith("forward") for label in labels) == 3
