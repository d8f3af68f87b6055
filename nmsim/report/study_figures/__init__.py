"""The figures of a study of many runs, one module each. A new figure is a module here and a row in STUDY_FIGURES."""

from __future__ import annotations

from nmsim.report.figures.spec import FigureSpec
from nmsim.report.study import Study
from nmsim.report.study_figures import density, formats, limits, pareto, tornado, variants

STUDY_FIGURES: tuple[FigureSpec[Study], ...] = (
    FigureSpec(
        "density",
        "Speed-up against density",
        "Dense time over traced time, launches included. On the dashed line every weight left out would save its time. Left: the "
        "GEMMs that run the pattern; right: the whole step, with everything that no sparsity touches.",
        density.data,
        density.draw,
    ),
    FigureSpec(
        "formats",
        "Sparse formats against each other",
        "On the first machine, for the network of most densities: speed-up over dense, launches and passes included, of the layers "
        "that any format prunes, and of the step. A baseline was not trained; accuracies are those of recorded trainings alone, "
        "and without any there is no panel of them. A baseline on tensor cores runs a product dense where that is faster, one on CUDA "
        "cores never does.",
        formats.data,
        formats.draw,
    ),
    FigureSpec(
        "limits",
        "What holds a sparser pattern back",
        "The products that run the pattern, each bar as long as its time against dense on the same machine. What does not shrink with "
        "the density is what limits it. Above the first machine of the study, below the one on which the sparsest pattern gains most.",
        limits.data,
        limits.draw,
    ),
    FigureSpec(
        "variants",
        "Machines and patterns",
        "Speed-up over dense on the same machine, pattern by pattern; the first machine of the study in bold, the others by what "
        "their sparsest pattern gains. Patterns that gain alike lie over each other.",
        variants.data,
        variants.draw,
    ),
    FigureSpec(
        "tornado",
        "Sensitivity to the swept parameters",
        "How far each parameter moves the speed-up over dense of the products that run the pattern (left) and the time of the step "
        "(right), from its first value; all else unchanged, the geometric mean over all other combinations. Labels name the value at "
        "the bar's end.",
        tornado.data,
        tornado.draw,
    ),
    FigureSpec(
        "pareto",
        "Accuracy, time and energy",
        "Points of patterns that were trained. Above, a step; below, the whole run that reached this accuracy, each of its stages "
        "at the cost of its recorded step. The line joins those that no other beats.",
        pareto.data,
        pareto.draw,
    ),
)

__all__ = ["STUDY_FIGURES"]
