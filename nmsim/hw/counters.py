"""Action counts of one kernel on one machine: what energy, conservation checks and roofline bounds read.

Modelled: what energy is charged for. Not modelled: data-dependent switching, instructions other than those counted.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Counters:
    """Whole-chip totals of one kernel launch; all integers."""

    executed_macs: int = 0
    """MACs the tensor cores ran, padding included, after N:M compression."""
    dense_equivalent_macs: int = 0
    """m*n*k*l of the problem."""
    metadata_codes: int = 0
    """Kept elements whose position was decoded."""
    cuda_core_flops: int = 0
    shared_memory_bytes: int = 0
    """Bytes through the shared-memory ports: copy writes and fragment reads."""
    l2_read_bytes: int = 0
    """Bytes read in the L2 for the SMs; what is multicast to several counts once."""
    l2_write_bytes: int = 0
    """Bytes from the SMs to L2."""
    dram_read_bytes: int = 0
    dram_write_bytes: int = 0
    dram_activates: int = 0
    dram_accesses: int = 0
    l2_block_lookups: int = 0
    l2_block_misses: int = 0
    k_tiles: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def scaled(self, factor: int) -> Counters:
        """These counts `factor` times (repeated launches)."""
        return Counters(**{f.name: getattr(self, f.name) * factor for f in fields(self)})
