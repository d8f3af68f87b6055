"""Suite `bad_kernels`: three GEMM kernels that teach what not to do, from the appendix of Sun et al., arXiv:2206.02874.

Their code says what the published cycles are: each CTA reads the clock at its first instruction and at the end of its mainloop, and the
largest difference over all CTAs is printed. That is not the time of the kernel, whose 1024 CTAs need more than one round: the second
kernel halves the number by having fewer CTAs share an SM, and hardly shortens the whole.
"""

from __future__ import annotations

from nmsim.arch.machine import Machine
from nmsim.validation.measured import Check, Comparison, Context, Measured
from nmsim.validation.tabular import DATA, Line, read_lines

COLUMNS = ("id", "arch", "m", "n", "k", "cta", "warp", "stages", "layout", "copy", "fragments", "registers", "cycles")


def measure(context: Context) -> Measured:
    """Run each kernel as its row describes it, through the ordinary GEMM path."""
    lines = read_lines(DATA / "bad_kernels.csv", COLUMNS)
    found = []
    for done, line in enumerate(lines):
        context.progress(done, len(lines), line.required("id"))
        found.append(_compared(line, context.machine(line.required("arch")), context.engine))
    by_published = sorted(found, key=lambda one: -one.published)
    simulated = [one.simulated for one in by_published]
    evidence = " > ".join(f"{cycles:,.0f}" for cycles in simulated)
    return Measured(tuple(found), (Check("in the published order", simulated == sorted(simulated, reverse=True), evidence),))


def _compared(line: Line, machine: Machine, engine: str | None) -> Comparison:
    from nmsim.api import simulate_gemm
    from nmsim.arch.spec import TileSpec
    from nmsim.units import element_bits

    dtype = line.text("dtype", "fp16")
    m, n, k = (int(side) for side in line.required("cta").split("x"))
    warp = tuple(int(side) for side in line.required("warp").split("x"))
    kernel = TileSpec.model_validate(
        {
            "cta": (m, n, k * element_bits(dtype) // 8),
            "warp": warp,
            "stages": line.whole("stages"),
            "registers": line.whole("registers"),
            **{name: line.required(name) for name in ("layout", "copy", "fragments")},
        }
    )
    rows, columns, depth = (line.whole(side) for side in ("m", "n", "k"))
    result = simulate_gemm(machine, m=rows, n=columns, k=depth, dtype=dtype, out_dtype="fp32", engine=engine, kernel=kernel)
    published = line.number_of("cycles")
    if published is None:
        raise line.error("cycles", "is empty", "fill it in")
    note = (
        f"{result.occupancy} CTAs an SM; the whole kernel takes {result.cycles:,.0f} cycles, bound by {result.bound}. {line.text('note')}"
    )
    about = line.text("source"), line.text("status"), note
    return Comparison(
        line.required("id"), "longest CTA", "cycles", published, result.longest_cta_cycles, frozenset({"longest CTA", "cycles"}), *about
    )
