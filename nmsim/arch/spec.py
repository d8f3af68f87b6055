"""The frozen, unit-suffixed specification of a GPU-like machine: data only, read from YAML by `nmsim.arch.load`.

Every block carries `sources`, a text for each of its keys ('*' covers the rest): datasheet, paper and table,
microbenchmark, fit to named rows, or assumption. `nmsim arch check` refuses a value without one.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nmsim.errors import InputError
from nmsim.sparsity.encoding import GroupCode, group_code
from nmsim.sparsity.pattern import NMPattern

Positive = Annotated[int, Field(gt=0, le=2**40)]
NonNegative = Annotated[int, Field(ge=0, le=2**40)]
PositiveFloat = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=1e-3, le=1, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=1e-3, le=1e12, allow_inf_nan=False)]
"""Something per cycle or second: not so little that the ticks of one byte leave the range of 64 bits."""
Megahertz = Annotated[int, Field(ge=1, le=100_000)]
"""Clocks are counted step by step."""


class Block(BaseModel):
    """A part of a machine: strict types, no unknown keys, immutable, each key with a source."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True)

    sources: dict[str, str] = Field(default_factory=dict)


class ClockSpec(Block):
    """Core clock: the boost clock and the steps a power cap may lower it by."""

    boost_mhz: Megahertz
    min_mhz: Megahertz
    step_mhz: Megahertz
    sustained_mhz: Megahertz | None = None
    """Highest clock in a sequence of matrix kernels, however little power one of them draws: power management is slower than
    kernels are. None: the boost clock."""

    @property
    def top_mhz(self) -> int:
        """The clock that kernels run at where the power limit allows it."""
        return self.boost_mhz if self.sustained_mhz is None else self.sustained_mhz

    @model_validator(mode="after")
    def _ordered(self) -> ClockSpec:
        if self.sustained_mhz is not None and not self.min_mhz <= self.sustained_mhz <= self.boost_mhz:
            raise ValueError(f"sustained_mhz must lie between min_mhz and boost_mhz ({self.boost_mhz}), got {self.sustained_mhz}")
        if self.min_mhz > self.boost_mhz:
            raise ValueError(f"min_mhz must not exceed boost_mhz ({self.boost_mhz}), got {self.min_mhz}")
        return self


class SmSpec(Block):
    """Streaming multiprocessors: how many, and what bounds the CTAs and warps resident on one."""

    count: Positive
    max_warps: Positive
    max_ctas: Positive
    registers: Positive
    """32-bit registers per SM."""
    shared_memory_bytes: Positive
    shared_memory_per_cta_bytes: Positive
    shared_memory_reserved_per_cta_bytes: NonNegative
    schedulers: Positive
    """Warp schedulers per SM, each issuing one warp instruction per cycle."""
    fp32_fma_per_cycle: Positive
    """CUDA-core FP32 FMA per SM per cycle."""
    cta_launch_cycles: NonNegative
    """From a free slot to the first instruction of the next CTA."""


class SharedMemorySpec(Block):
    """The banked shared memory of one SM."""

    banks: Positive
    bank_bytes: Positive
    latency_cycles: NonNegative
    """From the issue of an ldmatrix to its data in registers, unloaded."""


class MmaSpec(Block):
    """One matrix instruction of one tensor core: dense, or with an N:M operand A (k then counts the dense reduction)."""

    dtype: str
    shape: tuple[Positive, Positive, Positive]
    """(m, n, k)."""
    pattern: str = "dense"
    issue_interval_cycles: PositiveFloat
    """Cycles between two such instructions on one tensor core."""
    latency_cycles: Positive
    """From issue to the earliest dependent issue."""
    warps: Annotated[int, Field(ge=1, le=8)] = 1
    """Warps that run it together, each an equal share of its m on a tensor core of its own: 1 (mma.sync), 4 (wgmma)."""
    reads_shared_memory: bool = False
    """Whether A and B come straight from shared memory while it runs, issued asynchronously, and not through registers."""
    accumulator: Literal["fp32", "int32", "fp16"] | None = None
    """Type of the accumulators; as wide as the element type needs (FP32, INT32) where it is left out. Kernels use no narrower ones."""
    index_bits: Annotated[int, Field(ge=1, le=8)] | None = None
    """Bits the instruction stores for the position of a kept element; as few as the pattern needs where it is left out."""

    @field_validator("pattern")
    @classmethod
    def _dense_or_nm(cls, text: str) -> str:
        if text != "dense":
            try:
                NMPattern.parse(text)
            except InputError as error:  # as a ValueError, so that the reader of the file adds the place
                raise ValueError(str(error)) from None
        return text

    @property
    def wide_accumulator(self) -> str:
        """The accumulator type that a GEMM of this element type uses."""
        return "int32" if self.dtype.startswith("int") else "fp32"

    @property
    def accumulates_wide(self) -> bool:
        """Whether a GEMM may use the instruction: its accumulators lose nothing."""
        return self.accumulator in (None, self.wide_accumulator)

    @property
    def nm(self) -> NMPattern | None:
        """The N:M pattern of operand A, None for a dense instruction."""
        return None if self.pattern == "dense" else NMPattern.parse(self.pattern)

    @property
    def macs_per_cycle(self) -> float:
        """Dense-equivalent MACs per cycle of one tensor core."""
        m, n, k = self.shape
        return m * n * k / (self.warps * self.issue_interval_cycles)


class DecoderSpec(Block):
    """Metadata decoding in front of the selector of each tensor core."""

    encoding: Literal["index", "bitmap", "combinatorial"] = "index"
    """What a code is: `index`, the position of one kept element; `bitmap` and `combinatorial`, one code for a whole group."""
    codes_per_cycle: Rate
    """Codes one tensor core decodes in a cycle."""
    selector_width: Positive | None = None
    """Elements of operand B that the selector of a kept element chooses from in one turn; a wider group takes several turns of an
    issue interval each. As wide as the widest group where it is left out."""
    latency_cycles: NonNegative
    """Added by decoder and selector to the latency of an instruction with a compressed operand."""

    def selector_turns(self, group: int) -> int:
        """Turns in which operand B passes the selector for groups of `group` elements."""
        return 1 if self.selector_width is None else -(-group // self.selector_width)


class TensorCoreSpec(Block):
    """The tensor cores of one SM and the instructions they run."""

    per_sm: Positive
    mma: tuple[MmaSpec, ...] = Field(min_length=1)
    decoder: DecoderSpec
    register_read_bytes_per_cycle: Rate
    """Operand bytes per cycle the register file gives one tensor core."""
    compressible_only_k_contiguous: tuple[str, ...] = ()
    """Element types that the hardware cannot transpose on load: another layout pays for a transposed copy."""


class NocSpec(Block):
    """SM to L2: each SM's own port."""

    sm_port_bytes_per_cycle: Rate
    """Bytes per core cycle an SM may receive."""
    sm_write_bytes_per_cycle: Rate
    """Bytes per core cycle an SM may send (epilogue)."""


class L1Spec(Block):
    """An SM's L1 as a kernel without shared memory finds it; only the pointer chase passes through it."""

    capacity_bytes: Positive
    line_bytes: Positive
    latency_cycles: Positive
    """From a dependent load to the next, hit."""


class L2Spec(Block):
    """The shared L2: capacity, partitions, rate and latency in its own clock."""

    capacity_bytes: Positive
    partitions: Annotated[int, Field(ge=1, le=16)]
    slices_per_partition: Positive
    bytes_per_cycle_per_slice: Positive
    clock_mhz: Positive
    sustained_fraction: Fraction
    """Share of slices x bytes per cycle that a perfectly spread stream sustains."""
    near_latency_cycles: Positive
    """L2 cycles from an SM's request to the data, hit in its own partition."""
    far_latency_cycles: Positive
    """The same for a hit in another partition."""
    copies_far_blocks: bool = False
    """Whether a partition keeps a copy of what its SMs read from another one: near from then on, at the price of room."""
    block_bytes: Annotated[int, Field(ge=1024, le=1 << 20)]
    """Granularity of the model's look-ups: a byte range of a stored tensor."""

    @property
    def bandwidth_gb_per_s(self) -> float:
        """Sustained bandwidth of all partitions together."""
        peak = self.partitions * self.slices_per_partition * self.bytes_per_cycle_per_slice * self.clock_mhz / 1000
        return peak * self.sustained_fraction


class DramSpec(Block):
    """DRAM channels with banks and open rows; times in ns, so that they do not slow down with the core clock."""

    capacity_gib: Positive
    channels: Annotated[int, Field(ge=1, le=256)]
    bandwidth_gb_per_s: Rate
    """Pin bandwidth of all channels together."""
    interleave_bytes: Annotated[int, Field(ge=32, le=65536)]
    """Consecutive bytes on one channel, and the size of one access."""
    banks: Annotated[int, Field(ge=1, le=256)]
    """Banks per channel."""
    row_bytes: Annotated[int, Field(ge=256, le=65536)]
    controller_ns: NonNegativeFloat
    """Fixed path from an L2 miss to the channel and back, beside the row and bus times."""
    cas_ns: PositiveFloat
    row_to_column_ns: PositiveFloat
    precharge_ns: PositiveFloat
    row_active_ns: PositiveFloat
    """tRAS: least time from activate to precharge."""
    turnaround_ns: NonNegativeFloat
    """Bus idle between a read and a write."""
    write_batch: Annotated[int, Field(ge=1, le=4096)]
    """Writes a channel gathers before it turns its bus around to drain them."""
    refresh_interval_ns: PositiveFloat
    """tREFI; each channel stops for `refresh_ns` once in it."""
    refresh_ns: NonNegativeFloat


class TileSpec(Block):
    """One kernel template of the library: CTA tile, warp tile (in the kernel's frame, A = the compressed operand), stages."""

    cta: tuple[Positive, Positive, Positive]
    """(m, n, k in bytes of a dense operand row: 64 or 128), so that one row serves every element type."""
    warp: tuple[Positive, Positive]
    stages: Annotated[int, Field(ge=1, le=12)]
    layout: Literal["swizzled", "padded", "linear", "permuted"] = "swizzled"
    """How operand tiles lie in shared memory: free of bank conflicts, or not."""
    copy_path: Annotated[Literal["async", "sync"] | None, Field(alias="copy")] = None
    """How operands reach shared memory, where this kernel does otherwise than the library (`operand_copy`)."""
    fragments: Literal["prefetched", "reloaded"] = "prefetched"
    """Loaded once and a k-step ahead, or for each row of MMAs just before it."""
    registers: Annotated[int, Field(ge=1, le=255)] | None = None
    """Of one thread, accumulators included; accumulators and `registers_per_thread` where it is left out."""
    dtypes: tuple[str, ...] = ()
    """Element types the library has this kernel for; none: all."""
    instructions: Literal["any", "warp", "warpgroup"] = "any"
    """Which instructions it is built on: a warp's own, a warpgroup's, or the fastest that divides the tile."""


class KernelsSpec(Block):
    """The GEMM library the machine is given: what tiles exist, how far K is split, how CTAs are ordered."""

    tiles: tuple[TileSpec, ...] = Field(min_length=1)
    max_split_k: Annotated[int, Field(ge=1, le=64)]
    raster_width: Positive
    """CTA columns of one swizzled raster band."""
    registers_per_thread: Positive
    """Registers a thread needs beside its accumulators."""
    split_k_handover_ns: NonNegativeFloat
    """From the end of a slice of a split reduction to the start of one that waits for its sums."""
    split_k_margin: NonNegativeFloat
    """A split reduction is chosen only where it is faster by more than this share of its time."""
    cluster: Annotated[int, Field(ge=1, le=16)] = 1
    """CTAs of a thread-block cluster, which fetch the larger of the two operand tiles together (multicast)."""
    stream_k: bool = False
    """Whether the library also has stream-K kernels, which cut the last tiles of a launch so that all SMs end together."""
    max_resident_ctas: Positive | None = None
    """CTAs of one kernel an SM holds at most, where the library's kernels are built for fewer than would fit."""
    operand_copy: Literal["async", "sync"] = "async"
    """How operands reach shared memory: `async` past the registers (cp.async, TMA), or `sync`: loaded and stored by the warps."""
    nm_tiles: tuple[TileSpec, ...] = ()
    """Templates of the N:M kernels, where their library has others than the dense one; none: the same."""
    nm_search: bool = True
    """Whether the library's search picks the N:M kernel; else it is the one of `nm_default_tile`."""
    nm_default_tile: NonNegative = 0
    """Position in `nm_tiles` of the kernel that runs where nobody searches."""
    nm_raster_width: Positive | None = None
    """Band of the N:M kernels' raster, where it differs; 1 walks along the compressed operand."""

    def tiles_for(self, *, compressed: bool) -> tuple[TileSpec, ...]:
        """Templates of dense kernels, or of those with a compressed operand."""
        if not (compressed and self.nm_tiles):
            return self.tiles
        return self.nm_tiles if self.nm_search else (self.nm_tiles[self.nm_default_tile],)

    def reluctance(self, split_k: int) -> float:
        """Factor on the time of a kernel of `split_k` slices when kernels are compared."""
        return 1 + self.split_k_margin if split_k > 1 else 1.0

    def raster_width_for(self, *, compressed: bool) -> int:
        """CTA columns of a raster band of dense kernels, or of those with a compressed operand."""
        return self.nm_raster_width if compressed and self.nm_raster_width is not None else self.raster_width


class LaunchSpec(Block):
    """Host-side costs of a kernel, outside its cycles."""

    kernel_us: NonNegativeFloat
    nm_extra_us: NonNegativeFloat
    """More for a kernel with a compressed operand."""


class EnergySpec(Block):
    """Energy per action; static power is charged over time."""

    mac_pj: dict[str, NonNegativeFloat]
    """Per executed multiply-accumulate on the tensor cores, by element type, operands from registers included."""
    cuda_core_flop_pj: NonNegativeFloat
    metadata_code_pj: NonNegativeFloat
    """Decode and select, per kept element."""
    shared_memory_pj_per_byte: NonNegativeFloat
    l2_pj_per_byte: NonNegativeFloat
    """L2 array and the wires to the SM."""
    dram_pj_per_byte: NonNegativeFloat
    dram_activate_pj: NonNegativeFloat
    operand_values: str = "normal"
    """What the operands hold: a key of `switching_activity`."""
    switching_activity: dict[str, PositiveFloat] = Field(default={"normal": 1.0})
    """Energy of MACs, shared memory and L2 by what the operands hold, over that with normally distributed values."""

    @model_validator(mode="after")
    def _known_values(self) -> EnergySpec:
        if self.operand_values not in self.switching_activity:
            known = ", ".join(sorted(self.switching_activity))
            raise ValueError(f"operand_values must be one of switching_activity ({known}), got {self.operand_values!r}")
        return self


class PowerSpec(Block):
    """The board: its limit, what it burns while idle, and how the chip's supply voltage rises with its clock."""

    board_limit_w: PositiveFloat
    static_w: NonNegativeFloat
    """Constant and leakage power, clock-independent."""
    flat_voltage_mhz: Positive | None = None
    """Up to this clock the voltage is the lowest one, at which the energy costs hold. None: at every clock."""
    voltage_rise_per_ghz: Annotated[float, Field(ge=0, le=10)] = 0.0
    """What a GHz above that clock adds to the voltage, over the lowest one."""

    def switching_energy_ratio(self, clock_mhz: float) -> float:
        """Joules of one switching event at this clock over those at the lowest voltage: the square of the voltages' ratio."""
        if self.flat_voltage_mhz is None or clock_mhz <= self.flat_voltage_mhz:
            return 1.0
        return (1 + self.voltage_rise_per_ghz * (clock_mhz - self.flat_voltage_mhz) / 1000) ** 2


class GpuSpec(Block):
    """A GPU-like machine with sparse tensor cores."""

    schema_version: Literal["nmsim-arch/1"] = Field(alias="schema")
    name: str = Field(min_length=1, max_length=200)
    kind: Literal["gpu"]
    description: str = ""
    clock: ClockSpec
    sm: SmSpec
    shared_memory: SharedMemorySpec
    tensor_core: TensorCoreSpec
    noc: NocSpec
    l1: L1Spec | None = None
    l2: L2Spec
    dram: DramSpec
    kernels: KernelsSpec
    launch: LaunchSpec
    energy: EnergySpec
    power: PowerSpec

    @property
    def wide_mma(self) -> tuple[MmaSpec, ...]:
        """The instructions that a GEMM may use: those with wide accumulators."""
        return tuple(mma for mma in self.tensor_core.mma if mma.accumulates_wide)

    def metadata_code(self, dtype: str, pattern: NMPattern) -> GroupCode:
        """How this machine writes down the kept positions of a group of `pattern` in an operand of `dtype`."""
        stored = {mma.index_bits for mma in self.tensor_core.mma if mma.dtype == dtype and mma.nm == pattern}
        return group_code(pattern, self.tensor_core.decoder.encoding, next(iter(stored), None))

    def peak_macs_per_cycle(self, dtype: str, pattern: NMPattern | None = None) -> float:
        """Dense-equivalent MACs per core cycle of the whole machine, 0 where no instruction serves the pair."""
        rates = [mma.macs_per_cycle for mma in self.wide_mma if mma.dtype == dtype and mma.nm == pattern]
        return max(rates, default=0.0) * self.tensor_core.per_sm * self.sm.count
