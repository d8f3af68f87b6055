"""Linear and attention GEMMs in the kernel's frame: swap, storage order, what a compressed operand stores."""

from hypothesis import given
from hypothesis import strategies as st

from nmsim.mapping.lower import lower_dense, lower_nm
from nmsim.mapping.problem import Problem
from nmsim.rules import box
from nmsim.sparsity.encoding import ENCODINGS, group_code
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.catalogue import attention_gemms, linear_gemms

TWO_FOUR = NMPattern(2, 4)


def stored(problem: Problem) -> dict[str, int]:
    return {tensor.name: tensor.rows * tensor.pitch_bytes for tensor in problem.tensors}


def test_each_phase_reads_its_operands_as_they_lie_in_memory() -> None:
    tokens, inputs, outputs = 24, 40, 56
    kinds = {
        gemm.phase: [view.kind for view in lower_dense(gemm).groups[0].operands]
        for gemm in linear_gemms("fc", tokens, inputs, outputs, "fp16")
    }
    assert kinds == {
        "forward": [box.ROWS, box.ROWS],  # X[T, I], W[O, I]
        "backward_data": [box.ROWS, box.COLUMNS],  # dY[T, O], W[O, I]
        "backward_weight": [box.COLUMNS, box.COLUMNS],  # dY[T, O], X[T, I]
    }


@given(tokens=st.integers(1, 99), inputs=st.integers(1, 99), outputs=st.integers(1, 99))
def test_a_dense_product_stores_each_tensor_once(tokens: int, inputs: int, outputs: int) -> None:
    for gemm in linear_gemms("fc", tokens, inputs, outputs, "fp16", out_dtype="fp32"):
        expected = {"A": gemm.m * gemm.k * 2, "B": gemm.n * gemm.k * 2, "D": gemm.m * gemm.n * 4}
        assert stored(lower_dense(gemm)) == expected


@given(data=st.data(), pattern=st.sampled_from([TWO_FOUR, NMPattern(1, 2), NMPattern(2, 8)]), encoding=st.sampled_from(ENCODINGS))
def test_a_sparse_b_runs_as_the_transposed_product(data: st.DataObject, pattern: NMPattern, encoding: str) -> None:
    tokens, inputs, outputs = (data.draw(st.integers(1, 99)) for _ in range(3))
    gemm = linear_gemms("fc", tokens, inputs, outputs, "fp16")[0]
    code = group_code(pattern, encoding)
    problem = lower_nm(gemm, "b", pattern, code)
    (group,) = problem.groups
    assert (group.m, group.n, group.k) == (gemm.n, gemm.m, gemm.k)
    assert [view.tensor for view in group.operands] == ["A", "B", "E"]
    assert group.output.dimension == 1  # D is still [m, n] in memory: its rows follow the kernel's n
    kept = -(-inputs // pattern.m) * pattern.n
    assert stored(problem) == {
        "A": outputs * kept * 2,
        "B": tokens * inputs * 2,
        "E": outputs * -(-code.stored_bits(-(-inputs // pattern.m)) // 8),
        "D": tokens * outputs * 2,
    }


def test_a_sparse_a_keeps_the_frame() -> None:
    gemm = linear_gemms("fc", 64, 32, 48, "fp16")[2]
    (group,) = lower_nm(gemm, "a", TWO_FOUR).groups
    assert (group.m, group.n, group.k) == (gemm.m, gemm.n, gemm.k)
    assert group.output.dimension == 0


def test_attention_products_are_batched_with_each_product_a_matrix_further_on() -> None:
    for gemm in attention_gemms("attention", 6, 16, 24, 8, "fp16"):
        problem = lower_dense(gemm)
        assert problem.batch == 6
        assert stored(problem) == {"A": 6 * gemm.m * gemm.k * 2, "B": 6 * gemm.n * gemm.k * 2, "D": 6 * gemm.m * gemm.n * 2}
        for view, side in zip(problem.groups[0].operands, (gemm.m, gemm.n), strict=True):
            assert view.fields[box.ROWS_PER_BATCH] == (side if view.kind == box.ROWS else gemm.k)
