"""A machine's chip-level numbers at one core clock, as the integers that both engines count with.

Modelled: two clock domains, the core and everything given in ns or GB/s.
Not modelled: domain-crossing delays, clock changes inside a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from nmsim.arch.spec import GpuSpec
from nmsim.errors import InputError
from nmsim.rules.dram import RECIPROCAL_BITS, reciprocal
from nmsim.units import TICKS_PER_CYCLE, cycles_to_ticks, ns_to_ticks, rate_of, ticks_per_byte


@dataclass(frozen=True)
class ChipTiming:
    """Ticks (1/256 core cycle), bytes and counts; a `*_rate` is a server's fixed-point ticks per byte."""

    sms: int
    cta_launch: int
    port_rate: int
    write_port_rate: int
    partition_mask: int
    l2_rate: int
    """Of one partition."""
    l2_near: int
    l2_far: int
    handover: int
    """From the end of a slice of a split reduction to the start of one that waits for it."""
    l2_capacity: int
    """Of one partition."""
    l2_copies: int
    """1 where a partition keeps copies of what its SMs read from another one."""
    channels: int
    per_channel: int
    """Fixed-point 1 / channels, see `nmsim.rules.dram.reciprocal`."""
    interleave_shift: int
    row_shift: int
    """A DRAM row holds 2**row_shift interleaves of its channel."""
    bank_mask: int
    bus_rate: int
    """Of one channel's data bus."""
    controller: int
    column_access: int
    activate: int
    precharge: int
    row_active: int
    turnaround: int
    write_batch: int
    refresh_interval: int
    refresh: int
    ideal_memory: int
    """1 where operands land the tick they are asked for: the machine that `compute_cycles` is counted on."""

    def as_array(self) -> NDArray[np.int64]:
        """The same numbers in field order, for compiled code."""
        return np.array([getattr(self, name) for name in TIMING_INDEX], dtype=np.int64)


TIMING_INDEX = {field.name: index for index, field in enumerate(fields(ChipTiming))}
"""Position of each field in `ChipTiming.as_array()`."""


def chip_timing(spec: GpuSpec, clock_mhz: int, *, ideal_memory: bool = False) -> ChipTiming:
    """Resolve `spec` at `clock_mhz`: what is given in ns, GB/s or L2 cycles takes more core ticks at a faster clock."""
    dram, l2 = spec.dram, spec.l2
    if (dram.capacity_gib << 30) // dram.interleave_bytes * dram.channels >= 1 << RECIPROCAL_BITS:
        raise InputError(
            "capacity, channels and interleave are beyond what the address map can hold",
            path="dram",
            value=(dram.capacity_gib, dram.channels, dram.interleave_bytes),
            fix="raise interleave_bytes or lower channels or capacity_gib",
        )
    l2_cycles_to_ns = 1000 / l2.clock_mhz

    def ticks(nanoseconds: float) -> int:
        return ns_to_ticks(nanoseconds, clock_mhz)

    return ChipTiming(
        sms=spec.sm.count,
        cta_launch=cycles_to_ticks(spec.sm.cta_launch_cycles),
        port_rate=rate_of(TICKS_PER_CYCLE / spec.noc.sm_port_bytes_per_cycle),
        write_port_rate=rate_of(TICKS_PER_CYCLE / spec.noc.sm_write_bytes_per_cycle),
        partition_mask=l2.partitions - 1,
        l2_rate=ticks_per_byte(l2.bandwidth_gb_per_s / l2.partitions, clock_mhz),
        l2_near=ticks(l2.near_latency_cycles * l2_cycles_to_ns),
        l2_far=ticks(l2.far_latency_cycles * l2_cycles_to_ns),
        handover=0 if ideal_memory else ticks(spec.kernels.split_k_handover_ns),
        l2_capacity=l2.capacity_bytes // l2.partitions,
        l2_copies=int(l2.copies_far_blocks),
        channels=dram.channels,
        per_channel=reciprocal(dram.channels),
        interleave_shift=dram.interleave_bytes.bit_length() - 1,
        row_shift=max(0, (dram.row_bytes // dram.interleave_bytes).bit_length() - 1),
        bank_mask=dram.banks - 1,
        bus_rate=ticks_per_byte(dram.bandwidth_gb_per_s / dram.channels, clock_mhz),
        controller=ticks(dram.controller_ns),
        column_access=ticks(dram.cas_ns),
        activate=ticks(dram.row_to_column_ns),
        precharge=ticks(dram.precharge_ns),
        row_active=ticks(dram.row_active_ns),
        turnaround=ticks(dram.turnaround_ns),
        write_batch=dram.write_batch,
        refresh_interval=ticks(dram.refresh_interval_ns),
        refresh=ticks(dram.refresh_ns),
        ideal_memory=int(ideal_memory),
    )
