"""Units of time and size: the only place where one is turned into another.

The SM level counts whole core cycles. The chip level counts integer ticks, 256 to a core cycle, so that
memory, which does not slow down with the core clock, keeps its rate at every clock.
"""

from __future__ import annotations

TICKS_PER_CYCLE = 256
"""Chip-level ticks in one core cycle."""

RATE_BITS = 20
"""Fraction bits of a server's fixed-point rate; the remainder is carried, so nothing is rounded per request."""

BITS_PER_ELEMENT = {
    "fp32": 32,
    "tf32": 32,
    "int32": 32,
    "fp16": 16,
    "bf16": 16,
    "int8": 8,
    "fp8": 8,
    "int4": 4,
}
"""Storage bits of each element type a trace or a machine may name (TF32 is stored as 32 bits)."""


def element_bits(dtype: str) -> int:
    """Storage bits of one element of `dtype`; KeyError for a type nmsim does not know."""
    return BITS_PER_ELEMENT[dtype]


def cycles_to_ticks(cycles: float) -> int:
    """Core cycles -> chip ticks, rounded to the nearest tick."""
    return round(cycles * TICKS_PER_CYCLE)


def ns_to_ticks(nanoseconds: float, clock_mhz: int) -> int:
    """Wall time -> chip ticks at a core clock, rounded up: a device is never faster than its datasheet."""
    exact = nanoseconds * clock_mhz * TICKS_PER_CYCLE / 1000
    return -int(-exact // 1)


def ticks_to_cycles(ticks: int) -> float:
    """Chip ticks -> core cycles."""
    return ticks / TICKS_PER_CYCLE


def cycles_to_us(cycles: float, clock_mhz: int) -> float:
    """Core cycles at a clock -> microseconds."""
    return cycles / clock_mhz


def rate_of(ticks_per_unit: float) -> int:
    """A server's ticks per unit of work as a fixed-point integer with RATE_BITS fraction bits (error below 1e-6 of a tick)."""
    return round(ticks_per_unit * (1 << RATE_BITS))


def ticks_per_byte(gigabytes_per_s: float, clock_mhz: int) -> int:
    """Fixed-point ticks a server of this bandwidth needs for a byte at a core clock (see `rate_of`)."""
    return rate_of(clock_mhz * TICKS_PER_CYCLE / (gigabytes_per_s * 1000))
