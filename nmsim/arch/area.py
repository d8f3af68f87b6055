"""A first estimate of what N:M costs a tensor core in area: selector, decoder, and the registers of a wider operand B.

Counts of gates (NAND2 equivalents), so that no technology has to be assumed; for scale they stand beside the multipliers and
adders of the same core. Counted per tensor core, for 16-bit elements (the widest of its types where it has none):

* *selector*: in front of each multiplier a W:1 multiplexer of an element, W the selector's width (the widest group without one),
  as W - 1 two-input multiplexers a bit;
* *operand registers*: operand B beyond the dense one, M / N times as many elements a cycle, held for one cycle;
* *decoder*: `index` codes are the multiplexers' controls as they stand; `bitmap` needs N leading-one detectors of M bits a code;
  `combinatorial` a table of C(M, N) rows of N positions a code; times the codes decoded a cycle, for the native pattern that needs most;
* *code registers*: the controls of a cycle's kept elements, for each cycle of the decoder's latency and one more.

Not counted: wires (which grow with W as the multiplexers do), metadata buffers, control. Not used by timing or energy.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

from nmsim.arch.spec import GpuSpec
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import element_bits

MUX_GATES = 1.862 / 0.798
REGISTER_GATES = 4.522 / 0.798
AND_GATES = 1.064 / 0.798
"""Areas over a NAND2_X1's 0.798 um2: MUX2_X1, DFF_X1 and AND2_X1 of the NanGate 45 nm Open Cell Library (figures not re-read)."""
TABLE_GATES_PER_BIT = 0.25
"""Of a constant table after logic synthesis. Assumption."""
MAC_GATES = (1640 + 4184) / 0.798
"""An FP16 multiplier and an FP32 adder at 45 nm, 1640 and 4184 um2: M. Horowitz, ISSCC 2014 (figures not re-read)."""
DETECTOR_GATES_PER_BIT = 3 + AND_GATES
"""Leading-one detection and clearing of the bit found: a prefix tree of about three gates a bit and an AND. Assumption."""


@dataclass(frozen=True)
class Area:
    """Gates of one tensor core, in NAND2 equivalents."""

    selector: float
    operand_registers: float
    decoder: float
    code_registers: float
    mac_array: float
    """Multipliers and adders, for scale."""

    @property
    def overhead_percent(self) -> float:
        """What N:M adds, relative to the multipliers and adders."""
        return 100 * (self.selector + self.operand_registers + self.decoder + self.code_registers) / self.mac_array


def sparse_area(spec: GpuSpec) -> Area | None:
    """The estimate for one tensor core of `spec`; None where it runs no N:M pattern."""
    core = spec.tensor_core
    sparse = [mma for mma in core.mma if mma.nm is not None]
    if not sparse:
        return None
    dtypes = {mma.dtype for mma in sparse}
    dtype = "fp16" if "fp16" in dtypes else max(dtypes, key=lambda name: (element_bits(name), name))
    of_type = [mma for mma in sparse if mma.dtype == dtype]
    patterns = [mma.nm for mma in of_type if mma.nm is not None]
    bits = element_bits(dtype)
    macs = spec.peak_macs_per_cycle(dtype) / core.per_sm / spec.sm.count
    columns = min(mma.shape[1] for mma in of_type)
    rows = of_type[0].shape[0] // of_type[0].warps
    widest = max(pattern.m for pattern in patterns)
    width = min(widest, core.decoder.selector_width or widest)
    stretch = max(pattern.m / pattern.n for pattern in patterns)
    kept_per_cycle = macs / columns
    control_bits = kept_per_cycle * max(1, (width - 1).bit_length())
    return Area(
        selector=macs * bits * (width - 1) * MUX_GATES,
        operand_registers=macs / rows * (stretch - 1) * bits * REGISTER_GATES,
        decoder=core.decoder.codes_per_cycle * max(_code_gates(core.decoder.encoding, pattern) for pattern in patterns),
        code_registers=control_bits * (1 + core.decoder.latency_cycles) * REGISTER_GATES,
        mac_array=macs * MAC_GATES,
    )


def _code_gates(encoding: str, pattern: NMPattern) -> float:
    """Combinational gates that turn one code of `pattern` into the multiplexers' controls."""
    if encoding == "bitmap":
        return pattern.n * pattern.m * DETECTOR_GATES_PER_BIT
    if encoding == "combinatorial":
        return comb(pattern.m, pattern.n) * pattern.n * max(1, (pattern.m - 1).bit_length()) * TABLE_GATES_PER_BIT
    return 0.0
