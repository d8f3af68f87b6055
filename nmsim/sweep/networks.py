"""Which traces are of one network, and which of them a recipe and a pattern select."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.store import read_trace
from nmsim.workload.trace import Trace

DENSE = "dense"
MIXED = "mixed"


@dataclass(frozen=True, eq=False)
class RecordedTrace:
    """A trace, its file, and the pattern of its weights: N:M, `dense`, or `mixed` where layers differ."""

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
        the pattern is assumed on it. A recipe that keeps all weights has no pattern to replace and comes as it is.
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
        exact = [one for one in recorded if pattern is None or one.pattern in (pattern, DENSE)]
        return [(one, None) for one in exact] or [(recorded[0], pattern)]


def read_networks(workloads: Sequence[tuple[str, Sequence[Path]]]) -> list[Network]:
    """Traces as networks: those given under a name are one; the others are of one where model, data and weights are the same.

    InputError for a trace that can't be read.
    """
    networks: dict[tuple[object, ...], list[RecordedTrace]] = {}
    for name, files in workloads:
        for file in files:
            trace = read_trace(file)
            key = ("named", name) if name else _identity(trace)
            networks.setdefault(key, []).append(RecordedTrace(file, trace, weight_pattern(trace)))
    found: dict[str, Network] = {}
    for key, traces in networks.items():
        name = str(key[1]) if key[0] == "named" else _common_name([one.trace.name for one in traces])
        if name in found:
            name = f"{name}-{sum(other.startswith(name) for other in found) + 1}"
        found[name] = Network(name, tuple(traces))
    return list(found.values())


def weight_pattern(trace: Trace) -> str:
    """The N:M pattern of the trace's weights; `dense` without any, `mixed` where they have several."""
    operands = [operand for gemm in trace.gemms for operand in (gemm.a, gemm.b)]
    patterns: set[NMPattern | None] = {one.pattern for one in operands if one.role == "weight" and one.structure == "nm"}
    if not patterns:
        return DENSE
    return str(patterns.pop()) if len(patterns) == 1 else MIXED


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
