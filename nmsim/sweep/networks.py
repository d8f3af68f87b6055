"""Which traces are of one network, and which of them a recipe and a pattern select."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nmsim.errors import InputError
from nmsim.workload.store import SUFFIX, read_trace
from nmsim.workload.trace import Trace

MIXED = "mixed"
WITHOUT_GROUPS = ("dense", "tile_wise", "unstructured")
"""Patterns of weights that have no N:M groups, in the words of `Operand.structure`."""


@dataclass(frozen=True, eq=False)
class RecordedTrace:
    """A trace, its file, and the pattern of its weights (see `weight_pattern`)."""

    file: Path
    trace: Trace
    pattern: str

    @property
    def recipe(self) -> str:
        """The recipe in its manifest."""
        return self.trace.provenance.recipe


@dataclass(frozen=True, eq=False)
class Network:
    """The traces of one network, in the order given."""

    name: str
    traces: tuple[RecordedTrace, ...]

    @property
    def recipes(self) -> tuple[str, ...]:
        """The recipes that it was recorded with, in the order given."""
        return tuple(dict.fromkeys(one.recipe for one in self.traces))

    def select(self, recipe: str, pattern: str | None) -> list[tuple[RecordedTrace, str | None]]:
        """(trace, pattern to assume in place of its own, or None) for a recipe and a pattern, None for those recorded.

        Traces that were recorded with the pattern come as they are; if there are none, the recipe's first N:M trace stands in, and
        the pattern is assumed on it. A recipe without N:M weights has no pattern to replace and comes as it is.
        InputError where no trace was recorded with the recipe.
        """
        recorded = [one for one in self.traces if one.recipe == recipe]
        if not recorded:
            raise InputError(
                f"no trace of {self.name} was recorded with this recipe",
                path="recipe",
                value=recipe,
                fix=f"record one with `nmsim train`; at hand: {', '.join(self.recipes)}",
            )
        if pattern is None:
            return [(one, None) for one in recorded]
        exact = [one for one in recorded if one.pattern == pattern]
        replaceable = [one for one in recorded if one.pattern not in WITHOUT_GROUPS]
        if exact or not replaceable:
            return [(one, None) for one in exact or recorded]
        return [(replaceable[0], pattern)]


def read_networks(workloads: Sequence[tuple[str, Sequence[Path]]]) -> list[Network]:
    """Traces as networks: those given under a name are one; the others are of one where model, data and weights are the same.

    A trace of one stage of a run, which another's schedule names, is part of that run and no point of its own.
    InputError for a trace that can't be read.
    """
    read = [(name, file, read_trace(file)) for name, files in workloads for file in files]
    stages = {stage for _, file, trace in read for stage in stage_files(file, trace) if stage != file}
    networks: dict[tuple[object, ...], list[RecordedTrace]] = {}
    for name, file, trace in read:
        if file not in stages:
            key = ("named", name) if name else _identity(trace)
            networks.setdefault(key, []).append(RecordedTrace(file, trace, weight_pattern(trace)))
    found: dict[str, Network] = {}
    for key, traces in networks.items():
        name = str(key[1]) if key[0] == "named" else _common_name([one.trace.name for one in traces])
        if name in found:
            name = f"{name}-{sum(other.startswith(name) for other in found) + 1}"
        found[name] = Network(name, tuple(traces))
    return list(found.values())


def stage_files(file: Path, trace: Trace) -> list[Path]:
    """The traces of the stages that a trace's schedule names, in order: itself and some that lie beside it."""
    return [file if entry["trace"] == trace.name else file.with_name(f"{entry['trace']}{SUFFIX}") for entry in trace.schedule]


def weight_pattern(trace: Trace) -> str:
    """The N:M pattern of the trace's weights, or `tile_wise`, `unstructured`, `dense`; `mixed` where layers have several."""
    operands = [operand for gemm in trace.gemms for operand in (gemm.a, gemm.b) if operand.role == "weight"]
    patterns = {str(one.pattern) if one.structure == "nm" else one.structure for one in operands} - {"dense"}
    if not patterns:
        return "dense"
    return patterns.pop() if len(patterns) == 1 else MIXED


def _identity(trace: Trace) -> tuple[object, ...]:
    """What traces of one network share: the model, the data, and the shape of every layer's weight."""
    weights = {(gemm.module, operand.shape) for gemm in trace.gemms for operand in (gemm.a, gemm.b) if operand.role == "weight"}
    return ("recorded", trace.provenance.model, trace.provenance.dataset, tuple(sorted(weights)))


def _common_name(names: Sequence[str]) -> str:
    """What the names of a network's traces have in common, word by word: `gpt_w512_dense`, `gpt_w512_mvue` -> `gpt_w512`."""
    if len(names) == 1:
        return names[0]
    words = zip(*(name.split("_") for name in names), strict=False)
    common = [first for first, *others in words if all(other == first for other in others)]
    return "_".join(common) or names[0]
