"""Suite `power`: throughput of GEMMs large enough to meet the board's power limit, on the 300 W and the 400 W A100.

Both boards share one chip and one set of energy costs, so one constant cannot be bent to please both.
"""

from __future__ import annotations

from nmsim.arch.machine import as_gpu
from nmsim.validation.gemm_rows import GemmRow, SimulatedGemm, Timed, left_out, read_gemm_rows, simulate_rows
from nmsim.validation.measured import Check, Comparison, Context, Measured
from nmsim.validation.tabular import DATA

BOARDS = ("ampere_pcie.yaml", "ampere.yaml")
LARGE_MACS = 10**11
"""From here on the published rate no longer rises with the size."""


def measure(context: Context) -> Measured:
    """Simulate the large rows of the GEMM file; rates instead of times, and watts against the limit."""
    rows = [row for row in read_gemm_rows(DATA / "gemm_a100.csv") if row.macs >= LARGE_MACS]
    simulated = list(simulate_rows(context, rows))
    comparisons = tuple(comparison for one in simulated for comparison in _rates(one))
    return Measured(comparisons, (_under_the_limit(context, simulated), _one_set_of_costs(context)), left_out(context, rows))


def _rates(one: SimulatedGemm) -> list[Comparison]:
    row, found = one.row, []
    for quantity, published, timed in (("dense rate", row.dense_us, one.dense), (f"{row.pattern} rate", row.sparse_us, one.sparse)):
        if published is not None and timed is not None:
            tags = row.tags | {"rate", "400 W" if "sxm4" in row.tags else "300 W"}
            note = f"{timed.power_w:.0f} W at {timed.clock_mhz} MHz. {row.note}".strip()
            pair = (_tflops(row, published), _tflops(row, timed.time_us))
            found.append(Comparison(row.id, quantity, "TFLOP/s", *pair, tags, row.source, row.status, note))
    return found


def _tflops(row: GemmRow, time_us: float) -> float:
    return 2 * row.m * row.n * row.k / time_us / 1e6


def _under_the_limit(context: Context, simulated: list[SimulatedGemm]) -> Check:
    limits = {name: as_gpu(context.machine(name), name).power.board_limit_w for name in BOARDS}
    drawn: list[tuple[float, str]] = []
    for one in simulated:
        runs: list[Timed] = [timed for timed in (one.dense, one.sparse) if timed is not None]
        drawn += [(timed.power_w / limits[one.row.arch], one.row.id) for timed in runs]
    share, row = max(drawn)
    return Check("watts never above the limit", share <= 1, f"at most {share:.1%} of the limit ({row})")


def _one_set_of_costs(context: Context) -> Check:
    pcie, sxm4 = (as_gpu(context.machine(name), name) for name in BOARDS)
    same = pcie.energy == sxm4.energy and pcie.power.static_w == sxm4.power.static_w
    return Check("one set of energy constants", same, f"energy blocks of {' and '.join(BOARDS)} {'agree' if same else 'differ'}")
