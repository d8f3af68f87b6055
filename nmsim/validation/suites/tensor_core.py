"""Suite `tensor_core`: completion latency and throughput of the A100's mma and mma.sp, as Sun et al. measured them.

A latency is an input of the SM level, rounded to whole cycles; that a chain of instructions shows it is what is checked. Issue
intervals come from the datasheet's rates but for short-k mma.sp; throughputs follow from both, the loop and the register ports.
"""

from __future__ import annotations

import re

from nmsim.arch.machine import Machine
from nmsim.validation.instruction_rows import compare_instructions
from nmsim.validation.measured import Comparison, Context, Measured
from nmsim.validation.tabular import DATA, Line, read_lines

ARCH = "ampere.yaml"
SHORT_SPARSE_K = 16
"""k of the sparse FP16 instruction whose published rate at 4 warps no mechanism here explains."""
UNROLLED = {4: ("a", 3), 8: ("b", 2)}
"""Warps -> columns of the file, and the instructions in flight per warp where a sparse row names none: the rates have converged."""
COLUMNS = ("id", "instr", "ptx_shape", "ab_dtype", "cd_dtype", "completion_latency_cycles")


def measure(context: Context) -> Measured:
    """Each row's latency, and its throughput at 4 and 8 warps where it was published; or the rows of `context.data`."""
    if context.data:
        return Measured(tuple(compare_instructions(context, context.data)))
    machine = context.machine(ARCH)
    found: list[Comparison] = []
    left_out: list[str] = []
    lines = read_lines(DATA / "tensorcore_instr_a100.csv", COLUMNS)
    for done, line in enumerate(lines):
        context.progress(done, len(lines), line.required("id"))
        if line.required("ab_dtype") == "BIN":
            left_out.append(f"{line.required('id')}: no element type of a GEMM")
        else:
            found += _row(machine, line)
    return Measured(tuple(found), left_out=tuple(left_out))


def _row(machine: Machine, line: Line) -> list[Comparison]:
    from nmsim.api import microbench

    m, n, k = (int(number) for number in re.findall(r"\d+", line.required("ptx_shape")))
    dtype, sparse = line.required("ab_dtype").lower(), line.required("instr").startswith("mma.sp")
    kind = "sparse" if sparse else "dense"
    pattern = ("1:2" if dtype == "tf32" else "2:4") if sparse else "dense"
    found = []
    for warps, (column, unrolled) in UNROLLED.items():
        ilp = int(line.number_of(next(name for name in line.cells if name.startswith(f"ilp_{column}"))) or unrolled)
        timing = microbench(
            machine, shape=(m, n, k), dtype=dtype, pattern=pattern, acc=line.required("cd_dtype").lower(), warps=warps, ilp=ilp
        )
        if warps == min(UNROLLED):
            published = float(line.required("completion_latency_cycles"))
            found.append(_comparison(line, "latency", "cycles", published, timing.latency_cycles, {"latency", kind}, "1 warp, ILP 1"))
        rate = line.number_of(f"throughput_{column}_FMA_per_clk_SM")
        if rate is not None:
            tags = {"throughput", kind, f"{warps} warps"}
            note = f"ILP {ilp}{'' if line.text(f'ilp_{column}') or not sparse else ' (not published)'}"
            if sparse and k == SHORT_SPARSE_K and warps == min(UNROLLED):
                note += "; no mechanism here explains short-k mma.sp at one warp a scheduler"
            quantity = f"throughput at {warps} warps"
            found.append(_comparison(line, quantity, "FMA/clk/SM", rate, timing.throughput_fma_per_cycle_per_sm, tags, note))
    return found


def _comparison(line: Line, quantity: str, unit: str, published: float, simulated: float, tags: set[str], note: str) -> Comparison:
    source = f"{line.text('source')}, {line.text('table')}"
    return Comparison(line.required("id"), quantity, unit, published, simulated, frozenset(tags), source, line.text("status"), note)
