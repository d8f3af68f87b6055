"""Suite `training`: forward and backward of an MLP whose weights are pruned to 2:4 and compressed in every step.

Two linear layers without biases and a GELU between them, as the published benchmark runs them (xformers/benchmarks/benchmark_sp24.py,
which pytorch/ao took over): the weights are sparse in `forward` and `backward_data`, `backward_weight` is dense; gradients of the input
and of both weights are added to those of the run before. Nothing there calls the sparse library's search: a row's `set` says which kernel
is taken for the library's first one. Launches come out of a CUDA graph there and are charged one by one here.
"""

from __future__ import annotations

from nmsim.validation.measured import Comparison, Context, Measured
from nmsim.validation.tabular import DATA, Line, read_lines
from nmsim.workload.trace import Trace

COLUMNS = ("id", "arch", "tokens", "inputs", "hidden", "outputs", "dense_us", "sparse_us", "gradient")
FP16_BYTES = 2
SPARSIFY_OPERATIONS = 110
"""An element, in the search for the mask of 4 x 4 blocks that keeps most: the same tables time it alone at 191.5 us for 16384 x 2048
and 255.1 us for 44160 x 1024 elements, which is 110 operations at the A100's FP32 rate."""
BOARD_TOLD = "tells the board"
"""On a time by which one of two boards was told from the other, so that no bar may count it."""
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

    shape = (line.whole(name) for name in ("tokens", "inputs", "hidden", "outputs"))
    trace = mlp_step(line.required("id"), *shape, masked_gradient=line.required("gradient") == "masked")
    machine = context.machine(line.required("arch"), line.text("set").split())
    total = simulate(machine, trace, baseline=("dense",), engine=context.engine).total
    dense, sparse = (float(line.required(name)) for name in ("dense_us", "sparse_us"))
    numbers = (
        ("dense step", "us", dense, total["dense"].time_us),
        ("2:4 step", "us", sparse, total["traced"].time_us),
        ("speed-up", "x", dense / sparse, total["dense"].time_us / total["traced"].time_us),
    )
    tags = frozenset(line.text("tags").split())
    told = frozenset({BOARD_TOLD}) if line.text("inferred") == "board" else frozenset[str]()
    return [
        Comparison(
            line.required("id"),
            quantity,
            unit,
            published,
            simulated,
            tags | (told if quantity == "dense step" else frozenset()),
            line.text("source"),
            line.text("status"),
            line.text("note"),
        )
        for quantity, unit, published, simulated in numbers
    ]


def mlp_step(name: str, tokens: int, inputs: int, hidden: int, outputs: int, *, masked_gradient: bool) -> Trace:
    """The step as a shapes-only trace; `masked_gradient`: the weights' gradients are multiplied by the masks."""
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
    wide = FP16_BYTES * tokens * hidden
    accumulated = {"input": tokens * inputs, "up": inputs * hidden, "down": hidden * outputs}
    operators = (
        Operator("gelu", "gelu", "forward", wide, wide, GELU_FLOPS * tokens * hidden, 1, True),
        Operator("gelu_backward", "gelu_backward", "backward", 2 * wide, wide, GELU_FLOPS * tokens * hidden, 1, True),
        *(
            Operator(f"accumulate_{of}", "add", "backward", 2 * FP16_BYTES * count, FP16_BYTES * count, count, 1, of == "input")
            for of, count in accumulated.items()
        ),
    )
    passes = []
    for layer, (width_in, width_out) in layers.items():
        elements = width_in * width_out
        dense_bytes, mask_bytes = FP16_BYTES * elements, elements // 8
        both_copies = 2 * (dense_bytes // 2 + elements // 8)  # values, and two bits for each of the kept half; W and its transpose
        operations = SPARSIFY_OPERATIONS * elements
        passes.append(SparsifyPass(f"{layer}:sparsify", "compress", layer, dense_bytes, both_copies + mask_bytes, operations))
        if masked_gradient:
            passes.append(SparsifyPass(f"{layer}:mask_gradient", "decay", layer, dense_bytes + mask_bytes, dense_bytes, elements))
    origin = Provenance("shapes-only", name, "none", "transposable", {}, 0, 0, None, None, {})
    return Trace(name, origin, tokens, "fp16", tuple(gemms), operators, tuple(passes))
