"""What sparse formats are compared on: the products of pruned layers, and the share of their weights that a format keeps."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction

import pandas as pd

from nmsim.workload.gemm import PHASES

SUMS = ["time_us", "energy_j", "cycles"]
EXECUTED = "executed"
"""MACs of the tensor cores, padding included, and of the CUDA cores."""
_SAID = re.compile(r"\bat density (\d+(?:\.\d+)?(?:/\d+)?)|^(\d+) of each (\d+) elements")


def pruned_products(kernels: pd.DataFrame) -> pd.DataFrame:
    """A row a scheme x phase: SUMS (and EXECUTED, where it is there) over the products of layers that any of the schemes runs sparse.

    `kernels` has the columns module, phase, scheme, ran_sparse and SUMS. The layers are the same for all schemes, so that a
    format is charged for products that it leaves dense; passes that a product needs (dX zeroed, what TEW restores) count with it.
    `ran_sparse` is true where any of them did.
    """
    products = kernels[kernels["phase"].isin(PHASES)]
    pruned = set(products.loc[products["ran_sparse"], "module"])
    groups = products[products["module"].isin(pruned)].groupby(["scheme", "phase"], sort=False)
    sums = [name for name in (*SUMS, EXECUTED) if name in kernels]
    return groups[sums].sum().assign(ran_sparse=groups["ran_sparse"].any()).reset_index()


def with_executed(kernels: pd.DataFrame) -> pd.DataFrame:
    """The kernels, which have a column for each counter, with EXECUTED."""
    return kernels.assign(**{EXECUTED: kernels["executed_macs"] + kernels["cuda_core_flops"] / 2})


def kept_density(reasons: Iterable[str]) -> float | None:
    """The share of the pruned layers' weights that a scheme keeps, as the reasons of its products say; None where none does.

    A product that runs dense because its format is slower says it too. N:M kernels say their pattern elsewhere.
    """
    for reason in reasons:
        if found := _SAID.search(reason):
            return float(Fraction(found[1])) if found[1] else int(found[2]) / int(found[3])
    return None
