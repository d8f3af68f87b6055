"""A GEMM on a systolic array as folds of segments: what streams for how long, and which bytes it moves.

Order: the reduction innermost, so that partial sums stay on chip. `ws` walks the columns of D, `is` its rows, and each
then all of k; `os` walks the rows of D, then its columns. A segment is the part of a fold's stream that fits half a buffer.
What stays on chip is said in `nmsim.mapping.systolic_traffic`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from nmsim.arch.systolic import SystolicSpec
from nmsim.errors import InputError
from nmsim.mapping.systolic_traffic import PARTIAL_BITS, SystolicShape, SystolicTraffic, bytes_of, planned_traffic
from nmsim.rules.systolic import Ratio, fold_count, spatial, through_port
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.gemm import Gemm

MAX_SEGMENTS = 1 << 20
"""Of one run: about ten seconds, and far beyond any sensible pair of array and GEMM."""


class Segment(NamedTuple):
    """A part of a fold's stream: how long, and what it moves between DRAM and the buffers."""

    vectors: int
    cycles: int
    """Of streaming them: more than one a vector where the port of A is too narrow for the pattern."""
    fetch_bytes: tuple[int, int]
    """Of the streamed operand, or of A and of B for `os`; 0 where it is on chip already."""
    partial_bytes: int
    """Partial sums read back."""
    write_bytes: int
    """Partial sums or finished outputs, written once the segment has left the array."""
    opens_output: bool
    """True where it is the first to put results into its half of the output buffer."""


class Fold(NamedTuple):
    """One filling of the array; identical folds share their segments."""

    stationary_bytes: int
    """Fetched before the load; 0 for `os`."""
    segments: tuple[Segment, ...]


@dataclass(frozen=True, eq=False)
class SystolicPlan:
    """One GEMM on one array."""

    name: str
    pattern: str
    """Pattern the array runs, or `dense`."""
    fold_tile: tuple[int, int, int]
    """(m, n, k) that a whole fold covers; k is the compressed reduction."""
    k: int
    """Reduction that the array runs."""
    input_cycles: Ratio
    """Cycles in which a vector of A enters."""
    executed_macs: int
    """The padding of a last N:M group included, idle PEs of a ragged fold left out."""
    traffic: SystolicTraffic
    """Planned bytes, in closed form."""
    folds: tuple[Fold, ...]


def lower_systolic(spec: SystolicSpec, gemm: Gemm, pattern: NMPattern | None) -> SystolicPlan:
    """Lay `gemm` on the array of `spec`, B compressed by `pattern` where given.

    InputError where a tile fits no buffer, or the GEMM is cut into more than MAX_SEGMENTS.
    """
    array, shape = spec.array, SystolicShape(spec, gemm, pattern)
    _limit(shape, gemm.l * fold_count(array.dataflow, gemm.m, gemm.n, shape.k, array.rows, array.columns))
    folds = tuple(_output_folds(shape) if array.dataflow == "os" else _stationary_folds(shape))
    _limit(shape, sum(len(fold.segments) for fold in folds))
    on_rows, on_columns, streamed = spatial(array.dataflow, gemm.m, gemm.n, shape.k)
    rows, columns = min(array.rows, on_rows), min(array.columns, on_columns)
    tiles = {"ws": (streamed, columns, rows), "is": (columns, streamed, rows), "os": (rows, columns, streamed)}
    return SystolicPlan(
        name=f"systolic_{array.dataflow}",
        pattern="dense" if pattern is None else str(pattern),
        fold_tile=tiles[array.dataflow],
        k=shape.k,
        input_cycles=shape.input_cycles,
        executed_macs=gemm.m * gemm.n * shape.k * gemm.l,
        traffic=planned_traffic(shape),
        folds=folds,
    )


def _stationary_folds(s: SystolicShape) -> Iterator[Fold]:
    """Folds of `ws` and `is`: k on the rows; n (or m) on the columns; m (or n) streamed."""
    array = s.spec.array
    _, width, _ = spatial(array.dataflow, s.gemm.m, s.gemm.n, s.k)
    made: dict[tuple[int, ...], Fold] = {}
    for _ in range(s.gemm.l):
        for x in range(0, width, array.columns):
            columns = min(array.columns, width - x)
            for start in range(0, s.k, array.rows):
                stop = min(start + array.rows, s.k)
                fresh = s.span(0, stop) - s.span(0, start)  # of A, beyond what the fold before has brought
                key = (columns, s.span(start, stop), stop - start, fresh, x == 0, start == 0, stop == s.k)
                if key not in made:
                    made[key] = _stationary_fold(s, x == 0, columns, start, stop)
                yield made[key]


def _stationary_fold(s: SystolicShape, first_columns: bool, columns: int, start: int, stop: int) -> Fold:
    """The fold over compressed k positions [start, stop) and `columns` columns of the array."""
    buffers, ws = s.spec.buffers, s.spec.array.dataflow == "ws"
    length = spatial(s.spec.array.dataflow, s.gemm.m, s.gemm.n, s.k)[2]
    a_bits, b_bits = s.span(start, stop) * s.a_bits, (stop - start) * s.b_bits
    (held_bits, held_in), (vector_bits, streamed_in) = (b_bits, "filter_bytes"), (a_bits, "input_bytes")
    half_bits = buffers.input_bytes // 2 * 8
    if not ws:
        (held_bits, held_in), (vector_bits, streamed_in) = (a_bits, "input_bytes"), (b_bits, "filter_bytes")
        half_bits = buffers.filter_bytes // 2 * 8
    stationary_bytes = bytes_of(columns * held_bits)
    _must_fit(s, held_in, stationary_bytes, "a fold's stationary tile")
    _must_fit(s, "output_bytes", bytes_of(columns * PARTIAL_BITS), "one vector of partial sums")
    fetched_bits, limit = vector_bits, half_bits // vector_bits
    if s.stream_kept:
        fresh_bits = (s.span(0, stop) - s.span(0, start)) * s.a_bits if ws else b_bits
        fetched_bits, limit = (fresh_bits if first_columns else 0), length
    else:
        _must_fit(s, streamed_in, bytes_of(vector_bits), "one streamed vector")
    spills, first, last = s.spills(columns), start == 0, stop == s.k
    if spills:
        limit = min(limit, buffers.output_bytes // 2 * 8 // (columns * PARTIAL_BITS))
    reread_bits = columns * PARTIAL_BITS if spills and not first else 0
    written_bits = columns * s.out_bits if last else columns * PARTIAL_BITS if spills else 0
    segments = [
        Segment(
            vectors=b - a,
            cycles=_cycles(s, a, b) if ws else b - a,
            fetch_bytes=(_part(fetched_bits, a, b), 0),
            partial_bytes=_part(reread_bits, a, b),
            write_bytes=_part(written_bits, a, b),
            opens_output=spills or (first and a == 0),
        )
        for a, b in _even(length, limit)
    ]
    return Fold(stationary_bytes, tuple(segments))


def _output_folds(s: SystolicShape) -> Iterator[Fold]:
    """Folds of `os`: m on the rows, n on the columns, k streamed as A from one side and B from the other."""
    array, gemm = s.spec.array, s.gemm
    made: dict[tuple[int, ...], Fold] = {}
    for _ in range(gemm.l):
        for y in range(0, gemm.m, array.rows):
            rows = min(array.rows, gemm.m - y)
            for x in range(0, gemm.n, array.columns):
                columns = min(array.columns, gemm.n - x)
                fetch_a, fetch_b = x == 0 or not s.rows_kept(rows), y == 0 or not s.stream_kept
                key = (rows, columns, fetch_a, fetch_b)
                if key not in made:
                    made[key] = _output_fold(s, rows, columns, fetch_a, fetch_b)
                yield made[key]


def _output_fold(s: SystolicShape, rows: int, columns: int, fetch_a: bool, fetch_b: bool) -> Fold:
    """The fold over `rows` x `columns` outputs; its segments hold whole groups of k."""
    buffers = s.spec.buffers
    kept, group = (1, 1) if s.pattern is None else (s.pattern.n, s.pattern.m)
    a_bits, b_bits, outputs = rows * group * s.a_bits, columns * kept * s.b_bits, bytes_of(rows * columns * s.out_bits)
    _must_fit(s, "input_bytes", bytes_of(a_bits), "one k group of the rows of A")
    _must_fit(s, "filter_bytes", bytes_of(b_bits), "one k group of the columns of B")
    _must_fit(s, "output_bytes", outputs, "the outputs of a fold")
    groups = s.k // kept
    limit_a = groups if s.rows_kept(rows) else buffers.input_bytes // 2 * 8 // a_bits
    limit_b = groups if s.stream_kept else buffers.filter_bytes // 2 * 8 // b_bits
    segments = []
    for first, last in _even(groups, min(limit_a, limit_b)):
        a, b = first * kept, last * kept
        fetched_a = _part(rows * s.a_bits, s.span(0, a), s.span(0, b)) if fetch_a else 0
        fetched_b = _part(columns * s.b_bits, a, b) if fetch_b else 0
        segments.append(Segment(b - a, _cycles(s, a, b), (fetched_a, fetched_b), 0, outputs if last == groups else 0, first == 0))
    return Fold(0, tuple(segments))


def _even(length: int, limit: int) -> Iterator[tuple[int, int]]:
    """[start, stop) of the fewest equal parts of `length`, none longer than `limit`."""
    parts = -(-length // limit)
    return ((length * part // parts, length * (part + 1) // parts) for part in range(parts))


def _cycles(s: SystolicShape, start: int, stop: int) -> int:
    """Cycles in which vectors [start, stop) of A enter, such that parts add up to the whole."""
    return through_port(stop, s.input_cycles) - through_port(start, s.input_cycles)


def _part(bits_per_vector: int, start: int, stop: int) -> int:
    """Bytes of vectors [start, stop), such that parts add up to the whole."""
    return bytes_of(bits_per_vector * stop) - bytes_of(bits_per_vector * start)


def _must_fit(s: SystolicShape, buffer: str, needed: int, what: str) -> None:
    half: int = getattr(s.spec.buffers, buffer) // 2
    if needed > half:
        problem = f"has halves of {half} bytes, and {what} takes {needed} in {s.gemm.dtype}"
        raise InputError(problem, path=f"buffers.{buffer}", fix=f"raise it to {2 * needed} or use a smaller array")


def _limit(s: SystolicShape, segments: int) -> None:
    if segments > MAX_SEGMENTS:
        gemm, array = s.gemm, s.spec.array
        problem = f"{gemm.m} x {gemm.n} x {gemm.k} x {gemm.l} is {segments:,} folds and segments on {array.rows} x {array.columns} PEs"
        raise InputError(f"{problem}, more than the {MAX_SEGMENTS:,} of one run", fix="use a larger array or buffers, or a smaller GEMM")
