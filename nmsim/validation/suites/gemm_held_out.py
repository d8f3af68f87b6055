"""Suite `gemm_held_out`: four products of Llama 3.2 3B on the A100, the RTX 4090 and the H100, dense and 2:4.

From the data behind the squares and Qwen rows of the other suites (github.com/bcacdwk/vllmbench), the same boards on the same days.
The rows were chosen, and the bars set, before any was simulated. What this model's problems did contribute, with others and without
a time, are the lists of dense tiles of the A100 and of the H100. Beside them, in no bar: the best rates that someone's search over
many shapes found on boards of 700 W, which have no other rows.
"""

from __future__ import annotations

from nmsim.validation.gemm_rows import comparisons_of, left_out, read_gemm_rows, simulate_rows
from nmsim.validation.measured import Context, Measured
from nmsim.validation.tabular import DATA


def measure(context: Context) -> Measured:
    """Simulate the shipped rows."""
    rows = read_gemm_rows(DATA / "gemm_held_out.csv")
    comparisons = tuple(comparison for one in simulate_rows(context, rows) for comparison in comparisons_of(one))
    return Measured(comparisons, left_out=left_out(context, rows))
