"""Suite `training`: forward and backward of an MLP whose weights are pruned to 2:4 and compressed in every step.

Two linear layers with a GELU between them, as the published benchmark runs them: the weights are sparse in `forward` and
`backward_data`, `backward_weight` is dense; what is memory-bound is charged beside the products.
"""

from __future__ import annotations

from nmsim.validation.measured import Comparison, Context, Measured
from nmsim.validation.tabular import DATA, Line, read_lines
from nmsim.workload.trace import Trace

COLUMNS = ("id", "arch", "tokens", "inputs", "hidden", "outputs", "dense_us", "sparse_us")
FP16_BYTES = 2
GELU_FLOPS = 15
"""Of one element, either way: a tanh and what is around it."""


def measure(context: Context) -> Measured:
    """Time of the step with dense and with 2:4 weights, and the speed-up."""
    lines = read_lines(DATA / "training_mlp_a100.csv", COLUMNS)
    found: list[Comparison] = []
    for done, line in enumerate(lines):
        context.progress(done, len(lines), line.required("id"))
        found += _row(context, line)
    return Measured(tuple(found))


def _row(context: Context, line: Line) -> list[Comparison]:
    from nmsim.api import simulate

    trace = mlp_step(line.required("id"), *(line.whole(name) for name in ("tokens", "inputs", "hidden", "outputs")))
    total = simulate(context.machine(line.required("arch")), trace, baseline=("dense",), engine=context.engine).total
    dense, sparse = (float(line.required(name)) for name in ("dense_us", "sparse_us"))
    numbers = (
        ("dense step", "us", dense, total["dense"].time_us),
        ("2:4 step", "us", sparse, total["traced"].time_us),
        ("speed-up", "x", dense / sparse, total["dense"].time_us / total["traced"].time_us),
    )
    tags = frozenset(line.text("tags").split())
    return [
        Comparison(
            line.required("id"), quantity, unit, published, simulated, tags, line.text("source"), line.text("status"), line.text("note")
        )
        for quantity, unit, published, simulated in numbers
    ]


def mlp_step(name: str, tokens: int, inputs: int, hidden: int, outputs: int) -> Trace:
    """The step as a shapes-only trace."""
    from nmsim.sparsity.pattern import NMPattern
    from nmsim.workload.catalogue import WeightStructure, WeightStructures, linear_gemms
    from nmsim.workload.trace import Operator, Provenance, SparsifyPass

    pattern = NMPattern(2, 4)
    both_ways: WeightStructures = {"forward": WeightStructure(pattern, 1), "backward_data": WeightStructure(pattern, 0)}
    layers = {"up": (inputs, hidden), "down": (hidden, outputs)}
    gemms = [
        gemm
        for layer, (width_in, width_out) in layers.items()
        for gemm in linear_gemms(layer, tokens, width_in, width_out, "fp16", weight_structure=both_ways)
    ]
    wide, narrow = tokens * hidden, tokens * outputs
    operators = (
        Operator("gelu", "gelu", "forward", FP16_BYTES * wide, FP16_BYTES * wide, GELU_FLOPS * wide, 1, True),
        Operator("gelu_backward", "gelu_backward", "backward", 2 * FP16_BYTES * wide, FP16_BYTES * wide, GELU_FLOPS * wide, 1, True),
        Operator("bias_up", "sum", "backward", FP16_BYTES * wide, FP16_BYTES * hidden, wide, 1, True),
        Operator("bias_down", "sum", "backward", FP16_BYTES * narrow, FP16_BYTES * outputs, narrow, 1, True),
    )
    passes = []
    for layer, (width_in, width_out) in layers.items():
        elements = width_in * width_out
        kept_bytes = elements // 2 * FP16_BYTES + elements // 8  # values and two bits a position
        passes.append(  # one kernel reads the weight and writes both compressed copies, for W and for its transpose
            SparsifyPass(f"{layer}:sparsify", "compress", layer, FP16_BYTES * elements, 2 * kept_bytes, 8 * elements)
        )
    origin = Provenance("shapes-only", name, "none", "transposable", {}, 0, 0, None, None, {})
    return Trace(name, origin, tokens, "fp16", tuple(gemms), operators, tuple(passes))
