"""`--l2 step`: the kernels of a step one after another on one L2, each on what those before it left.

Modelled: the GEMMs of a scheme in the order of the trace (a recorder's is the order in which they ran). A product finds what is
still held of a layer's X, W or dY that an earlier product of the layer has read, and pushes out what lies in its way, dirty blocks
at the price of writing them back. The kernel of each product is the one chosen for a cold L2.
Not modelled: operators and passes, whose place among the GEMMs is not recorded: they run cold and leave the L2 alone. An output is
read by no GEMM before an operator made something else of it, so it is only in the way.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nmsim.arch.spec import GpuSpec
from nmsim.hw.contents import Contents
from nmsim.run.kernel import run_kernel_after
from nmsim.run.schemes import Lowered
from nmsim.workload.gemm import Gemm
from nmsim.workload.legality import is_attention_product

if TYPE_CHECKING:
    from nmsim.run.step import Progress, Work


def tensor_names(gemm: Gemm, lowered: Lowered) -> tuple[Hashable, ...]:
    """A name for each of the problem's tensors: what two GEMMs of a step both call by one name is one tensor in memory."""
    own = [(gemm.id, tensor.name) for tensor in lowered.problem.tensors]
    if gemm.repeat > 1:  # its launches have operands of their own
        return tuple(own)
    stored = _stored(gemm, lowered)
    return tuple(stored.get(tensor.name, (gemm.id, tensor.name)) for tensor in lowered.problem.tensors)


def run_in_order(spec: GpuSpec, works: Sequence[Work], clock_mhz: int, engine: str, progress: Progress) -> list[Work]:
    """The works of a scheme at a clock, those with named tensors on what the ones before them left in the L2."""
    done: list[Work] = []
    before: Contents | None = None
    for work in works:
        if work.tensors:
            progress(len(done), len(works), f"{work.identifier} in order, at {clock_mhz} MHz")
            run, before = run_kernel_after(spec, work.run.plan, clock_mhz, work.tensors, before, engine=engine)
            done.append(replace(work, run=run))
        else:
            done.append(work)
    return done


def _stored(gemm: Gemm, lowered: Lowered) -> dict[str, Hashable]:
    """Tensors of the problem that other products of the layer may read as well, under names that they agree on.

    A compressed copy is not among them: it is made for one reduction.
    """
    if is_attention_product(gemm):
        side_a, side_b = _attention_operands(gemm)
    else:
        call = gemm.id.removesuffix(f":{gemm.phase}")  # of a module that runs twice, each has an X and a dY of its own
        call = gemm.module if call == gemm.id else call
        x, w, dy = (call, "X"), (gemm.module, "W"), (call, "dY")
        side_a, side_b = {"forward": (x, w), "backward_data": (dy, w)}.get(gemm.phase, (dy, x))
    if lowered.tile_wise:  # gathered columns: tensors of their own, which the three products share
        return {tensor.name: (gemm.module, "tiles", tensor.name) for tensor in lowered.problem.tensors if tensor.name[0] in "XdW"}
    if gemm.conv is not None:
        pixels = side_b if gemm.phase == "backward_weight" else side_a
        return {"X": pixels} | ({"A": side_a} if lowered.native == "dense" else {})
    if lowered.native == "dense":
        return {"A": side_a, "B": side_b}
    return {"B": side_a if lowered.compressed == "b" else side_b}


def _attention_operands(gemm: Gemm) -> tuple[Hashable, Hashable]:
    """Names of both operands of an attention product, of which both gradients' products share dY alone.

    Which of two activations a gradient's product reads is not recorded.
    """
    product = gemm.id.split(":backward_data")[0].split(":forward")[0]
    names: list[Hashable] = [(product, "dY") if one.role == "gradient" else (gemm.id, side) for side, one in (("a", gemm.a), ("b", gemm.b))]
    return names[0], names[1]
