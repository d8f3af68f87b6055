"""Which GEMM of the step a dispatched product is: its phase, its operands' roles, and its place in the field's table.

The forward of a layer and its backward meet by the number that autograd gives to the forward's node: it survives any model
structure and needs no backward hooks. Within a node, a backward product is the gradient of one of the forward's operands
and uses the other; that other is known by its storage (saved for the backward), by the parameter it came from, or by shape.

Products are turned into one frame whatever the framework dispatched: the weight is B, a gradient is A.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nmsim.training.recorder.matrix import Matrix
from nmsim.training.recorder.origins import CONSTANT, DATA
from nmsim.workload.gemm import BatchAxis, Phase, Role


@dataclass(frozen=True)
class Product:
    """D[m, n] = A[m, k] B[k, n] as recorded, `source` the number of the forward product that it belongs to.

    `side` tells the two gradients of a product of two activations apart ("a" or "b"), else it is empty.
    """

    source: int
    module: str
    phase: Phase
    side: str
    a: Matrix
    b: Matrix
    a_role: Role
    b_role: Role
    dtype: str
    out_dtype: str
    batch_axis: BatchAxis


@dataclass
class ForwardProduct:
    """A forward product that waits for its gradients; in the frame where a weight is B. `done`: operands whose gradient came."""

    number: int
    module: str
    a: Matrix
    b: Matrix
    has_weight: bool
    batch_axis: BatchAxis
    done: set[str] = field(default_factory=set)


_AXIS_IN_GRADIENT: dict[str, dict[BatchAxis, BatchAxis]] = {"a": {"n": "k"}, "b": {"m": "k", "n": "m"}}
"""Where the batch axis of a forward product lies in the gradient of its operand, where it moves."""


def forward_product(number: int, module: str, left: Matrix, right: Matrix, dtypes: tuple[str, str]) -> tuple[ForwardProduct, Product]:
    """The forward of `left` x `right`, turned round where the weight came first."""
    a, b = (left, right)
    if _is_weight(left) and not _is_weight(right):
        a, b = right.transposed, left.transposed
    weighted = _is_weight(b)
    batch_axis = _batch_axis(a, b, weighted)
    product = Product(number, module, "forward", "", a, b, "activation", "weight" if weighted else "activation", *dtypes, batch_axis)
    return ForwardProduct(number, module, a, b, weighted, batch_axis), product


def backward_product(source: ForwardProduct, left: Matrix, right: Matrix, dtypes: tuple[str, str]) -> Product | None:
    """The backward product `left` x `right` of a forward product, or None where it can't be one of its gradients."""
    for wanted in _order_of_belief(source, left, right):
        gradient_first, of = wanted
        gradient, other = (left, right) if gradient_first else (right.transposed, left.transposed)
        if of not in source.done and _fits(source, of, gradient, other):
            source.done.add(of)
            return _gradient(source, of, gradient, other, dtypes)
    return None


def _gradient(source: ForwardProduct, of: str, gradient: Matrix, other: Matrix, dtypes: tuple[str, str]) -> Product:
    """dA = dD B^T, or dB as its own transpose dD^T A where D = A B, so that the gradient is always operand A."""
    phase: Phase = "backward_weight" if of == "b" and source.has_weight else "backward_data"
    other_role: Role = "weight" if of == "a" and source.has_weight else "activation"
    batch_axis = _AXIS_IN_GRADIENT[of].get(source.batch_axis, source.batch_axis)
    side = "" if source.has_weight else of
    return Product(source.number, source.module, phase, side, gradient, other, "gradient", other_role, *dtypes, batch_axis)


def _batch_axis(a: Matrix, b: Matrix, weighted: bool) -> BatchAxis:
    """The dimension of a forward product that counts samples: of a batch of products without a weight, the batch itself."""
    if a.batch is not None and not weighted:
        return "l"
    return "m" if a.origin == DATA else "n" if b.origin == DATA else "none"


def _order_of_belief(source: ForwardProduct, left: Matrix, right: Matrix) -> list[tuple[bool, str]]:
    """(gradient comes first, operand whose gradient it is), the hypotheses in order of evidence.

    The gradient of A uses B and the gradient of B uses A; the gradient itself is neither.
    """
    hypotheses = [(True, "a"), (True, "b"), (False, "b"), (False, "a")]

    def evidence(hypothesis: tuple[bool, str]) -> int:
        gradient_first, of = hypothesis
        gradient, other = (left, right) if gradient_first else (right, left)
        used, unused = (source.b, source.a) if of == "a" else (source.a, source.b)
        score = 4 * (other.identity == used.identity) - 4 * (gradient.identity in (used.identity, unused.identity))
        if used.origin not in (DATA, CONSTANT):
            score += 2 * (other.origin == used.origin) - 2 * (gradient.origin == used.origin)
        return score

    return sorted(hypotheses, key=evidence, reverse=True)


def _fits(source: ForwardProduct, of: str, gradient: Matrix, other: Matrix) -> bool:
    """True where the sizes are those of dA = dD B^T (of "a"), or of dB^T = dD^T A (of "b")."""
    m, k, n = source.a.rows, source.a.columns, source.b.columns
    if gradient.batch != source.a.batch or other.batch != source.a.batch:
        return False
    if of == "a":
        return (gradient.rows, gradient.columns, other.rows, other.columns) == (m, n, n, k)
    return (gradient.rows, gradient.columns, other.rows, other.columns) == (n, m, m, k)


def _is_weight(matrix: Matrix) -> bool:
    return matrix.origin not in (DATA, CONSTANT)
