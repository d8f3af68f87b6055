"""Measured matrix instructions as rows: what `benchmarks/hardware/instructions.py` writes and `validate tensor_core --data` reads.

A line is one instruction at some number of warps and chains (independent accumulators). Needed columns: `id, arch, shape, measures,
warps, chains, iteration_cycles`: the cycles in which each chain of each warp advances by one instruction, as a loop on one SM showed
them. `measures` is `latency` where an instruction waits for the one before (one warp or warpgroup, one chain), else `throughput`.
Others, with what an empty cell means: `pattern` (dense), `dtype` (fp16), `acc` (the widest), `gpu`, `clock_mhz`, `source`, `status`,
`note`.
"""

from __future__ import annotations

import re
from pathlib import Path

from nmsim.arch.machine import Machine
from nmsim.errors import InputError
from nmsim.validation.measured import Comparison, Context
from nmsim.validation.own_data import machine_of_line, told_by_cell
from nmsim.validation.tabular import Line, read_lines

REQUIRED = ("id", "arch", "shape", "measures", "warps", "chains", "iteration_cycles")
OPTIONAL = ("pattern", "dtype", "acc", "gpu", "clock_mhz", "source", "status", "note")
MEASURES = ("latency", "throughput")


def compare_instructions(context: Context, path: Path) -> list[Comparison]:
    """Each row of a file beside what `nmsim mma` says of it. InputError names the line and cell that is wrong."""
    lines = read_lines(path, REQUIRED, OPTIONAL)
    machines: dict[str, Machine] = {}
    ids: set[str] = set()
    found = []
    for done, line in enumerate(lines):
        context.progress(done, len(lines), line.required("id"))
        if line.required("id") in ids:
            raise line.error("id", "is the id of an earlier line too", "name each line once")
        ids.add(line.required("id"))
        arch = line.required("arch")
        if arch not in machines:
            machines[arch] = machine_of_line(context, line, arch)
        found.append(_compare(machines[arch], line))
    if not found:
        raise InputError("holds no rows", file=path)
    return found


def _compare(machine: Machine, line: Line) -> Comparison:
    from nmsim.api import microbench

    shape = re.fullmatch(r"m(\d{1,4})n(\d{1,4})k(\d{1,4})", line.required("shape"))
    if shape is None:
        raise line.error("shape", "is not an instruction shape", "write for example m16n8k16")
    m, n, k = (int(side) for side in shape.groups())
    measures, warps, chains, cycles = (
        line.required("measures"),
        line.whole("warps"),
        line.whole("chains"),
        line.number_of("iteration_cycles"),
    )
    if measures not in MEASURES:
        raise line.error("measures", "is nothing that an instruction has", f"write {' or '.join(MEASURES)}")
    if cycles is None:
        raise line.error("iteration_cycles", "is empty", "fill it in")
    pattern = line.text("pattern", "dense")
    with told_by_cell(line):
        timing = microbench(
            machine,
            shape=(m, n, k),
            dtype=line.text("dtype", "fp16"),
            pattern=pattern,
            acc=line.text("acc") or None,
            warps=warps,
            ilp=chains,
        )
    about = frozenset({measures, "dense" if pattern == "dense" else "sparse"}), line.text("source", str(line.file)), line.text("status")
    if measures == "latency":
        return Comparison(line.required("id"), "latency", "cycles", cycles, timing.latency_cycles, *about, line.text("note"))
    fma = timing.throughput_fma_per_cycle_per_sm * timing.iteration_cycles  # of one iteration, all warps
    simulated = timing.throughput_fma_per_cycle_per_sm
    return Comparison(line.required("id"), "throughput", "FMA/clk/SM", fma / cycles, simulated, *about, line.text("note"))
