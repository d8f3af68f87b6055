"""The frozen specification of a machine that is one systolic array: data only, read from YAML by `nmsim.arch.load`.

The array is rows x columns of processing elements (PEs), one multiply-accumulate each per cycle. Words: A is the input
(M x K), B the filter (K x N), D the output; B may be N:M sparse along K, with any N and M.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from nmsim.arch.spec import Block, NonNegativeFloat, Positive, Rate
from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern

Dataflow = Literal["ws", "os", "is"]
"""Which operand stays in the PEs: the filter (weight-), the output, the input."""
Overlap = Literal["none", "fold", "full"]
"""How successive folds overlap: not at all (as SCALE-Sim), row by row, or PE by PE (docs/systolic.md)."""
Side = Annotated[int, Field(gt=0, le=1 << 14)]


class NmSpec(Block):
    """What the PEs' selectors can do with a compressed filter."""

    enabled: bool
    patterns: Literal["any"] | tuple[str, ...]
    """`any`, or the N:M patterns that the selectors hold."""
    input_width: Literal["any"] | Positive
    """Elements of A that enter each lane of the array in a cycle (`ws`, `os`: a row of PEs; `is`: a column, while it is loaded); `any`: as
    many as a kept position is selected from, whatever the pattern, which is SCALE-Sim's convention. A dense stream brings one."""

    @field_validator("patterns", mode="plain")
    @classmethod
    def _any_or_patterns(cls, value: object) -> Literal["any"] | tuple[str, ...]:
        if value == "any":
            return "any"
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise ValueError("must be `any` or a list of N:M patterns")
        try:
            return tuple(str(NMPattern.parse(text)) for text in value)
        except InputError as error:  # as a ValueError, so that the reader of the file adds the place
            raise ValueError(str(error)) from None

    @property
    def port_elements(self) -> int | None:
        """`input_width` as a number, None for any."""
        return None if self.input_width == "any" else self.input_width

    def held(self) -> tuple[NMPattern, ...] | None:
        """The patterns the array runs, none where `enabled` is false; None stands for any."""
        if not self.enabled:
            return ()
        return None if self.patterns == "any" else tuple(NMPattern.parse(text) for text in self.patterns)


class ArraySpec(Block):
    """The array and how a GEMM is laid on it."""

    rows: Side
    columns: Side
    dataflow: Dataflow
    overlap: Overlap
    nm: NmSpec


class BuffersSpec(Block):
    """On-chip buffers, each in two halves: one is streamed while the other is filled."""

    input_bytes: Positive
    """Of A, both halves together."""
    filter_bytes: Positive
    """Of B with its metadata, both halves together."""
    output_bytes: Positive
    """Of partial sums or finished D, both halves together."""


class SystolicDramSpec(Block):
    """DRAM behind the buffers: one queue, one rate, one latency. Times do not slow down with the array's clock."""

    bandwidth_gb_per_s: Rate
    latency_ns: NonNegativeFloat
    """From the start of a transfer to its first byte on chip."""


class EnginesSpec(Block):
    """Units beside the array that work on streams from and to DRAM: elements a cycle each."""

    top_n_elements_per_cycle: Rate
    """Elements that the top-N engine ranks, masks and compresses in a cycle (the passes of an N:M recipe)."""
    vector_flops_per_cycle: Rate
    """Element-wise arithmetic: weight update, normalisation, activation functions."""


class SystolicEnergySpec(Block):
    """Energy per action; static power is charged over time."""

    mac_pj: dict[str, NonNegativeFloat]
    """Per executed multiply-accumulate with the PE's registers and the hops between PEs, by element type."""
    metadata_code_pj: NonNegativeFloat
    """Selecting the input of one kept element."""
    buffer_pj_per_byte: NonNegativeFloat
    """On-chip buffers, read or write."""
    dram_pj_per_byte: NonNegativeFloat


class SystolicPowerSpec(Block):
    """Power that is burnt whatever the array does; there is no cap."""

    static_w: NonNegativeFloat


class SystolicSpec(Block):
    """A machine that is one systolic array with its buffers and DRAM."""

    schema_version: Literal["nmsim-arch/1"] = Field(alias="schema")
    name: str = Field(min_length=1, max_length=200)
    kind: Literal["systolic"]
    description: str = ""
    clock_mhz: Annotated[int, Field(gt=0, le=100_000)]
    array: ArraySpec
    buffers: BuffersSpec
    dram: SystolicDramSpec
    engines: EnginesSpec | None = None
    """Without them, passes and operators go at the rate of DRAM."""
    energy: SystolicEnergySpec
    power: SystolicPowerSpec

    @property
    def peak_macs_per_cycle(self) -> int:
        """Executed MACs per cycle of the whole array."""
        return self.array.rows * self.array.columns
