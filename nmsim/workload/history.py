"""How a run went: metrics over training, in `history.json` beside the step that a trace records.

What the simulator never reads and a reader of results does: whether the loss fell, and whether the masks settled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean

from nmsim.errors import InputError
from nmsim.workload.fields import Place, take_float, take_int, take_list, take_mapping, take_object

HISTORY = "history.json"
AVERAGED = 5
"""Observed steps that a running accuracy is the mean of."""
METRICS = ("sad", "flip_rate", "retained_magnitude", "mvue_variance", "greedy_bias")
"""Of a layer: mask elements changed since the last observed step; share changed in the step itself; share of the L1 norm kept;
variance of the unbiased N:M estimate of dY and squared error of keeping its largest, both over the squared norm of dY."""


@dataclass(frozen=True)
class History:
    """One value a step of `step` in every list. `loss` and `accuracy` (in [0, 1]) are of the step's own batch.

    `layers[path][metric]` for the METRICS that the recipe has; `mask_diversity_log10[path]` counts the masks that the layer's
    pattern admits, by the papers' `formula` and, where it can be counted, `exact`.
    """

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    flip_rate: list[float] = field(default_factory=list)
    layers: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    mask_diversity_log10: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def running_accuracy(history: History) -> list[float]:
    """The accuracy on the steps' own batches, each averaged with the four observed before it: single batches are noisy."""
    values = history.accuracy
    return [fmean(values[max(0, end - AVERAGED) : end]) for end in range(1, len(values) + 1)]


def steps_to_accuracy(history: History, accuracy: float) -> int | None:
    """The first observed step at which the running accuracy reaches `accuracy` (in [0, 1]); None where it never does."""
    return next((step for step, reached in zip(history.step, running_accuracy(history), strict=True) if reached >= accuracy), None)


def write_history(history: History, trace: Path) -> None:
    """Writes `history.json` into the folder of a trace."""
    (trace / HISTORY).write_text(json.dumps(asdict(history), allow_nan=False, separators=(",", ":")) + "\n", encoding="utf-8", newline="\n")


def read_history(trace: Path) -> History | None:
    """The history beside a trace, None where there is none; InputError names what is malformed in it."""
    file = trace / HISTORY
    if not file.is_file():
        return None
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"is not JSON ({error})", file=file) from None
    place = Place(file)
    top = take_object(data, place, ("step", "loss", "accuracy", "flip_rate", "layers", "mask_diversity_log10"))
    steps = [take_int(one, place.key("step").item(i), 1, 2**31) for i, one in enumerate(take_list(top["step"], place.key("step")))]

    def series(value: object, where: Place) -> list[float]:
        values = [take_float(one, where.item(i)) for i, one in enumerate(take_list(value, where))]
        if len(values) != len(steps):
            raise where.refusal(f"has another length than the {len(steps)} steps", len(values))
        return values

    layers = {
        name: {
            metric: series(values, place.key("layers").item(name).key(metric))
            for metric, values in take_object(metrics, place.key("layers").item(name), (), METRICS).items()
        }
        for name, metrics in take_mapping(top["layers"], place.key("layers")).items()
    }
    counted = place.key("mask_diversity_log10")
    diversity = {
        name: {key: take_float(one, counted.item(name)) for key, one in take_mapping(values, counted.item(name)).items()}
        for name, values in take_mapping(top["mask_diversity_log10"], counted).items()
    }
    lines = {key: series(top[key], place.key(key)) for key in ("loss", "accuracy", "flip_rate")}
    return History(step=steps, layers=layers, mask_diversity_log10=diversity, **lines)
