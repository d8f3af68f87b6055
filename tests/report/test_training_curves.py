from __future__ import annotations

import numpy as np
import pytest

from nmsim.errors import InputError
from nmsim.report.training_curves import draw, write_training_curves
from nmsim.workload.history import HISTORY, History, read_history, write_history

SERIES = {"sad": [0.0, 9.0, 4.0], "flip_rate": [0.0, 0.1, 0.05], "retained_magnitude": [0.7, 0.8, 0.9]}


def history(**more):
    layers = {name: {**SERIES, **more} for name in ("a", "b")}
    return History([1, 5, 10], [2.0, 1.0, 0.5], [0.1, 0.5, 0.9], [0.0, 0.1, 0.05], layers, {"a": {"formula": 12.0, "exact": 11.5}})


def test_a_history_is_read_as_it_was_written(tmp_path):
    assert read_history(tmp_path) is None
    write_history(history(), tmp_path)
    assert read_history(tmp_path) == history()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"loss":[2.0,1.0,0.5]', '"loss":[2.0,1.0]', r"loss: has another length than the 3 steps, got 2"),
        ('"sad"', '"sads"', r"layers\['a'\]: there is no such key, got 'sads'"),
        ('"step":[1', '"step":[1.5', "must be a whole number"),
        ("{", "", "is not JSON"),
    ],
)
def test_a_damaged_history_is_named(tmp_path, old, new, sentence):
    write_history(history(), tmp_path)
    file = tmp_path / HISTORY
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=sentence):
        read_history(tmp_path)


def test_a_panel_for_each_thing_that_was_seen_and_a_rule_for_each_end_of_a_stage(tmp_path):
    plain = draw(history(), [10])
    assert sum(axes.get_visible() for axes in plain.axes) == 5
    sampled = draw(history(mvue_variance=[0.6, 0.5, 0.4], greedy_bias=[0.2, 0.1, 0.1]), [8, 2])
    assert sum(axes.get_visible() for axes in sampled.axes) == 6
    # Two layers, their mean, and the rule where the first stage ends.
    flips = next(axes for axes in sampled.axes if "changed" in axes.get_ylabel())
    assert len(flips.lines) == 4
    assert np.asarray(flips.lines[2].get_ydata()) == pytest.approx(SERIES["flip_rate"])
    assert {file.suffix for file in write_training_curves(history(), [8, 2], tmp_path / "curves")} == {".svg", ".png"}


def test_masks_that_moved_at_no_watched_step_have_no_panel_of_flips():
    series = {name: values[:2] for name, values in SERIES.items()} | {"flip_rate": [0.0, 0.0]}
    still = History([1, 5], [2.0, 1.0], [0.1, 0.5], [0.0, 0.0], {"a": series})
    assert not any("changed" in axes.get_ylabel() for axes in draw(still, [5]).axes)


def test_a_dense_run_has_loss_and_accuracy_alone():
    dense = History([1, 2], [2.0, 1.0], [0.1, 0.2], [0.0, 0.0])
    assert sum(axes.get_visible() for axes in draw(dense, [2]).axes) == 2
