"""Bytes that a GEMM on a systolic array moves: sizes of tiles, what stays on chip, and the totals a run is held against.

Kept on chip: a streamed operand that fits its buffer is fetched once; `os` keeps the rows of A on the array for all
columns of D where they fit half the input buffer. Partial sums of `ws` and `is` stay where the outputs of a fold fit half
the output buffer; else each fold but the first reads them back from DRAM and each but the last writes them there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nmsim.arch.systolic import SystolicSpec
from nmsim.rules.systolic import ONE_A_CYCLE, Ratio, input_cycles, spatial
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import element_bits
from nmsim.workload.gemm import Gemm

PARTIAL_BITS = 32
"""Partial sums are FP32 (or INT32)."""


@dataclass(frozen=True)
class SystolicShape:
    """A GEMM beside the array it runs on, with the sizes that both planned and fetched bytes follow from."""

    spec: SystolicSpec
    gemm: Gemm
    pattern: NMPattern | None

    @property
    def k(self) -> int:
        """Reduction that the array runs: compressed where B is."""
        return self.gemm.k if self.pattern is None else self.pattern.compressed_k(self.gemm.k)

    @property
    def a_bits(self) -> int:
        """Storage of an element of A."""
        return element_bits(self.gemm.dtype)

    @property
    def out_bits(self) -> int:
        """Storage of an element of D."""
        return element_bits(self.gemm.out_dtype)

    @property
    def code_bits(self) -> int:
        """Metadata of a kept element of B: its position in the group."""
        return 0 if self.pattern is None else (self.pattern.m - 1).bit_length()

    @property
    def b_bits(self) -> int:
        """Storage of a kept element of B with its metadata."""
        return element_bits(self.gemm.dtype) + self.code_bits

    @property
    def input_cycles(self) -> Ratio:
        """Cycles that the elements of A for one kept position take to enter."""
        return ONE_A_CYCLE if self.pattern is None else input_cycles(self.pattern.n, self.pattern.m, self.spec.array.nm.port_elements)

    def span(self, start: int, stop: int) -> int:
        """Elements of a row of A that compressed positions [start, stop) may select from: whole groups of the dense k."""
        if self.pattern is None:
            return stop - start
        kept, group = self.pattern.n, self.pattern.m
        return min(self.gemm.k, -(-stop // kept) * group) - start // kept * group

    @property
    def stream_kept(self) -> bool:
        """True where the operand that every outer step streams again (A of `ws`, else B) stays in its buffer.

        The members of a batch are different matrices: the next is fetched while the present is in use, so that half is left.
        """
        gemm, buffers = self.gemm, self.spec.buffers
        ws = self.spec.array.dataflow == "ws"
        needed = bytes_of(gemm.m * gemm.k * self.a_bits if ws else gemm.n * self.k * self.b_bits)
        return needed <= (buffers.input_bytes if ws else buffers.filter_bytes) // (2 if gemm.l > 1 else 1)

    def rows_kept(self, rows: int) -> bool:
        """True where `os` keeps these rows of A in half the input buffer while it walks the columns of D."""
        return bytes_of(rows * self.gemm.k * self.a_bits) <= self.spec.buffers.input_bytes // 2

    def spills(self, columns: int) -> bool:
        """True where the partial sums of a fold over `columns` exceed half the output buffer (`ws` and `is`)."""
        streamed = spatial(self.spec.array.dataflow, self.gemm.m, self.gemm.n, self.k)[2]
        return bytes_of(streamed * columns * PARTIAL_BITS) > self.spec.buffers.output_bytes // 2


@dataclass(frozen=True)
class SystolicTraffic:
    """Planned totals of one run."""

    dram_read_bytes: int
    dram_write_bytes: int
    array_bytes: int
    """Between buffers and array: operands in, partial sums in and out, outputs out."""
    metadata_codes: int
    """Codes that enter the array with elements of B."""

    @property
    def buffer_bytes(self) -> int:
        """Read from and written to the buffers on either side."""
        return self.dram_read_bytes + self.dram_write_bytes + self.array_bytes


def bytes_of(bits: int) -> int:
    """Whole bytes that hold `bits`."""
    return -(-bits // 8)


def planned_traffic(s: SystolicShape) -> SystolicTraffic:
    """Totals from shapes alone: fold kinds times how often each occurs."""
    return _output_traffic(s) if s.spec.array.dataflow == "os" else _stationary_traffic(s)


def _stationary_traffic(s: SystolicShape) -> SystolicTraffic:
    array, gemm = s.spec.array, s.gemm
    ws = array.dataflow == "ws"
    _, width, length = spatial(array.dataflow, gemm.m, gemm.n, s.k)
    folds_k, outer = -(-s.k // array.rows), -(-width // array.columns)
    k_ranges = [(start, min(start + array.rows, s.k)) for start in range(0, s.k, array.rows)]
    vectors = [length * (s.span(a, b) * s.a_bits if ws else (b - a) * s.b_bits) for a, b in k_ranges]
    streamed_once = sum(map(bytes_of, vectors))
    if s.stream_kept and ws:  # a group that two folds share is fetched once
        unique = [length * (s.span(0, b) - s.span(0, a)) * s.a_bits for a, b in k_ranges]
        streamed = sum(map(bytes_of, unique))
    else:
        streamed = streamed_once * (1 if s.stream_kept else outer)
    read = written = array_bytes = 0
    for columns, times in pieces(width, array.columns):
        tiles = sum(bytes_of(columns * ((b - a) * s.b_bits if ws else s.span(a, b) * s.a_bits)) for a, b in k_ranges)
        partials, outputs = bytes_of(length * columns * PARTIAL_BITS), bytes_of(length * columns * s.out_bits)
        spilled = (folds_k - 1) * partials * s.spills(columns)
        read += times * (tiles + spilled)
        written += times * (outputs + spilled)
        array_bytes += times * (tiles + 2 * (folds_k - 1) * partials + outputs)
    codes = s.k * gemm.n * (1 if ws else outer) if s.pattern is not None else 0
    array_bytes += outer * streamed_once
    return SystolicTraffic(gemm.l * (read + streamed), gemm.l * written, gemm.l * array_bytes, gemm.l * codes)


def _output_traffic(s: SystolicShape) -> SystolicTraffic:
    array, gemm = s.spec.array, s.gemm
    row_folds, column_folds = -(-gemm.m // array.rows), -(-gemm.n // array.columns)
    panels_b = sum(times * bytes_of(columns * s.k * s.b_bits) for columns, times in pieces(gemm.n, array.columns))
    read = panels_b * (1 if s.stream_kept else row_folds)
    array_bytes = panels_b * row_folds
    written = 0
    for rows, times in pieces(gemm.m, array.rows):
        panel = bytes_of(rows * gemm.k * s.a_bits)
        read += times * panel * (1 if s.rows_kept(rows) else column_folds)
        array_bytes += times * panel * column_folds
        written += times * sum(often * bytes_of(rows * columns * s.out_bits) for columns, often in pieces(gemm.n, array.columns))
    codes = s.k * gemm.n * row_folds if s.pattern is not None else 0
    return SystolicTraffic(gemm.l * read, gemm.l * written, gemm.l * (array_bytes + written), gemm.l * codes)


def pieces(length: int, size: int) -> Iterator[tuple[int, int]]:
    """(size of a piece, how many there are of it) of `length` cut into pieces of `size`."""
    whole, rest = divmod(length, size)
    if whole:
        yield size, whole
    if rest:
        yield rest, 1
