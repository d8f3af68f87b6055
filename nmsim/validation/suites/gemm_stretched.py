"""Suite `gemm_stretched`: weights with two zeros in L elements, slid into 2:4 with a reduction 2 (L - 2) / L as long.

Squares of suite `gemm` again, at six more reductions each. The times are dense times over published ratios of two digits.
"""

from __future__ import annotations

from nmsim.validation.gemm_rows import comparisons_of, left_out, read_gemm_rows, simulate_rows
from nmsim.validation.measured import Context, Measured
from nmsim.validation.tabular import DATA


def measure(context: Context) -> Measured:
    """Simulate the shipped rows."""
    rows = read_gemm_rows(DATA / "gemm_stretched_a100.csv")
    return Measured(
        tuple(one for simulated in simulate_rows(context, rows) for one in comparisons_of(simulated)), left_out=left_out(context, rows)
    )
