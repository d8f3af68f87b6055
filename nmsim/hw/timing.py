"""A machine's chip-level numbers at one core clock, as the integers that both engines count with."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from nmsim.arch.spec import GpuSpec
from nmsim.units import TICKS_PER_CYCLE, cycles_to_ticks, ns_to_ticks, ticks_per_byte


@dataclass(frozen=True)
class ChipTiming:
    """Ticks (1/256 core cycle), bytes and counts; `*_num / *_den` is a server's ticks per byte."""

    sms: int
    cta_launch: int
    port_num: int
    port_den: int
    write_port_num: int
    write_port_den: int
    partitions: int
    l2_num: int
    """Ticks per byte of one partition."""
    l2_den: int
    l2_near: int
    l2_far: int
    l2_capacity: int
    channels: int
    interleave: int
    chunks_per_row: int
    banks: int
    bus_num: int
    """Ticks per byte of one channel's data bus."""
    bus_den: int
    controller: int
    column_access: int
    activate: int
    precharge: int
    row_active: int
    turnaround: int
    refresh_interval: int
    refresh: int
    ideal_memory: int
    """1 where operands land the tick they are asked for: the machine that `compute_cycles` is counted on."""

    def as_array(self) -> NDArray[np.int64]:
        """The same numbers in field order, for compiled code."""
        return np.array(astuple(self), dtype=np.int64)


TIMING_INDEX = {field.name: index for index, field in enumerate(fields(ChipTiming))}
"""Position of each field in `ChipTiming.as_array()`."""


def _per_core_cycle(bytes_per_cycle: float) -> tuple[int, int]:
    return TICKS_PER_CYCLE * 1000, round(bytes_per_cycle * 1000)


def chip_timing(spec: GpuSpec, clock_mhz: int, *, ideal_memory: bool = False) -> ChipTiming:
    """Resolve `spec` at `clock_mhz`: what is given in ns, GB/s or L2 cycles takes more core ticks at a faster clock."""
    dram, l2 = spec.dram, spec.l2
    port = _per_core_cycle(spec.noc.sm_port_bytes_per_cycle)
    write = _per_core_cycle(spec.noc.sm_write_bytes_per_cycle)
    l2_rate = ticks_per_byte(l2.bandwidth_gb_per_s / l2.partitions, clock_mhz)
    bus_rate = ticks_per_byte(dram.bandwidth_gb_per_s / dram.channels, clock_mhz)
    l2_cycles_to_ns = 1000 / l2.clock_mhz

    def ticks(nanoseconds: float) -> int:
        return ns_to_ticks(nanoseconds, clock_mhz)

    return ChipTiming(
        sms=spec.sm.count,
        cta_launch=cycles_to_ticks(spec.sm.cta_launch_cycles),
        port_num=port[0],
        port_den=port[1],
        write_port_num=write[0],
        write_port_den=write[1],
        partitions=l2.partitions,
        l2_num=l2_rate[0],
        l2_den=l2_rate[1],
        l2_near=ticks(l2.near_latency_cycles * l2_cycles_to_ns),
        l2_far=ticks(l2.far_latency_cycles * l2_cycles_to_ns),
        l2_capacity=l2.capacity_bytes,
        channels=dram.channels,
        interleave=dram.interleave_bytes,
        chunks_per_row=max(1, dram.row_bytes // dram.interleave_bytes),
        banks=dram.banks,
        bus_num=bus_rate[0],
        bus_den=bus_rate[1],
        controller=ticks(dram.controller_ns),
        column_access=ticks(dram.cas_ns),
        activate=ticks(dram.row_to_column_ns),
        precharge=ticks(dram.precharge_ns),
        row_active=ticks(dram.row_active_ns),
        turnaround=ticks(dram.turnaround_ns),
        refresh_interval=ticks(dram.refresh_interval_ns),
        refresh=ticks(dram.refresh_ns),
        ideal_memory=int(ideal_memory),
    )
