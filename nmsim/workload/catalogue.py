"""GEMMs of a training step counted by hand from the shape of a layer: linear, convolution, attention.

What the recorder stores for a real run, and what shapes-only traces are made of. Every operand is dense unless
`weight_structure` says, phase by phase, along which stored axis the weight's N:M groups run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from nmsim.sparsity.pattern import NMPattern
from nmsim.workload import shapes
from nmsim.workload.gemm import PHASES, ConvGeometry, Gemm, Operand, Phase, StructureKind


class WeightStructure(NamedTuple):
    """Structure of the weight in one phase: N:M groups along `group_axis` of the stored weight, and its mask's key.

    `mask` None is an assumption, which only a shapes-only trace may hold. For `tile_wise` and `unstructured` weights
    `pattern` and `group_axis` are None.
    """

    pattern: NMPattern | None
    group_axis: int | None
    mask: str | None = None
    kind: StructureKind = "nm"


WeightStructures = Mapping[Phase, WeightStructure]
"""Phase -> structure of the weight in it; a phase that is absent has a dense weight."""


def linear_gemms(
    module: str,
    tokens: int,
    inputs: int,
    outputs: int,
    dtype: str,
    first: bool = False,
    *,
    out_dtype: str | None = None,
    weight_structure: WeightStructures | None = None,
    repeat: int = 1,
) -> list[Gemm]:
    """The GEMMs of a linear layer with weight [O, I]; a `first` layer needs no gradient of its input.

    `out_dtype` is `dtype` unless given; ids are `module:phase`.
    """
    return [
        _gemm(
            module,
            phase,
            shapes.linear_dimensions(phase, tokens, inputs, outputs),
            shapes.linear_operands(phase, tokens, inputs, outputs),
            (dtype, out_dtype or dtype),
            weight_structure,
            repeat=repeat,
        )
        for phase in _phases(first)
    ]


def conv_gemms(
    module: str,
    geometry: ConvGeometry,
    dtype: str,
    first: bool = False,
    *,
    out_dtype: str | None = None,
    weight_structure: WeightStructures | None = None,
    repeat: int = 1,
) -> list[Gemm]:
    """The implicit GEMMs of a convolution with weight [O, R, S, C / groups]; ids are `module:phase`."""
    return [
        _gemm(
            module,
            phase,
            shapes.conv_dimensions(phase, geometry),
            shapes.conv_operands(phase, geometry),
            (dtype, out_dtype or dtype),
            weight_structure,
            conv=geometry,
            repeat=repeat,
        )
        for phase in _phases(first)
    ]


def attention_gemms(
    module: str,
    batch_heads: int,
    queries: int,
    keys: int,
    head_dim: int,
    dtype: str,
    *,
    value_dim: int | None = None,
    out_dtype: str | None = None,
    repeat: int = 1,
) -> list[Gemm]:
    """The six math products of attention, `batch_heads` = batch x heads of them: scores S = Q K^T, context O = P V, gradients.

    Ids are `module:scores:forward`, `module:scores:backward_data:query` and so on, the last word naming whose gradient it is.
    """
    value_dim = head_dim if value_dim is None else value_dim
    query, key, value = (batch_heads, queries, head_dim), (batch_heads, keys, head_dim), (batch_heads, keys, value_dim)
    scores, context = (batch_heads, queries, keys), (batch_heads, queries, value_dim)
    rows, transposed = ("l", "m", "k"), ("l", "k", "m")
    columns, columns_k_last = ("l", "k", "n"), ("l", "n", "k")
    # name, phase, A, B: what is contracted is what the two stored tensors share.
    products: list[tuple[str, Phase, Operand, Operand]] = [
        ("scores:forward", "forward", Operand("activation", rows, query), Operand("activation", columns_k_last, key)),
        ("scores:backward_data:query", "backward_data", Operand("gradient", rows, scores), Operand("activation", columns, key)),
        ("scores:backward_data:key", "backward_data", Operand("gradient", transposed, scores), Operand("activation", columns, query)),
        ("context:forward", "forward", Operand("activation", rows, scores), Operand("activation", columns, value)),
        ("context:backward_data:scores", "backward_data", Operand("gradient", rows, context), Operand("activation", columns_k_last, value)),
        ("context:backward_data:value", "backward_data", Operand("activation", transposed, scores), Operand("gradient", columns, context)),
    ]
    gemms = []
    for name, phase, a, b in products:
        sizes = dict(zip(a.axes, a.shape, strict=True)) | dict(zip(b.axes, b.shape, strict=True))
        dimensions = (sizes["m"], sizes["n"], sizes["k"], batch_heads)
        gemm = _gemm(module, phase, dimensions, (a, b), (dtype, out_dtype or dtype), None, repeat=repeat)
        gemms.append(replace(gemm, id=f"{module}:{name}", batch_axis="l"))
    return gemms


def _phases(first: bool) -> tuple[Phase, ...]:
    return tuple(phase for phase in PHASES if not (first and phase == "backward_data"))


def _gemm(
    module: str,
    phase: Phase,
    dimensions: shapes.Dimensions,
    operands: tuple[Operand, Operand],
    dtypes: tuple[str, str],
    weight_structure: WeightStructures | None,
    *,
    conv: ConvGeometry | None = None,
    repeat: int = 1,
) -> Gemm:
    a, b = operands
    structure = (weight_structure or {}).get(phase)
    if structure is not None and b.role == "weight":
        b = replace(b, structure=structure.kind, pattern=structure.pattern, group_axis=structure.group_axis, mask=structure.mask)
    m, n, k, l = dimensions  # noqa: E741 - the field's name for the batch dimension of a GEMM
    return Gemm(
        id=f"{module}:{phase}",
        module=module,
        phase=phase,
        m=m,
        n=n,
        k=k,
        l=l,
        dtype=dtypes[0],
        out_dtype=dtypes[1],
        a=a,
        b=b,
        macs=shapes.hand_count_macs(phase, dimensions, conv),
        batch_axis=shapes.batch_axis_of(phase),
        conv=conv,
        repeat=repeat,
    )
