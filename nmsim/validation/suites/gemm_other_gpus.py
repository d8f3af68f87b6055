"""Suite `gemm_other_gpus`: whole GEMMs on the H100, the RTX 4090 and the RTX 4070 Ti SUPER, with what was learnt on the A100.

Launch, raster of dense kernels and split-K of these machines are the A100's, inherited and not fitted again; what is theirs comes
from data sheets and microbenchmarks, but for one factor on the H100's energy costs and what its board allows briefly (see
fitted_rows.csv). Which kernels the H100's dense library has is read off its algorithm descriptors, of problems that are no rows of
this suite; the RTX 4090's tiles are the A100's. H100 rows of less than 1 ms are simulated in the board's brief state.
"""

from __future__ import annotations

from nmsim.validation.gemm_rows import comparisons_of, left_out, read_gemm_rows, simulate_rows
from nmsim.validation.measured import Check, Context, Measured
from nmsim.validation.tabular import DATA

INHERITED = ("launch", "kernels.max_split_k", "kernels.raster_width", "kernels.registers_per_thread")
"""What must be the A100's in every machine that the rows name."""


def measure(context: Context) -> Measured:
    """Simulate the shipped rows and compare the inherited blocks."""
    rows = read_gemm_rows(DATA / "gemm_other_gpus.csv")
    comparisons = tuple(comparison for one in simulate_rows(context, rows) for comparison in comparisons_of(one))
    return Measured(comparisons, (_carried_over(context, sorted({row.arch for row in rows})),), left_out(context, rows))


def _carried_over(context: Context, machines: list[str]) -> Check:
    reference = context.machine("ampere.yaml")
    changed = [
        f"{machine} {path}"
        for machine in machines
        for path in INHERITED
        if _plain(context.machine(machine), path) != _plain(reference, path)
    ]
    return Check("launch, raster and split-K are the A100's", not changed, ", ".join(changed) or f"the same in {', '.join(machines)}")


def _plain(machine: object, path: str) -> object:
    """The value at a dotted path, without its sources."""
    value = machine
    for name in path.split("."):
        value = getattr(value, name)
    dump = getattr(value, "model_dump", None)
    return dump(exclude={"sources"}) if dump else value
