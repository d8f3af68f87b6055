"""A recorded GEMM -> a problem in the kernel's frame: storage order, batches, and the compressed operand as A.

A sparse tensor core takes the compressed operand as A. Where the recorded sparse operand is B (the weight of a forward
product), the transposed product runs: the kernel's m is the GEMM's n. The compressed copy of an operand is stored with
its reduction contiguous (the compress pass writes it so), values and metadata E apart.
"""

from __future__ import annotations

from collections.abc import Mapping

from nmsim.mapping.problem import Group, Problem, Tensor, View
from nmsim.rules import box
from nmsim.sparsity.encoding import GroupCode, group_code
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import element_bits
from nmsim.workload.gemm import Gemm, Operand


def row_bytes(elements: int, bits: int) -> int:
    """Bytes of a stored row."""
    return -(-elements * bits // 8)


def lower_dense(gemm: Gemm) -> Problem:
    """The GEMM as it stands, no operand compressed (linear and attention products)."""
    bits = element_bits(gemm.dtype)
    tensor_a, view_a = _stored("A", gemm.a, 0, gemm.m, gemm.k, gemm.l, bits)
    tensor_b, view_b = _stored("B", gemm.b, 1, gemm.n, gemm.k, gemm.l, bits)
    tensor_d, view_d = output(gemm, swapped=False)
    group = Group(gemm.m, gemm.n, gemm.k, (view_a, view_b), view_d)
    return Problem(gemm.id, gemm.dtype, None, (tensor_a, tensor_b, tensor_d), (group,), gemm.l, gemm.m * gemm.n * gemm.k * gemm.l)


def lower_nm(gemm: Gemm, sparse: str, native: NMPattern, code: GroupCode | None = None) -> Problem:
    """The GEMM with operand `sparse` ("a" or "b") compressed to the hardware's pattern `native`, as kernel operand A.

    `code` is how the machine writes the kept positions of a group down; the shortest index by default.
    """
    code = group_code(native) if code is None else code
    bits = element_bits(gemm.dtype)
    swapped = sparse == "b"
    m, n = (gemm.n, gemm.m) if swapped else (gemm.m, gemm.n)
    dense = gemm.a if swapped else gemm.b
    values, metadata, views = compressed(m, gemm.k, gemm.l, bits, native, code)
    tensor_b, view_b = _stored("B", dense, 1, n, gemm.k, gemm.l, bits)
    tensor_d, view_d = output(gemm, swapped=swapped)
    group = Group(m, n, gemm.k, (views[0], view_b, views[1]), view_d)
    return Problem(
        gemm.id,
        gemm.dtype,
        native,
        (values, tensor_b, metadata, tensor_d),
        (group,),
        gemm.l,
        gemm.m * gemm.n * gemm.k * gemm.l,
        code=code,
    )


def compressed(rows: int, k: int, batch: int, bits: int, native: NMPattern, code: GroupCode) -> tuple[Tensor, Tensor, tuple[View, View]]:
    """(values, metadata E, their views) of an operand A[rows, k] kept at `native` in each of `batch` products."""
    codes = -(-k // native.m) * code.per_group
    values = Tensor("A", rows * batch, row_bytes(native.compressed_k(k), bits))
    metadata = Tensor("E", rows * batch, row_bytes(codes, code.bits))
    per_batch = {box.ROWS_PER_BATCH: rows}
    view_a = View("A", box.ROWS, 0, bits, (native.n, native.m), per_batch)
    return values, metadata, (view_a, View("E", box.ROWS, 0, code.bits, (code.per_group, native.m), per_batch))


def output(gemm: Gemm, *, swapped: bool) -> tuple[Tensor, View]:
    """D[m, n] of each product, n contiguous, in the kernel's frame."""
    bits = element_bits(gemm.out_dtype)
    tensor = Tensor("D", gemm.m * gemm.l, row_bytes(gemm.n, bits))
    return tensor, View("D", box.ROWS, 1 if swapped else 0, bits, fields={box.ROWS_PER_BATCH: gemm.m})


def _stored(name: str, operand: Operand, dimension: int, x: int, k: int, batch: int, bits: int) -> tuple[Tensor, View]:
    """A dense operand as it lies in memory: [x, k] or [k, x], `batch` of them."""
    rows, columns = (x, k) if operand.k_contiguous else (k, x)
    kind = box.ROWS if operand.k_contiguous else box.COLUMNS
    tensor = Tensor(name, rows * batch, row_bytes(columns, bits))
    fields: Mapping[int, int] = {box.ROWS_PER_BATCH: rows}
    return tensor, View(name, kind, dimension, bits, fields=fields)
