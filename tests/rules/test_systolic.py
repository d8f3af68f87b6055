"""The folds of a systolic array: against SCALE-Sim, against a grid of registers that computes, against structural hazards."""

import csv
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nmsim.arch import systolic as spec
from nmsim.rules import systolic as rules
from nmsim.rules.systolic import compressed_k, compute_cycles, fold_count, ideal_cycles, interval_cycles, load_cycles, skew_cycles
from nmsim.sparsity.pattern import NMPattern

MEASURED = Path(__file__).parents[1] / "data" / "scalesim_cycles.csv"
ROWS = list(csv.DictReader(MEASURED.read_text(encoding="utf-8").splitlines()))

dataflows = st.sampled_from(get_args(rules.Dataflow))
sides, sizes = st.integers(1, 40), st.integers(1, 300)


@pytest.mark.parametrize("row", ROWS, ids=lambda r: "{dataflow}-{array_rows}x{array_cols}-{M}x{N}x{K}-{sparsity}".format(**r))
def test_without_overlap_the_cycles_are_those_measured_with_scale_sim(row: dict[str, str]) -> None:
    kept, group = map(int, row["sparsity"].split(":"))
    m, n, r, c = (int(row[key]) for key in ("M", "N", "array_rows", "array_cols"))
    k = compressed_k(int(row["K"]), kept, group)
    dataflow = next(name for name in get_args(rules.Dataflow) if name == row["dataflow"])
    assert k == int(row["K_effective"])
    assert fold_count(dataflow, m, n, k, r, c) == int(row["folds"])
    assert interval_cycles("none", load_cycles(dataflow, r), {"ws": m, "is": n, "os": k}[dataflow], r, c) == int(row["cycles_per_fold"])
    assert compute_cycles(dataflow, "none", m, n, k, r, c) == int(row["compute_cycles_exact"])


def test_the_measured_rows_hold_every_dataflow_and_dense_and_sparse_filters() -> None:
    assert {row["dataflow"] for row in ROWS} == {"ws", "os", "is"}
    assert {row["sparsity"] for row in ROWS} >= {"1:1", "2:4", "1:8", "4:8", "2:16"}
    assert all(row["source"] and row["status"].startswith("measured") for row in ROWS)


@given(dataflow=dataflows, m=sizes, n=sizes, k=sizes, r=sides, c=sides, batch=st.integers(1, 3))
def test_more_overlap_is_never_slower_and_nothing_beats_the_macs(
    dataflow: rules.Dataflow, m: int, n: int, k: int, r: int, c: int, batch: int
) -> None:
    none, fold, full = (compute_cycles(dataflow, overlap, m, n, k, r, c, batch) for overlap in ("none", "fold", "full"))
    assert none >= fold >= full >= ideal_cycles(batch * m * n * k, r, c)
    closed = {
        "os": -(-m // r) * -(-n // c) * (k + r + c - 2),
        "ws": -(-k // r) * -(-n // c) * (m + 2 * r + c - 2),
        "is": -(-k // r) * -(-m // c) * (n + 2 * r + c - 2),
    }
    assert none == batch * closed[dataflow]


def test_the_overlaps_differ_where_there_is_more_than_one_fold() -> None:
    for dataflow in get_args(rules.Dataflow):
        none, fold, full = (compute_cycles(dataflow, overlap, 512, 512, 512, 128, 128) for overlap in ("none", "fold", "full"))
        assert none > fold > full > 512**3 // 128**2
    assert [compute_cycles("ws", overlap, 512, 512, 512, 128, 128) for overlap in ("none", "fold", "full")] == [14304, 10479, 8574]


@given(k=sizes, group=st.integers(1, 64), choice=st.data())
def test_a_compressed_reduction_is_that_of_the_pattern(k: int, group: int, choice: st.DataObject) -> None:
    kept = choice.draw(st.integers(1, group))
    assert compressed_k(k, kept, group) == NMPattern(kept, group).compressed_k(k)


def load(weights: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Shift a tile in from the top, a row a cycle, the last row first."""
    held, cycles = np.zeros_like(weights), 0
    while cycles < len(weights):
        held = np.vstack([weights[len(weights) - 1 - cycles], held[:-1]])
        cycles += 1
    return held, cycles


def stationary_array(stream: NDArray[np.int64], weights: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """stream[v, r] @ weights[r, c] on a grid of registers: inputs move right, sums move down. Returns the product and the cycles."""
    held, cycle = load(weights)
    loaded, (vectors, rows), columns = cycle, stream.shape, weights.shape[1]
    moving, sums = np.zeros((rows, columns), dtype=np.int64), np.zeros((rows, columns), dtype=np.int64)
    product, missing = np.zeros((vectors, columns), dtype=np.int64), vectors * columns
    while missing:
        t = cycle - loaded
        entering = [stream[t - i, i] if 0 <= t - i < vectors else 0 for i in range(rows)]
        moving = np.column_stack([entering, moving[:, :-1]])
        sums = np.vstack([np.zeros(columns, dtype=np.int64), sums[:-1]]) + moving * held
        for j in range(columns):
            if 0 <= (v := t - (rows - 1) - j) < vectors:
                product[v, j] = sums[-1, j]
                missing -= 1
        cycle += 1
    return product, cycle


def output_stationary_array(a: NDArray[np.int64], b: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """a[m, k] @ b[k, n] on a grid of registers: a moves right, b moves down, sums stay. Returns the product and the cycles."""
    (rows, k), columns = a.shape, b.shape[1]
    right, down = np.zeros((rows, columns), dtype=np.int64), np.zeros((rows, columns), dtype=np.int64)
    sums, done, t = np.zeros((rows, columns), dtype=np.int64), np.zeros((rows, columns), dtype=np.int64), 0
    while (done < k).any():
        right = np.column_stack([[a[i, t - i] if 0 <= t - i < k else 0 for i in range(rows)], right[:, :-1]])
        down = np.vstack([[b[t - j, j] if 0 <= t - j < k else 0 for j in range(columns)], down[:-1]])
        sums += right * down
        skew = np.add.outer(np.arange(rows), np.arange(columns))
        done += (skew <= t) & (t < skew + k)
        t += 1
    return sums, t


@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (7, 5, 3), (2, 6, 4), (9, 3, 5), (1, 6, 6)])
def test_a_grid_of_registers_takes_one_fold_of_cycles_and_gets_the_product_right(m: int, n: int, k: int) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (m, k)), rng.integers(-9, 9, (k, n))
    product, cycles = stationary_array(a, b)
    assert (product == a @ b).all()
    assert cycles == compute_cycles("ws", "none", m, n, k, rows=k, columns=n)
    product, cycles = stationary_array(b.T, a.T)
    assert (a @ b == product.T).all()
    assert cycles == compute_cycles("is", "none", m, n, k, rows=k, columns=m)
    product, cycles = output_stationary_array(a, b)
    assert (product == a @ b).all()
    assert cycles == compute_cycles("os", "none", m, n, k, rows=m, columns=n)


def busy(start: int, stream: int, r: int, c: int) -> NDArray[np.int64]:
    """[r, c, 2]: first cycle of each PE in a fold whose stream starts at `start`, and the cycle after its last."""
    first = start + np.add.outer(np.arange(r), np.arange(c))
    return np.stack([first, first + stream], axis=-1)


@given(load=st.booleans(), stream=st.integers(1, 30), r=st.integers(1, 12), c=st.integers(1, 12))
def test_an_interval_is_the_shortest_without_two_folds_in_one_place(load: bool, stream: int, r: int, c: int) -> None:
    load_length = r if load else 0
    present = busy(0, stream, r, c)

    def clash(overlap: rules.Overlap, interval: int) -> bool:
        following = busy(interval, stream, r, c)
        if overlap == "none":
            return bool((following[..., 0].min() - load_length) < present[..., 1].max())
        if overlap == "fold":
            hazard = (following[..., 0].min(axis=1) < present[..., 1].max(axis=1)).any()
        else:
            hazard = (following[..., 0] < present[..., 1]).any()
        return bool(hazard or interval < load_length)

    for overlap in get_args(rules.Overlap):
        interval = interval_cycles(overlap, load_length, stream, r, c)
        assert not clash(overlap, interval)
        assert clash(overlap, interval - 1)


def test_the_words_are_those_of_the_specification() -> None:
    assert get_args(rules.Dataflow) == get_args(spec.Dataflow)
    assert get_args(rules.Overlap) == get_args(spec.Overlap)
    assert skew_cycles(1, 1) == 0
