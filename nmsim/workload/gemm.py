"""What one GEMM of a training step is: its shape, its operands, and what is known of their structure.

A GEMM is D[m, n] = A[m, k] B[k, n], `l` of them in a batch. An operand is a *stored* tensor; `axes` says which
dimension of the GEMM each stored axis runs along, so the last one says what is contiguous in memory:

=================  ======================  ======================  ==========================
phase              A                       B                       D
=================  ======================  ======================  ==========================
forward            X[T, I]   ("m", "k")    W[O, I]   ("n", "k")    Y[T, O]
backward_data      dY[T, O]  ("m", "k")    W[O, I]   ("k", "n")    dX[T, I]
backward_weight    dY[T, O]  ("k", "m")    X[T, I]   ("k", "n")    dW[O, I]
=================  ======================  ======================  ==========================

Convolution weights are stored [O, R, S, C] (channel fastest): ("n", "k", "k", "k") forward, ("k", "k", "k", "n")
backward_data; activations and gradients as [N*H*W, C] pixels with a `ConvGeometry` beside them.
Attention products have a leading "l" axis.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nmsim.sparsity.pattern import NMPattern

Phase = Literal["forward", "backward_data", "backward_weight"]
PHASES: tuple[Phase, ...] = ("forward", "backward_data", "backward_weight")
Role = Literal["weight", "activation", "gradient"]
StructureKind = Literal["dense", "nm", "tile_wise", "unstructured"]
BatchAxis = Literal["m", "n", "k", "l", "none"]


@dataclass(frozen=True)
class ConvGeometry:
    """A 2-D convolution, NHWC: `batch` images of height x width x in_channels; sizes are in elements."""

    batch: int
    height: int
    width: int
    in_channels: int
    out_channels: int
    kernel_h: int
    kernel_w: int
    stride_h: int = 1
    stride_w: int = 1
    pad_h: int = 0
    pad_w: int = 0
    dilation_h: int = 1
    dilation_w: int = 1
    groups: int = 1

    @property
    def out_height(self) -> int:
        """P, rows of the output."""
        return (self.height + 2 * self.pad_h - self.dilation_h * (self.kernel_h - 1) - 1) // self.stride_h + 1

    @property
    def out_width(self) -> int:
        """Q, columns of the output."""
        return (self.width + 2 * self.pad_w - self.dilation_w * (self.kernel_w - 1) - 1) // self.stride_w + 1


@dataclass(frozen=True)
class Operand:
    """One input of a GEMM: a stored tensor, how it lies in memory, and the structure it was recorded with.

    `group_axis` is the axis of the *stored* tensor along which the N:M groups run (None unless `structure` is "nm");
    the structure helps this GEMM only where `axes[group_axis] == "k"`. `mask` is a key of `Trace.masks`.
    """

    role: Role
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    structure: StructureKind = "dense"
    pattern: NMPattern | None = None
    group_axis: int | None = None
    mask: str | None = None

    @property
    def k_contiguous(self) -> bool:
        """True where the reduction is the fastest axis in memory."""
        return self.axes[-1] == "k"

    @property
    def reduction_axis(self) -> int:
        """The stored axis on which groups must run to be usable: the fastest of the "k" axes that channels run on.

        A linear weight or activation has one "k" axis. A convolution weight [O, R, S, C] reduces over R, S and C in
        `forward`: groups run along C (axis 3). In `backward_data` it reduces over R, S and O: groups run along O (axis 0).
        """
        if len(self.shape) == 4 and self.role == "weight":
            return 3 if self.axes[3] == "k" else 0
        return self.axes.index("k")


@dataclass(frozen=True)
class Gemm:
    """One GEMM of a step. `macs` is the hand count m*n*k*l of the recorded shape (a strided backward_data counts as its forward).

    `repeat` is how often this very GEMM occurs in the step; `batch_axis` the dimension that grows with the batch.
    """

    id: str
    module: str
    phase: Phase
    m: int
    n: int
    k: int
    l: int  # noqa: E741 - the field's name for the batch dimension of a GEMM
    dtype: str
    out_dtype: str
    a: Operand
    b: Operand
    macs: int
    batch_axis: BatchAxis = "none"
    conv: ConvGeometry | None = None
    repeat: int = 1


@dataclass(frozen=True)
class GroupCheck:
    """What checking every group along one stored axis found: groups seen and groups with more than N non-zeros."""

    pattern: NMPattern
    groups: int
    violations: int


@dataclass(frozen=True)
class MaskRecord:
    """A recorded mask: its shape, density, sha256 of the packed payload, and the group checks made on each stored axis.

    `payload` is False where the packed mask was left out (`verified-at-record`): the checks then stand for it.
    """

    shape: tuple[int, ...]
    density: float
    digest: str
    payload: bool
    checks: dict[int, GroupCheck] = field(default_factory=dict)
