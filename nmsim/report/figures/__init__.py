"""The figures of one run, one module each. A new figure is a module here and a row in FIGURES."""

from __future__ import annotations

from nmsim.report.figures import energy, formats, layer_energy, roofline, speedup, stalls, waterfall
from nmsim.report.figures.spec import FigureSpec
from nmsim.result.rows import SimulationResult

FIGURES: tuple[FigureSpec[SimulationResult], ...] = (
    FigureSpec(
        "waterfall",
        "Where the step's time goes",
        "Each bar starts where the one above it ends, so the last edge is the step's time. What no sparsity touches (other "
        "operators, dense products) and what sparsity adds (sparsify passes) bounds the whole: Amdahl's law.",
        waterfall.data,
        waterfall.draw,
    ),
    FigureSpec(
        "formats",
        "Speed-up over dense, by sparse format",
        "The whole step, then the three products of the layers that any of the formats prunes, launches and the passes of a product "
        "included. Beside a baseline stands the share of those layers' weights that it keeps; it says 'dense' where it ran none of "
        "them sparse. A baseline on tensor cores runs a product dense where that is faster, one on CUDA cores never does. The accuracy is "
        "held-out, and only of what this trace trained.",
        formats.data,
        formats.draw,
    ),
    FigureSpec(
        "speedup",
        "Speed-up of each layer over dense, by training product",
        "Time of the layer's dense GEMMs over their time under the scheme, launches included. Filled markers ran on an N:M or "
        "tile-wise kernel, hollow ones on a dense one; left of 1 the layer lost. The CSV also has the ratio of both schemes.",
        speedup.data,
        speedup.draw,
    ),
    FigureSpec(
        "layer_energy",
        "Energy saving of each layer over dense, by training product",
        "Energy of the layer's dense GEMMs over their energy under the scheme, static power over the launches included. Markers as "
        "above; the CSV also compares with tile-wise.",
        layer_energy.data,
        layer_energy.draw,
    ),
    FigureSpec(
        "stalls",
        "What the tensor pipes do, cycle by cycle",
        "Busy and named stalls of an average SM add up to all cycles of the kernel. Above: phases under each scheme; below: "
        "the slowest kernels, equal ones of repeated blocks taken together (× how many). Hatched: SMs that have no work left while "
        "others do, be it for unequal tiles or for a last wave that is not full.",
        stalls.data,
        stalls.draw,
    ),
    FigureSpec(
        "energy",
        "Energy of the step by unit",
        "Counted actions times the machine's sourced costs; static is constant and leakage power over the step's time.",
        energy.data,
        energy.draw,
    ),
    FigureSpec(
        "roofline",
        "Roofline of the GEMMs",
        "Dense-equivalent throughput while the kernel runs against dense-equivalent FLOP per byte moved: filled markers count "
        "DRAM bytes, hollow circles L2 bytes, diamonds the bytes of all shared memories, joined for one kernel. Area is time; kernels "
        "below 0.5 % of the GEMM time are left out.",
        roofline.data,
        roofline.draw,
    ),
)

__all__ = ["FIGURES", "FigureSpec"]
