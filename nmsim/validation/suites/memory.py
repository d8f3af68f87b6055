"""Suite `memory`: latency of a pointer chase and bandwidth of a stream over the working set, as gpu-benches measured them.

A plateau is the value at a working set in its middle; a knee is where a curve is half way between two plateaus, found on the
same working sets in both curves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nmsim.validation.measured import Comparison, Context, Measured
from nmsim.validation.tabular import DATA, Line, read_lines

ARCH = "ampere.yaml"
CHASED_KB = (
    1, 15, 62, 118, 130, 144, 160, 177, 196, 216, 239, 391, 1029, 4333, 11254, 16482, 18132, 19946, 21941, 24136, 26551, 29207, 32129,
    35343, 38878, 42767, 47045, 51750, 56926, 62620, 75772, 125026, 206295,
)  # fmt: skip
"""Published working sets that are simulated: few on the plateaus, all around the knees."""
STREAMED_UP_TO_KB = 1 << 20
PLATEAU_KB = {"l1": 62, "l2-near": 4333, "l2-far": 35343, "l2": 16896, "dram": 125026}
"""Working set at which each plateau is read."""


@dataclass(frozen=True)
class Curve:
    """A published curve and the simulated one on the same working sets, value by KiB."""

    name: str
    unit: str
    lines: Sequence[Line]
    published: Mapping[float, float]
    simulated: Mapping[float, float]


def measure(context: Context) -> Measured:
    """Both curves, their plateaus and their knees."""
    latency, bandwidth = latency_curve(context), bandwidth_curve(context)
    plateaus = [_plateau(line, latency, bandwidth) for line in read_lines(DATA / "memory_plateaus.csv", ["id", "value", "unit"])]
    level = {row.row: row.published for row in plateaus}
    cycles, rate = "gpu-latency/a100-80/", "gpu-l2-cache/a100-80/"
    knees = [
        _knee(latency, "L1 to near L2", level[cycles + "l1"], level[cycles + "l2-near"]),
        _knee(latency, "near to far L2", level[cycles + "l2-near"], level[cycles + "l2-far"]),
        _knee(latency, "far L2 to DRAM", level[cycles + "l2-far"], level[cycles + "dram"]),
        _knee(bandwidth, "L2 to DRAM", level[rate + "l2"], level[rate + "dram"]),
    ]
    return Measured((*plateaus, *knees, *_points(latency), *_points(bandwidth)))


def latency_curve(context: Context) -> Curve:
    """Cycles of a dependent load over CHASED_KB."""
    from nmsim.api import microbench_chase

    machine = context.machine(ARCH)

    def chase(kb: int) -> float:
        return microbench_chase(machine, working_set_bytes=kb << 10).latency_cycles

    lines = read_lines(DATA / "latency_curve.csv", ["id", "working_set_kb", "latency_cycles"])
    chased = CHASED_KB if context.curves else CHASED_KB[::2]
    chosen = [line for line in lines if line.whole("working_set_kb") in chased]
    return _curve(context, "latency", "cycles", chosen, "latency_cycles", chase)


def bandwidth_curve(context: Context) -> Curve:
    """GB/s of all SMs over the published working sets of up to STREAMED_UP_TO_KB."""
    from nmsim.api import microbench_stream

    machine = context.machine(ARCH)

    def stream(kb: int) -> float:
        return microbench_stream(machine, working_set_bytes=kb << 10, engine=context.engine).bandwidth_gb_per_s

    lines = read_lines(DATA / "bandwidth_curve.csv", ["id", "working_set_kb", "bandwidth_gb_per_s"])
    chosen = [line for line in lines if line.whole("working_set_kb") <= STREAMED_UP_TO_KB]
    return _curve(context, "bandwidth", "GB/s", chosen, "bandwidth_gb_per_s", stream)


def _curve(context: Context, name: str, unit: str, lines: Sequence[Line], column: str, simulate: Callable[[int], float]) -> Curve:
    published, simulated = {}, {}
    for done, line in enumerate(lines):
        kb = line.whole("working_set_kb")
        context.progress(done, len(lines), f"{name} at {kb} KiB")
        published[float(kb)] = float(line.required(column))
        simulated[float(kb)] = simulate(kb)
    return Curve(name, unit, lines, published, simulated)


def _plateau(line: Line, latency: Curve, bandwidth: Curve) -> Comparison:
    curve = latency if line.required("unit") == latency.unit else bandwidth
    level = line.required("id").rpartition("/")[2]
    kb = min(curve.simulated, key=lambda at: abs(at - PLATEAU_KB[level]))
    published = float(line.required("value"))
    note = f"simulated at {kb:,.0f} KiB. {line.text('note')}".strip()
    tags = frozenset({f"{curve.name} plateau", line.required("id")})
    return Comparison(
        line.required("id"), curve.name, curve.unit, published, curve.simulated[kb], tags, line.text("source"), line.text("status"), note
    )


def _knee(curve: Curve, name: str, first: float, second: float) -> Comparison:
    half = (first + second) / 2
    published, simulated = (half_way(values, half) / 1024 for values in (curve.published, curve.simulated))
    source = curve.lines[0].text("source")
    return Comparison(f"{curve.name} knee, {name}", "working set", "MiB", published, simulated, frozenset({"knee"}), source)


def half_way(values: Mapping[float, float], level: float) -> float:
    """Where a curve first crosses a level, straight between its points; infinite where it never does."""
    for (left, before), (right, after) in pairwise(values.items()):
        if (before - level) * (after - level) <= 0 and before != after:
            return left + (level - before) / (after - before) * (right - left)
    return float("inf")


def _points(curve: Curve) -> list[Comparison]:
    found = []
    for line in curve.lines:
        kb = float(line.whole("working_set_kb"))
        numbers = (curve.published[kb], curve.simulated[kb])
        found.append(
            Comparison(
                line.required("id"), curve.name, curve.unit, *numbers, frozenset({"curve"}), line.text("source"), line.text("status")
            )
        )
    return found
