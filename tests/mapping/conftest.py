"""Small convolutions of every kind, and the machine that kernels are planned for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from nmsim.arch.load import load_gpu
from nmsim.arch.spec import GpuSpec
from nmsim.workload.gemm import ConvGeometry
from nmsim.workload.trace import TileWisePlan


@st.composite
def small_convolutions(draw: st.DrawFn) -> ConvGeometry:
    """Odd sizes, strides 1-3 that need not be equal, padding, dilation, groups, padded within the filter's span or beyond it."""

    def axis() -> tuple[int, int, int, int, int]:
        kernel, stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
        span = dilation * (kernel - 1)
        pad = draw(st.integers(0, 2))
        size = draw(st.integers(max(1, span + 1 - 2 * pad), 9))
        return kernel, stride, dilation, pad, size

    (kernel_h, stride_h, dilation_h, pad_h, height), (kernel_w, stride_w, dilation_w, pad_w, width) = axis(), axis()
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    return ConvGeometry(
        batch=draw(st.integers(1, 3)),
        height=height,
        width=width,
        in_channels=groups * draw(st.integers(1, 6)),
        out_channels=groups * draw(st.integers(1, 6)),
        kernel_h=kernel_h,
        kernel_w=kernel_w,
        stride_h=stride_h,
        stride_w=stride_w,
        pad_h=pad_h,
        pad_w=pad_w,
        dilation_h=dilation_h,
        dilation_w=dilation_w,
        groups=groups,
    )


@pytest.fixture(scope="session")
def convolutions() -> st.SearchStrategy[ConvGeometry]:
    return small_convolutions()


@pytest.fixture(scope="session")
def spec(ampere: Path) -> GpuSpec:
    return load_gpu(ampere)


@pytest.fixture(scope="session")
def plan_of() -> Callable[..., TileWisePlan]:
    """A tile-wise plan of W[rows, columns] that keeps the given rows of each tile, and as many columns as its tiles hold."""

    def build(columns: int, rows: int, tile_width: int, kept_columns: int, kept_rows: list[int]) -> TileWisePlan:
        generator = np.random.default_rng(columns * rows + kept_columns)
        chosen_columns = np.zeros(columns, dtype=np.bool_)
        chosen_columns[generator.choice(columns, kept_columns, replace=False)] = True
        chosen_rows = np.zeros((len(kept_rows), rows), dtype=np.bool_)
        for tile, count in enumerate(kept_rows):
            chosen_rows[tile, generator.choice(rows, count, replace=False)] = True
        return TileWisePlan(tile_width, chosen_columns, chosen_rows)

    return build
