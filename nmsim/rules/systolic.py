"""How long a systolic array computes: a GEMM is cut into folds, and each fold has three phases.

D[m, n] = A[m, k] B[k, n] on R rows and C columns of processing elements (PEs):

========  ==================  ================  =========================  ======================
dataflow  on the rows         on the columns    streamed, one a cycle      loaded before (R rows)
========  ==================  ================  =========================  ======================
ws        k                   n                 the m rows of A            R x C of B
is        k                   m                 the n columns of B         R x C of A
os        m                   n                 the k columns of A, rows   nothing
                                                of B
========  ==================  ================  =========================  ======================

*load* brings the stationary operand in, a row a cycle; *stream* is one operand vector a cycle at the corner PE; *skew* is
the R + C - 2 cycles until the last vector has reached the opposite corner. `overlap` says when the next fold may begin:

- `none`: when the array is empty. Equals SCALE-Sim v2 and v3 to the cycle (one more than they print: their issue 125).
- `fold`: a row of PEs passes to the next fold as soon as its own last PE is done; the stationary operand is double-buffered.
- `full`: each PE passes on by itself, so that folds stream back to back; the stationary operand is double-buffered.

A compressed filter (N of M along k) takes ceil(k / M) N in the place of k. Each kept position is selected from M elements of A, N of
them from the same M, so that a port takes M / (N width) cycles for what one position needs: `input_cycles`. Where that is more than one,
A enters more slowly: the stream of `ws` and `os` and the load of `is` are that many times as long. Everything is a pure function of ints.
"""

from __future__ import annotations

from typing import Literal

Dataflow = Literal["ws", "os", "is"]
Overlap = Literal["none", "fold", "full"]


def compressed_k(k: int, kept: int, group: int) -> int:
    """Reduction of a filter that keeps `kept` of `group`; a tail shorter than a group is padded to one."""
    return -(-k // group) * kept


def spatial(dataflow: Dataflow, m: int, n: int, k: int) -> tuple[int, int, int]:
    """(dimension on the rows, dimension on the columns, dimension streamed); `k` is the compressed reduction."""
    if dataflow == "ws":
        return k, n, m
    if dataflow == "is":
        return k, m, n
    return m, n, k


def fold_count(dataflow: Dataflow, m: int, n: int, k: int, rows: int, columns: int) -> int:
    """Folds of one GEMM: a ragged one counts, and costs, as much as a whole one."""
    on_rows, on_columns, _ = spatial(dataflow, m, n, k)
    return -(-on_rows // rows) * -(-on_columns // columns)


Ratio = tuple[int, int]
"""Numerator and denominator."""
ONE_A_CYCLE: Ratio = (1, 1)


def input_cycles(kept: int, group: int, width: int | None) -> Ratio:
    """Cycles a kept position takes to get its elements of A through a port that is `width` elements wide (None: as wide as need be)."""
    return ONE_A_CYCLE if width is None or group <= kept * width else (group, kept * width)


def through_port(vectors: int, cycles: Ratio) -> int:
    """Cycles that `vectors` operand vectors take at `cycles` each, the last one rounded up."""
    return -(-vectors * cycles[0] // cycles[1])


def load_cycles(dataflow: Dataflow, rows: int, cycles: Ratio = ONE_A_CYCLE) -> int:
    """Cycles to bring a fold's stationary operand into the array, if it is A at `cycles` a row; an output-stationary fold has none."""
    if dataflow == "os":
        return 0
    return through_port(rows, cycles) if dataflow == "is" else rows


def stream_cycles(dataflow: Dataflow, m: int, n: int, k: int, cycles: Ratio = ONE_A_CYCLE) -> int:
    """Cycles of a fold's stream, `cycles` a vector if A is in it; `k` is the compressed reduction."""
    streamed = spatial(dataflow, m, n, k)[2]
    return streamed if dataflow == "is" else through_port(streamed, cycles)


def skew_cycles(rows: int, columns: int) -> int:
    """Cycles that the wavefront takes from the first PE to the opposite corner."""
    return rows + columns - 2


def interval_cycles(overlap: Overlap, load: int, stream: int, rows: int, columns: int) -> int:
    """Cycles from the start of a fold's stream to that of the next, operands at hand.

    With overlap the next stationary operand follows the present one into the rows' second registers, so that it needs
    `load` cycles of its own between two starts.
    """
    if overlap == "none":
        return load + stream + skew_cycles(rows, columns)
    return max(load, stream + (columns - 1 if overlap == "fold" else 0))


def compute_cycles(
    dataflow: Dataflow, overlap: Overlap, m: int, n: int, k: int, rows: int, columns: int, batch: int = 1, cycles: Ratio = ONE_A_CYCLE
) -> int:
    """Cycles of `batch` GEMMs one after another whose operands are always at hand, A entering at `cycles` a vector.

    load + (folds - 1) interval + stream + skew. With `none` that is, for R rows and C columns, as in SCALE-Sim,

    - os: ceil(m/R) ceil(n/C) (k + R + C - 2)
    - ws: ceil(k/R) ceil(n/C) (m + 2R + C - 2)
    - is: ceil(k/R) ceil(m/C) (n + 2R + C - 2)
    """
    stream = stream_cycles(dataflow, m, n, k, cycles)
    load = load_cycles(dataflow, rows, cycles)
    folds = batch * fold_count(dataflow, m, n, k, rows, columns)
    return load + (folds - 1) * interval_cycles(overlap, load, stream, rows, columns) + stream + skew_cycles(rows, columns)


def ideal_cycles(macs: int, rows: int, columns: int) -> int:
    """Cycles in which every PE does a useful MAC: below it nothing can go."""
    return -(-macs // (rows * columns))
