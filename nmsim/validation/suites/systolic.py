"""Suite `systolic`: cycles of the three dataflows, dense and N:M, against SCALE-Sim v3, to the cycle.

What is compared is the run of events on a memory that answers at once. SCALE-Sim starts a fold when the array is empty (`overlap: none`),
and charges no port for the elements that a kept one is selected from (`nm.input_width: any`). It prints the index of the last
cycle (its issue 125), so that the published figure is one more than it prints.

The same rows then run with their DRAM. Without overlap each fold's load and skew stay as exposed as they were, so that waits for memory
(`dram_*`, and `epilogue` for results on their way out) must be all that is added: a cycle under a wrong name shows.
"""

from __future__ import annotations

from nmsim.arch.systolic import SystolicSpec
from nmsim.errors import InputError
from nmsim.run.single import what_if_gemm
from nmsim.run.systolic import run_systolic
from nmsim.sparsity.pattern import NMPattern
from nmsim.validation.measured import Check, Comparison, Context, Measured, find_arch
from nmsim.validation.tabular import DATA, Line, read_lines

COLUMNS = ("id", "arch", "dataflow", "rows", "columns", "m", "n", "k", "cycles")
BIG_ENOUGH = 1 << 30
"""Bytes of each buffer: SCALE-Sim's figures are for operands at hand, so that no tile may be refused for want of a buffer."""


def measure(context: Context) -> Measured:
    """Run each row on an array of its size, and add up the stalls of its run with memory."""
    lines = read_lines(DATA / "scalesim_cycles.csv", COLUMNS)
    comparisons, added, unexplained = [], 0.0, 0.0
    for done, line in enumerate(lines):
        context.progress(done, len(lines), line.required("id"))
        cycles, with_memory, waits = _run(context, line)
        added = max(added, with_memory - cycles)
        unexplained = max(unexplained, abs(with_memory - cycles - waits))
        tags = frozenset({line.required("dataflow"), "nm" if line.text("pattern") else "dense"})
        about = line.text("source"), line.text("status"), line.text("note")
        comparisons.append(Comparison(line.required("id"), "compute cycles", "cycles", float(line.whole("cycles")), cycles, tags, *about))
    text = f"memory adds up to {added:,.0f} cycles to a row; at most {unexplained:.3g} of them are no wait for memory"
    return Measured(tuple(comparisons), (Check("memory adds waits for memory and nothing else", unexplained < 0.01 < added, text),))


def _run(context: Context, line: Line) -> tuple[float, float, float]:
    """(cycles with operands at hand, cycles with memory, those of them that are waits for it)."""
    from nmsim.api import load_arch

    overrides = [
        f"array.rows={line.whole('rows')}",
        f"array.columns={line.whole('columns')}",
        f"array.dataflow={line.required('dataflow')}",
        "array.overlap=none",
        "array.nm.input_width=any",
        *(f"buffers.{buffer}_bytes={BIG_ENOUGH}" for buffer in ("input", "filter", "output")),
        *context.overrides,
    ]
    spec = load_arch(find_arch(line.required("arch")), overrides)
    if not isinstance(spec, SystolicSpec):
        raise InputError("is not a systolic machine", path="arch", value=line.required("arch"))
    gemm = what_if_gemm(line.whole("m"), line.whole("n"), line.whole("k"), 1, "fp16", "fp16")
    pattern = NMPattern.parse(line.required("pattern")) if line.text("pattern") else None
    run = run_systolic(spec, gemm, pattern)
    waits = sum(run.stall_cycles[name] for name in ("dram_queue", "dram_row", "dram_bus", "epilogue"))
    return run_systolic(spec, gemm, pattern, ideal_memory=True).cycles, run.cycles, waits
