"""Random machines x kernels x problems for the chip level, as small printable values that build the real plan.

A failing example prints as a `Case(...)` that can be pasted back into a test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from nmsim.arch.spec import GpuSpec, MmaSpec
from nmsim.hw.mainloop import MainloopTicks
from nmsim.hw.timing import ChipTiming
from nmsim.mapping.candidates import Candidate, build_plan
from nmsim.mapping.convolution import lower_convolution
from nmsim.mapping.lower import lower_dense, lower_nm
from nmsim.mapping.plan import KernelPlan, MainloopKey
from nmsim.mapping.problem import Problem
from nmsim.mapping.stream import OCCUPANCY, plan_stream
from nmsim.mapping.tile_wise import lower_tile_wise
from nmsim.rules.dram import reciprocal
from nmsim.rules.fragments import fragments_of
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import rate_of
from nmsim.workload.catalogue import attention_gemms, conv_gemms, linear_gemms
from nmsim.workload.gemm import ConvGeometry
from nmsim.workload.trace import TileWisePlan

Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Linear:
    """GEMM `phase` (0 forward, 1 backward_data, 2 backward_weight) of a linear layer; `sparse` compresses that operand."""

    phase: int
    tokens: int
    inputs: int
    outputs: int
    dtype: str = "fp16"
    sparse: str = ""
    pattern: str = "2:4"

    def problem(self) -> Problem:
        gemm = linear_gemms("layer", self.tokens, self.inputs, self.outputs, self.dtype)[self.phase]
        return lower_nm(gemm, self.sparse, NMPattern.parse(self.pattern)) if self.sparse else lower_dense(gemm)


@dataclass(frozen=True)
class Attention:
    """One of the six batched products of attention."""

    product: int
    heads: int
    queries: int
    keys: int
    width: int

    def problem(self) -> Problem:
        return lower_dense(attention_gemms("layer", self.heads, self.queries, self.keys, self.width, "fp16")[self.product])


@dataclass(frozen=True)
class Convolution:
    """GEMM `phase` of a convolution, `pattern` compressing its weight ("" for dense)."""

    phase: int
    geometry: ConvGeometry
    pattern: str = ""

    def problem(self) -> Problem:
        gemm = conv_gemms("layer", self.geometry, "fp16")[self.phase]
        return lower_convolution(gemm, NMPattern.parse(self.pattern) if self.pattern else None)


@dataclass(frozen=True)
class TileWise:
    """GEMM `phase` of a linear layer pruned tile-wise: gathers, unequal tiles, and accumulating groups in backward_data."""

    phase: int
    tokens: int
    inputs: int
    outputs: int
    tile_width: int
    density: float
    seed: int

    def problem(self) -> Problem:
        rng = np.random.default_rng(self.seed)
        columns = rng.random(self.outputs) < self.density
        columns[0] = True
        tiles = -(-int(columns.sum()) // self.tile_width)
        rows = rng.random((tiles, self.inputs)) < self.density
        rows[:, 0] = True
        gemm = linear_gemms("layer", self.tokens, self.inputs, self.outputs, "fp16")[self.phase]
        return lower_tile_wise(gemm, TileWisePlan(self.tile_width, columns, rows))


@dataclass(frozen=True)
class Stream:
    """A memory-bound pass."""

    bytes_read: int
    bytes_written: int


@dataclass(frozen=True)
class Kernel:
    """A kernel template and the rate at which the SM level says it runs (`period`: fixed-point ticks per k-tile)."""

    tile: tuple[int, int, int]
    stages: int
    split_k: int
    raster_width: int
    block_bytes: int
    period: tuple[int, ...]
    fill: int
    drain: int
    copy: str = "async"
    exchange: int = 0
    accumulates: bool = False
    """The epilogues of all groups add to the output, not only those that the problem says."""
    stream_k_sms: int = 0
    """The last tiles are cut for so many SMs; 0: no tile is cut."""
    cluster: int = 1
    """CTAs that fetch a tile of one operand together."""


@dataclass(frozen=True)
class Case:
    """One launch on one machine; `built` is (plan, mainloop)."""

    timing: ChipTiming
    kernel: Kernel
    product: Linear | Attention | Convolution | TileWise | Stream
    warm: bool
    built: tuple[KernelPlan, MainloopTicks] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "built", (self._plan(), MainloopTicks(self.kernel.period, self.kernel.fill, self.kernel.drain, self.kernel.exchange))
        )

    @property
    def plan(self) -> KernelPlan:
        return self.built[0]

    @property
    def mainloop(self) -> MainloopTicks:
        return self.built[1]

    def _plan(self) -> KernelPlan:
        kernel, interleave = self.kernel, 1 << self.timing.interleave_shift
        if isinstance(self.product, Stream):
            return plan_stream("stream", self.product.bytes_read, self.product.bytes_written, 0, kernel.block_bytes, interleave)
        plan = kernel_plan(self.product.problem(), kernel, interleave)
        return replace(plan, accumulate=np.ones_like(plan.accumulate)) if kernel.accumulates else plan


def kernel_plan(problem: Problem, kernel: Kernel, interleave_bytes: int) -> KernelPlan:
    """The plan that `nmsim.mapping` builds for a problem and a kernel of any tile, however small."""
    pattern = "dense" if problem.pattern is None else str(problem.pattern)
    mma = MmaSpec(dtype=problem.dtype, shape=(8, 8, kernel.tile[2]), pattern=pattern, issue_interval_cycles=4.0, latency_cycles=8)
    key = MainloopKey("mma", problem.dtype, pattern, kernel.tile, kernel.tile[:2], kernel.stages, mma.shape, 0, copy=kernel.copy)
    split_k, cut = (1, True) if kernel.stream_k_sms else (kernel.split_k, False)
    candidate = Candidate(problem, key, fragments_of(key, mma), mma, split_k, len(kernel.period), "test", 0.0, stream_k=cut)
    spec = SimpleNamespace(
        sm=SimpleNamespace(count=kernel.stream_k_sms),
        kernels=SimpleNamespace(raster_width_for=lambda compressed: kernel.raster_width, cluster=kernel.cluster),
        l2=SimpleNamespace(block_bytes=kernel.block_bytes),
        dram=SimpleNamespace(interleave_bytes=interleave_bytes),
    )
    return build_plan(cast(GpuSpec, spec), candidate)


@dataclass(frozen=True)
class Scale:
    """How large random cases get: longest latency and slowest rate in ticks, SMs, tiles along (m, n, k), k-tiles in all."""

    latency: int
    ticks_per_byte: float
    sms: int
    tiles: tuple[int, int, int]
    k_tiles: int
    shortest_interleave_shift: int


MEDIUM = Scale(latency=60_000, ticks_per_byte=6.0, sms=9, tiles=(5, 5, 10), k_tiles=300, shortest_interleave_shift=5)
"""For the two engines, quick enough for every run of the tests: latencies up to 230 cycles."""
LARGE = Scale(latency=60_000, ticks_per_byte=6.0, sms=16, tiles=(10, 10, 20), k_tiles=2_000, shortest_interleave_shift=5)
"""For the two engines, taking its time."""
SMALL = Scale(latency=24, ticks_per_byte=0.12, sms=4, tiles=(4, 4, 5), k_tiles=100, shortest_interleave_shift=7)
"""For the time-stepped model, which walks every tick."""


@st.composite
def timings(draw: Draw, scale: Scale) -> ChipTiming:
    """Machines from balanced to absurd: an L2 below one block, one channel, one bank, no latency at all."""

    def ticks(share: float = 1.0) -> int:
        return int(draw(st.integers(0, max(1, int(scale.latency * share)))))

    def rate(share: float = 1.0) -> int:
        return rate_of(scale.ticks_per_byte * share * draw(st.integers(1, 1000)) / 1000)

    channels, near, interval = draw(st.integers(1, 8)), ticks(), 1 + 8 * ticks()
    return ChipTiming(
        sms=draw(st.integers(1, scale.sms)),
        cta_launch=ticks(),
        port_rate=rate(),
        write_port_rate=rate(),
        partition_mask=draw(st.sampled_from((0, 1, 3))),
        l2_rate=rate(),
        l2_near=near,
        l2_far=near + ticks(),
        handover=ticks(),
        l2_capacity=draw(st.sampled_from((256, 2048, 8192, 32_768, 1 << 20))),
        l2_copies=draw(st.sampled_from((0, 1))),
        channels=channels,
        per_channel=reciprocal(channels),
        interleave_shift=draw(st.integers(scale.shortest_interleave_shift, 8)),
        row_shift=draw(st.integers(0, 3)),
        bank_mask=draw(st.sampled_from((0, 1, 3, 15))),
        bus_rate=rate(channels),
        controller=ticks(),
        column_access=ticks(0.3),
        activate=ticks(0.3),
        precharge=ticks(0.3),
        row_active=ticks(0.6),
        turnaround=ticks(0.2),
        write_batch=draw(st.sampled_from((1, 2, 5, 32))),
        refresh_interval=interval,
        refresh=int(interval * draw(st.sampled_from((0, 0.05, 0.3)))),
        ideal_memory=draw(st.sampled_from((0,) * 9 + (1,))),
    )


@st.composite
def kernels(draw: Draw, scale: Scale) -> Kernel:
    """Small tiles, one to eight stages, some filled by synchronous copies, one to three resident CTAs, a rate for each number."""
    tile = draw(st.sampled_from(((8, 8, 16), (16, 16, 16), (16, 32, 16), (32, 16, 32), (32, 32, 16))))
    per_k_tile = st.integers(0, 400).map(lambda share: rate_of(scale.ticks_per_byte * tile[0] * tile[2] * share / 100))
    return Kernel(
        tile=tile,
        stages=draw(st.integers(1, 8)),
        split_k=1,
        raster_width=draw(st.integers(1, 4)),
        block_bytes=draw(st.sampled_from((1024, 2048, 4096))),
        period=tuple(draw(st.lists(per_k_tile, min_size=1, max_size=3))),
        fill=draw(st.integers(0, scale.latency)),
        drain=draw(st.integers(0, scale.latency)),
        copy=draw(st.sampled_from(("async", "async", "async", "sync"))),
        exchange=draw(st.sampled_from((0, 1))) * draw(st.integers(0, scale.latency)),
        cluster=draw(st.sampled_from((1, 1, 2, 3))),
    )


@st.composite
def extents(draw: Draw, scale: Scale, tile: tuple[int, int, int]) -> tuple[int, int, int]:
    """(m, n, k) in whole tiles or a little less."""
    sizes = []
    for most, length in zip(scale.tiles, tile, strict=True):
        cut = draw(st.sampled_from((0, 0, 1, length // 2, length - 1)))
        sizes.append(draw(st.sampled_from(range(1, most + 1))) * length - cut)
    return sizes[0], sizes[1], sizes[2]


@st.composite
def linear_products(draw: Draw, scale: Scale, tile: tuple[int, int, int], operands: tuple[str, ...] = ("",)) -> Linear:
    """All three phases, so both storage orders; dense, or with one of `operands` compressed."""
    phase, (m, n, k) = draw(st.integers(0, 2)), draw(extents(scale, tile))
    tokens, inputs, outputs = ((m, k, n), (m, n, k), (k, n, m))[phase]
    sparse, dtype = draw(st.sampled_from(operands)), draw(st.sampled_from(("fp16", "int8", "fp32")))
    return Linear(phase, tokens, inputs, outputs, dtype, sparse, draw(st.sampled_from(("2:4", "1:4", "1:2", "2:8", "4:8"))))


@st.composite
def tile_wise_products(draw: Draw, scale: Scale, tile: tuple[int, int, int]) -> TileWise:
    """Gathers in all three phases; narrow tiles, so that several groups add to one output."""
    m, n, k = draw(extents(scale, tile))
    width = draw(st.sampled_from((tile[1] // 2, tile[1], 2 * tile[1])))
    return TileWise(draw(st.integers(0, 2)), m, k, n, width, draw(st.sampled_from((0.25, 0.5, 0.75))), draw(st.integers(0, 99)))


@st.composite
def attention_products(draw: Draw, scale: Scale, tile: tuple[int, int, int]) -> Attention:
    """A few heads."""
    queries, keys, width = draw(extents(scale, tile))
    return Attention(draw(st.integers(0, 5)), draw(st.integers(1, 3)), queries, keys, width)


@st.composite
def conv_products(draw: Draw, scale: Scale, tile: tuple[int, int, int]) -> Convolution:
    """Strides, padding, dilation, groups; sizes that leave a pixel or two; channels within a block's width and beyond it."""
    groups = draw(st.sampled_from((1, 1, 2)))
    kernel_h, kernel_w = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 2))
    reach = dilation * (max(kernel_h, kernel_w) - 1) + 1
    channels = draw(st.sampled_from((24, 24, 200)))
    size = st.integers(reach, 9 if channels < 100 else 4 + reach)
    geometry = ConvGeometry(
        batch=draw(st.integers(1, 2)),
        height=draw(size),
        width=draw(size),
        in_channels=groups * draw(st.integers(channels // 8, channels)),
        out_channels=groups * draw(st.integers(channels // 8, channels)),
        kernel_h=kernel_h,
        kernel_w=kernel_w,
        stride_h=draw(st.integers(1, 2)),
        stride_w=draw(st.integers(1, 2)),
        pad_h=draw(st.integers(0, 1)),
        pad_w=draw(st.integers(0, 1)),
        dilation_h=dilation,
        dilation_w=dilation,
        groups=groups,
    )
    return Convolution(draw(st.integers(0, 2)), geometry, draw(st.sampled_from(("", "", "2:4"))))


def streams(scale: Scale, tile: tuple[int, int, int]) -> st.SearchStrategy[Stream]:
    """Mostly reading or mostly writing."""
    nbytes = st.sampled_from(range(1, scale.k_tiles * 600, 777))
    return st.builds(Stream, nbytes, nbytes)


PRODUCTS: dict[str, Callable[[Scale, tuple[int, int, int]], st.SearchStrategy[Any]]] = {
    "dense": linear_products,
    "compressed": lambda scale, tile: linear_products(scale, tile, ("a", "b")),
    "attention": attention_products,
    "convolution": conv_products,
    "tile-wise": tile_wise_products,
    "stream": streams,
}
"""What a kernel may compute, each with a random draw of it."""


@st.composite
def cases(draw: Draw, scale: Scale, kind: str) -> Case:
    """Any launch of one kind, of at most `scale.k_tiles` k-tiles."""
    timing, kernel, warm = draw(timings(scale)), draw(kernels(scale)), draw(st.booleans())
    product = draw(PRODUCTS[kind](scale, kernel.tile))
    if isinstance(product, Stream):
        case = Case(timing, replace(kernel, period=kernel.period[:1] * OCCUPANCY), product, warm)
    else:
        groups = product.problem().groups
        assume(groups)
        most = min(-(-group.k // kernel.tile[2]) for group in groups)
        split = draw(st.sampled_from((1, 1, 2, 3, 4)))
        cut_for = draw(st.sampled_from((0, 0, 0, timing.sms)))
        kernel = replace(kernel, split_k=min(split, most), accumulates=draw(st.booleans()), stream_k_sms=cut_for)
        case = Case(timing, kernel, product, warm)
    assume(case.plan.k_tiles <= scale.k_tiles)
    return case


def any_cases(scale: Scale) -> st.SearchStrategy[Case]:
    """Any launch at all."""
    return st.one_of([cases(scale, kind) for kind in PRODUCTS])
