"""The work that recipes add to a step, as passes with bytes and operations counted from the shapes they work on.

What one kernel of a sparse-training library would do, not what the eager operators that emulate it here do.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from nmsim.sparsity.metadata import compressed_bytes
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.trace import SparsifyPass

MASTER_BYTES = 4
"""Bytes of a master weight and of its gradient (fp32 under autocast)."""
COMPUTE_BYTES = 2
"""Bytes of an element that a tensor core reads (bf16 under autocast)."""


def mask_search_pass(module: str, shape: Sequence[int], pattern: NMPattern, axis: int = -1) -> SparsifyPass:
    """Reads the master weight, writes the masked one in the compute type (it also serves a dense `backward_data`).

    M (M - 1) / 2 magnitude comparisons rank a group: 6 for 2:4, as in the kernels of huyz2023/2by4-pretrain.
    """
    elements = prod(shape)
    groups = elements // shape[axis] * -(-shape[axis] // pattern.m)
    comparisons = groups * pattern.m * (pattern.m - 1) // 2
    return SparsifyPass(f"{module}:mask_search", "mask_search", module, elements * MASTER_BYTES, elements * COMPUTE_BYTES, comparisons)


def mask_refresh_pass(module: str, shape: Sequence[int], operations: int, every_steps: int) -> SparsifyPass:
    """A search that runs now and then: reads the master weight, writes one bit an element."""
    elements = prod(shape)
    return SparsifyPass(f"{module}:mask_search", "mask_search", module, elements * MASTER_BYTES, -(-elements // 8), operations, every_steps)


def prune_pass(module: str, shape: Sequence[int]) -> SparsifyPass:
    """Applies a kept mask to the updated weight: reads master and mask bits, writes the masked weight in the compute type."""
    elements = prod(shape)
    read = elements * MASTER_BYTES + -(-elements // 8)
    return SparsifyPass(f"{module}:prune", "prune", module, read, elements * COMPUTE_BYTES, elements)


def compress_pass(module: str, shape: Sequence[int], pattern: NMPattern) -> SparsifyPass:
    """Reads the masked weight, writes kept values and metadata along the last axis; one operation an element read."""
    return SparsifyPass(f"{module}:compress", "compress", module, *_compressed(shape, pattern, -1))


def transpose_pass(module: str, shape: Sequence[int], pattern: NMPattern) -> SparsifyPass:
    """The second compressed copy, with groups along the outputs, that `backward_data` reads: metadata can't be transposed on load."""
    return SparsifyPass(f"{module}:transpose", "transpose", module, *_compressed(shape, pattern, 0))


def decay_pass(module: str, shape: Sequence[int]) -> SparsifyPass:
    """g + decay (1 - mask) w: reads gradient, master weight and a mask bit, writes the gradient; two operations an element."""
    elements = prod(shape)
    read = 2 * elements * MASTER_BYTES + -(-elements // 8)
    return SparsifyPass(f"{module}:decay", "decay", module, read, elements * MASTER_BYTES, 2 * elements)


def gradient_mask_pass(module: str, shape: Sequence[int]) -> SparsifyPass:
    """Drops the gradient of pruned weights: reads gradient and mask bits, writes the gradient."""
    elements = prod(shape)
    read = elements * MASTER_BYTES + -(-elements // 8)
    return SparsifyPass(f"{module}:gradient_mask", "prune", module, read, elements * MASTER_BYTES, elements)


def sample_pass(module: str, tokens: int, outputs: int, pattern: NMPattern, operations_per_element: int) -> SparsifyPass:
    """Makes dY N:M along the tokens between `backward_data` and `backward_weight`: reads dY, writes it compressed."""
    elements = tokens * outputs
    written = outputs * compressed_bytes(tokens, 8 * COMPUTE_BYTES, pattern)
    operations = operations_per_element * elements
    return SparsifyPass(
        f"{module}:mvue_sample", "mvue_sample", module, elements * COMPUTE_BYTES, written, operations, scales_with_batch=True
    )


def _compressed(shape: Sequence[int], pattern: NMPattern, axis: int) -> tuple[int, int, int]:
    """(bytes read, bytes written, operations) of compressing a weight along `axis`."""
    elements = prod(shape)
    written = elements // shape[axis] * compressed_bytes(shape[axis], 8 * COMPUTE_BYTES, pattern)
    return elements * COMPUTE_BYTES, written, elements
