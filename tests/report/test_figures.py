"""Each figure shows the result's own sums, and draws them so that every text can be read."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from nmsim.report.figures import FIGURES, energy, layer_energy, roofline, speedup, stalls, waterfall
from nmsim.report.figures.spec import FigureSpec
from nmsim.report.kernels import SUMS, alike_kernels, kernel_frame, main_scheme, schemes_of
from nmsim.report.style import ENERGY_COLOURS, PHASE_COLOURS, STALL_COLOURS, figure_style, is_dark, scheme_colour, scheme_marker
from nmsim.result.rows import ENERGY_UNITS, PHASES, SimulationResult
from nmsim.rules.stalls import STALL_NAMES
from nmsim.run.formats import FORMATS
from nmsim.run.schemes import SCHEMES

MakeResult = Callable[..., SimulationResult]
MANY = ("traced", "dense", "tile_wise", "block_sparse", "vector_wise", "unstructured", "tew", "tvw", "traced at 1:4 (legality assumed)")
by_name = pytest.mark.parametrize("spec", FIGURES, ids=lambda spec: spec.name)


def test_the_waterfall_ends_at_the_step_of_every_scheme(result: SimulationResult) -> None:
    frame = waterfall.data(result)
    for scheme, part in frame.groupby("scheme"):
        assert part["time_us"].sum() == pytest.approx(result.total[str(scheme)].time_us)
        assert part["start_us"].iloc[1:].to_numpy() == pytest.approx(part["time_us"].cumsum().iloc[:-1].to_numpy())
        assert part["share_of_step"].sum() == pytest.approx(1)


def test_the_change_against_dense_of_all_phases_is_the_change_of_the_step(result: SimulationResult) -> None:
    frame = waterfall.data(result)
    change_us = frame.groupby("scheme")["change_vs_dense_us"].sum()
    assert change_us["traced"] == pytest.approx(result.total["traced"].time_us - result.total["dense"].time_us)
    assert change_us["dense"] == 0


def test_busy_and_stall_shares_of_every_bar_sum_to_one(result: SimulationResult) -> None:
    frame = stalls.data(result)
    assert frame[list(stalls.SHARES.values())].sum(axis=1).to_numpy() == pytest.approx(1)
    assert set(stalls.SHARES) == {"busy", *STALL_NAMES}


def test_the_phase_bars_hold_all_cycles_of_the_result(result: SimulationResult) -> None:
    frame = stalls.data(result)
    by_scheme = frame[frame["level"] == "phase"].groupby("scheme")["cycles"].sum()
    assert by_scheme.to_dict() == pytest.approx({scheme: total.cycles for scheme, total in result.total.items()})


def test_the_energy_of_all_units_is_the_energy_of_the_scheme(result: SimulationResult) -> None:
    by_scheme = energy.data(result).groupby("scheme")["energy_j"].sum()
    assert by_scheme.to_dict() == pytest.approx({scheme: total.energy_j for scheme, total in result.total.items()})


def test_the_speed_up_of_all_layers_is_the_ratio_of_the_phase_times(result: SimulationResult) -> None:
    frame = speedup.data(result).set_index(["module", "phase", "scheme"])
    phases = {(part.phase, part.scheme): part.time_us for part in result.phases}
    for phase, scheme in itertools.product(("forward", "backward_data", "backward_weight"), ("traced", "tile_wise")):
        found = frame.at[(speedup.ALL, phase, scheme), "speedup_vs_dense"]
        assert found == pytest.approx(phases[phase, "dense"] / phases[phase, scheme])


def test_a_pass_that_a_product_needs_counts_with_it(result: SimulationResult) -> None:
    """What TEW restores runs beside its tiles, and dX is zeroed before tiles add to it: without them both look faster than they are."""
    row = next(row for row in result.rows if row.scheme == "tile_wise" and row.phase == "backward_data")
    remainder = replace(row, gemm_id=f"{row.gemm_id}:tew_remainder", kind="pass", kernel="tew_remainder", time_us=5 * row.time_us)
    place = [row.module, "backward_data", "tile_wise"]
    before, after = (
        frame[(frame[["module", "phase", "scheme"]] == place).all(axis=1)].iloc[0]
        for frame in (speedup.data(result), speedup.data(replace(result, rows=(*result.rows, remainder))))
    )
    assert after["speedup_vs_dense"] == pytest.approx(before["speedup_vs_dense"] / 6)
    assert after["gemms"] == before["gemms"] == 1


def test_the_saving_of_all_layers_is_the_ratio_of_the_phase_energies_against_dense_and_tile_wise(result: SimulationResult) -> None:
    frame = layer_energy.data(result).set_index(["module", "phase", "scheme"])
    phases = {(part.phase, part.scheme): part.energy_j for part in result.phases}
    for phase, reference in itertools.product(("forward", "backward_data", "backward_weight"), ("dense", "tile_wise")):
        found = frame.at[(speedup.ALL, phase, "traced"), f"saving_vs_{reference}"]
        assert found == pytest.approx(phases[phase, reference] / phases[phase, "traced"])


@pytest.mark.parametrize("layers", [1, 20, 96])
def test_the_layers_of_the_speed_up_figure_hold_every_gemm_once(make_result: MakeResult, layers: int) -> None:
    frame = speedup.data(make_result(layers))
    is_all = frame["module"] == speedup.ALL
    assert frame.loc[~is_all, "gemms"].sum() == frame.loc[is_all, "gemms"].sum() == layers * 3 * 2
    assert frame["module"].nunique() * 2 <= speedup.MAX_MARKS + 4


def test_layers_that_are_unlike_and_too_many_share_the_last_row_but_one(make_result: MakeResult) -> None:
    result = make_result(40)
    widths = {name: width for width, name in enumerate(sorted({row.module for row in result.rows}))}
    unlike = replace(result, rows=tuple(replace(row, n=row.n + widths[row.module]) for row in result.rows))
    modules = list(dict.fromkeys(speedup.data(unlike)["module"]))
    assert len(modules) == speedup.MAX_MARKS // 2 + 2
    assert modules[-2:] == ["16 others", speedup.ALL]


def test_a_point_of_the_roofline_is_its_kernels_flop_over_time_and_bytes(make_result: MakeResult) -> None:
    result = make_result(1)
    row = next(row for row in result.rows if row.scheme == "traced" and row.phase == "forward" and row.kind == "gemm")
    frame = roofline.data(result)
    point = frame[(frame["scheme"] == "traced") & (frame["phase"] == "forward")].iloc[0]
    flop = 2 * row.counters["dense_equivalent_macs"]
    assert point["dense_equivalent_tflops"] == pytest.approx(flop / (row.cycles / row.clock_mhz * 1e-6) / 1e12)
    assert point["dram_flop_per_byte"] == pytest.approx(flop / (row.counters["dram_read_bytes"] + row.counters["dram_write_bytes"]))
    assert point["l2_flop_per_byte"] == pytest.approx(flop / (row.counters["l2_read_bytes"] + row.counters["l2_write_bytes"]))
    assert point["shared_memory_flop_per_byte"] == pytest.approx(flop / row.counters["shared_memory_bytes"])


def test_a_kernel_that_never_left_the_l2_has_no_dram_point_but_is_drawn(make_result: MakeResult) -> None:
    result = make_result(2)
    warm = tuple(replace(row, counters={**row.counters, "dram_read_bytes": 0, "dram_write_bytes": 0}) for row in result.rows)
    frame = roofline.data(replace(result, rows=warm))
    assert frame["dram_flop_per_byte"].isna().all()
    with figure_style():
        FigureCanvasAgg(roofline.draw(frame)).draw()


def test_the_roofs_are_those_stored_with_the_result(result: SimulationResult) -> None:
    frame = roofline.data(result).set_index("label")
    assert frame.at["2:4", "dense_equivalent_tflops"] == 624.0
    assert frame.at["dense", "dense_equivalent_tflops"] == 312.0
    slopes = frame[frame["kind"] == "slope"]["gb_per_s"].to_dict()
    assert slopes == {"shared memory": result.ceilings.shared_memory_gb_per_s, "L2": 5120.0, "DRAM": 1935.0}


def test_a_machine_without_shared_memory_has_neither_its_roof_nor_points_under_it(result: SimulationResult) -> None:
    frame = roofline.data(replace(result, ceilings=replace(result.ceilings, shared_memory_gb_per_s=0.0)))
    assert set(frame[frame["kind"] == "slope"]["label"]) == {"L2", "DRAM"}
    assert frame["shared_memory_flop_per_byte"].isna().all()


def test_summing_alike_kernels_loses_nothing(result: SimulationResult) -> None:
    kernels = kernel_frame(result)
    alike = alike_kernels(kernels)
    assert alike["kernels"].sum() == len(kernels)
    assert alike[list(SUMS)].sum().to_dict() == pytest.approx(kernels[list(SUMS)].sum().to_dict())
    assert "bert.encoder.layer.*.intermediate.dense" in set(alike["label"])


def test_dense_is_the_reference_and_the_traced_scheme_the_subject(make_result: MakeResult) -> None:
    assert schemes_of(make_result(1)) == ["dense", "traced", "tile_wise"]
    assert main_scheme(["dense", "tile_wise", "traced"]) == "traced"
    assert main_scheme(["dense", "tew"]) == "tew"
    assert main_scheme(["dense"]) == "dense"


@pytest.mark.parametrize(
    "spec",
    [spec for spec in FIGURES if spec.name in ("speedup", "formats", "layer_energy", "roofline", "stalls", "energy")],
    ids=lambda spec: spec.name,
)
def test_a_figure_with_nothing_to_show_says_so_by_an_empty_frame(make_result: MakeResult, spec: FigureSpec[SimulationResult]) -> None:
    dense = make_result(1, schemes=("dense",))
    nothing = replace(dense, rows=(), phases=(), total={})
    assert spec.data(nothing).empty
    assert spec.data(dense).empty == (spec.name in ("speedup", "formats", "layer_energy"))


def test_every_scheme_has_a_colour_and_a_marker_of_its_own() -> None:
    schemes = [*SCHEMES, *FORMATS, "another", "and another"]
    assert len({scheme_colour(scheme, schemes) for scheme in schemes}) == len(schemes)
    assert len({scheme_marker(scheme, schemes) for scheme in schemes}) == len(schemes)


@pytest.mark.parametrize(
    ("colours", "names"),
    [(STALL_COLOURS, {"busy", "other", *STALL_NAMES}), (ENERGY_COLOURS, set(ENERGY_UNITS)), (PHASE_COLOURS, set(PHASES))],
    ids=["stalls", "energy", "phases"],
)
def test_every_name_has_a_colour_of_its_own(colours: dict[str, str], names: set[str]) -> None:
    assert set(colours) == names
    assert len(set(colours.values())) == len(names)


def test_white_text_stands_on_dark_colours_only() -> None:
    assert is_dark("#000000")
    assert is_dark(STALL_COLOURS["busy"])
    assert not is_dark("#ffffff")
    assert not is_dark(ENERGY_COLOURS["static"])


def drawn_texts(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Text, Bbox]]:
    """Every text that reaches the paper with the box it covers; ticks beyond the ends of an axis are never drawn."""
    found: list[Text] = []
    draw = Text.draw

    def recording_draw(self: Text, renderer: RendererAgg) -> None:
        found.append(self)
        draw(self, renderer)

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    monkeypatch.setattr(Text, "draw", recording_draw)
    canvas.draw()
    return [(text, text.get_window_extent(canvas.get_renderer())) for text in found if text.get_visible() and text.get_text().strip()]


@by_name
@pytest.mark.parametrize(
    ("layers", "schemes"), [(1, MANY[:2]), (20, MANY[:3]), (96, MANY)], ids=["one layer", "twenty", "96 and nine schemes"]
)
def test_no_text_covers_another_or_leaves_the_figure(
    make_result: MakeResult, spec: FigureSpec[SimulationResult], layers: int, schemes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = spec.data(make_result(layers, schemes))
    with figure_style():
        figure = spec.draw(frame)
        texts = drawn_texts(figure, monkeypatch)
    paper = figure.bbox.expanded(1.001, 1.001)
    assert [
        text for text, box in texts if not (paper.x0 <= box.x0 <= box.x1 <= paper.x1 and paper.y0 <= box.y0 <= box.y1 <= paper.y1)
    ] == []
    level = [(text.get_text(), box.shrunk(0.98, 0.8)) for text, box in texts if text.get_rotation() % 180 == 0]
    assert len(level) > 5
    assert [(one, other) for (one, box), (other, other_box) in itertools.combinations(level, 2) if box.overlaps(other_box)] == []


@by_name
def test_every_figure_names_what_its_axis_measures(result: SimulationResult, spec: FigureSpec[SimulationResult]) -> None:
    with figure_style():
        figure = spec.draw(spec.data(result))
    labels = " ".join(axes.get_xlabel() + axes.get_ylabel() for axes in figure.axes)
    unit = {
        "layer_energy": "energy of dense / energy",
        "waterfall": "(ms)",
        "speedup": "time of dense / time",
        "formats": "time of dense / time",
        "stalls": "(%)",
        "energy": "(J)",
        "roofline": "FLOP per byte)",
    }
    assert unit[spec.name] in labels


@by_name
def test_what_is_drawn_comes_from_the_frame_alone(result: SimulationResult, spec: FigureSpec[SimulationResult]) -> None:
    frame = spec.data(result)
    before = frame.copy(deep=True)
    with figure_style():
        spec.draw(frame)
    pd.testing.assert_frame_equal(frame, before)
