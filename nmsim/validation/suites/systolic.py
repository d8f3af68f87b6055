"""Suite `systolic`: compute cycles of the three dataflows, dense and N:M, against SCALE-Sim v3, to the cycle.

SCALE-Sim starts a fold when the array is empty: `overlap: none`. It prints the index of the last cycle (its issue 125), so that the
published figure is one more than it prints. With memory, every cycle that is not a MAC must have a name.
"""

from __future__ import annotations

from nmsim.arch.systolic import SystolicSpec
from nmsim.errors import InputError
from nmsim.validation.measured import Check, Comparison, Context, Measured, find_arch
from nmsim.validation.tabular import DATA, Line, read_lines

COLUMNS = ("id", "arch", "dataflow", "rows", "columns", "m", "n", "k", "cycles")
BIG_ENOUGH = 1 << 30
"""Bytes of each buffer: SCALE-Sim's figures are for operands at hand, so that no tile may be refused for want of a buffer."""


def measure(context: Context) -> Measured:
    """Run each row on an array of its size, and add up the stalls of its run with memory."""
    lines = read_lines(DATA / "scalesim_cycles.csv", COLUMNS)
    comparisons, unexplained = [], 0.0
    for done, line in enumerate(lines):
        context.progress(done, len(lines), line.required("id"))
        cycles, left = _run(context, line)
        unexplained = max(unexplained, left)
        tags = frozenset({line.required("dataflow"), "nm" if line.text("pattern") else "dense"})
        about = line.text("source"), line.text("status"), line.text("note")
        comparisons.append(Comparison(line.required("id"), "compute cycles", "cycles", float(line.whole("cycles")), cycles, tags, *about))
    text = f"at most {unexplained:.3g} cycles of a run are neither MACs nor a named stall"
    return Measured(tuple(comparisons), (Check("every stall has a name", unexplained < 0.01, text),))


def _run(context: Context, line: Line) -> tuple[float, float]:
    """(compute cycles, cycles of the run with memory that have no name)."""
    from nmsim.api import load_arch, simulate_gemm

    overrides = [
        f"array.rows={line.whole('rows')}",
        f"array.columns={line.whole('columns')}",
        f"array.dataflow={line.required('dataflow')}",
        "array.overlap=none",
        *(f"buffers.{buffer}_bytes={BIG_ENOUGH}" for buffer in ("input", "filter", "output")),
        *context.overrides,
    ]
    spec = load_arch(find_arch(line.required("arch")), overrides)
    if not isinstance(spec, SystolicSpec):
        raise InputError("is not a systolic machine", path="arch", value=line.required("arch"))
    run = simulate_gemm(spec, m=line.whole("m"), n=line.whole("n"), k=line.whole("k"), pattern=line.text("pattern") or None)
    return run.compute_cycles, abs(run.cycles - run.busy_cycles - sum(run.stall_cycles.values()))
