"""The hand count: which m, n, k, l, operands and MACs a layer of known shape must have in each phase.

The catalogue builds GEMMs from it and the reader holds recorded GEMMs against it, so the two can't drift apart.
"""

from __future__ import annotations

from nmsim.workload.gemm import BatchAxis, ConvGeometry, Operand, Phase

Dimensions = tuple[int, int, int, int]
"""(m, n, k, l)."""


def linear_dimensions(phase: Phase, tokens: int, inputs: int, outputs: int) -> Dimensions:
    """(m, n, k, l) of Y[T, O] = X[T, I] W^T and of its two gradients."""
    return {
        "forward": (tokens, outputs, inputs, 1),
        "backward_data": (tokens, inputs, outputs, 1),
        "backward_weight": (outputs, inputs, tokens, 1),
    }[phase]


def linear_operands(phase: Phase, tokens: int, inputs: int, outputs: int) -> tuple[Operand, Operand]:
    """(A, B) of a linear layer with all operands dense; the weight is stored [O, I]."""
    return {
        "forward": (Operand("activation", ("m", "k"), (tokens, inputs)), Operand("weight", ("n", "k"), (outputs, inputs))),
        "backward_data": (Operand("gradient", ("m", "k"), (tokens, outputs)), Operand("weight", ("k", "n"), (outputs, inputs))),
        "backward_weight": (Operand("gradient", ("k", "m"), (tokens, outputs)), Operand("activation", ("k", "n"), (tokens, inputs))),
    }[phase]


def conv_dimensions(phase: Phase, geometry: ConvGeometry) -> Dimensions:
    """(m, n, k, l) of a convolution as an implicit GEMM; `groups` convolution groups are l GEMMs."""
    input_pixels, output_pixels = _pixels(geometry)
    channels, filters = geometry.in_channels // geometry.groups, geometry.out_channels // geometry.groups
    taps = geometry.kernel_h * geometry.kernel_w
    return {
        "forward": (output_pixels, filters, taps * channels, geometry.groups),
        "backward_data": (input_pixels, channels, taps * filters, geometry.groups),
        "backward_weight": (filters, taps * channels, output_pixels, geometry.groups),
    }[phase]


def conv_operands(phase: Phase, geometry: ConvGeometry) -> tuple[Operand, Operand]:
    """(A, B) of a convolution, dense: activations and gradients [pixels, channels], the weight [O, R, S, C / groups]."""
    input_pixels, output_pixels = _pixels(geometry)
    inputs, gradients = (input_pixels, geometry.in_channels), (output_pixels, geometry.out_channels)
    weight = (geometry.out_channels, geometry.kernel_h, geometry.kernel_w, geometry.in_channels // geometry.groups)
    return {
        "forward": (Operand("activation", ("m", "k"), inputs), Operand("weight", ("n", "k", "k", "k"), weight)),
        "backward_data": (Operand("gradient", ("m", "k"), gradients), Operand("weight", ("k", "k", "k", "n"), weight)),
        "backward_weight": (Operand("gradient", ("k", "m"), gradients), Operand("activation", ("k", "n"), inputs)),
    }[phase]


def hand_count_macs(phase: Phase, dimensions: Dimensions, geometry: ConvGeometry | None = None) -> int:
    """MACs that an entry states: m*n*k*l, except that a convolution's `backward_data` counts as its forward.

    Every product of its forward has one in its gradient; the others of m*n*k have a zero for a factor, between the pixels of dY
    where there is a stride, and around them where the padding is less than the filter reaches.
    """
    if geometry is not None and phase == "backward_data":
        dimensions = conv_dimensions("forward", geometry)
    m, n, k, l = dimensions  # noqa: E741 - the field's name for the batch dimension of a GEMM
    return m * n * k * l


def batch_axis_of(phase: Phase) -> BatchAxis:
    """The dimension of a linear layer or convolution that counts tokens or pixels, and so grows with the batch."""
    return "k" if phase == "backward_weight" else "m"


def _pixels(geometry: ConvGeometry) -> tuple[int, int]:
    """Pixels of all images of the batch: (input, output)."""
    return geometry.batch * geometry.height * geometry.width, geometry.batch * geometry.out_height * geometry.out_width
