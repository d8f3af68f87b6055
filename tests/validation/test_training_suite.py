"""The published MLP step, counted by hand."""

from nmsim.validation.suites.training import mlp_step

TOKENS, INPUTS, HIDDEN, OUTPUTS = 512, 64, 256, 128


def test_the_step_has_three_products_a_layer_and_two_thirds_of_them_sparse() -> None:
    trace = mlp_step("mlp", TOKENS, INPUTS, HIDDEN, OUTPUTS)
    assert sum(gemm.macs for gemm in trace.gemms) == 3 * TOKENS * HIDDEN * (INPUTS + OUTPUTS)
    sparse = [gemm.phase for gemm in trace.gemms if "nm" in (gemm.a.structure, gemm.b.structure)]
    assert sorted(sparse) == ["backward_data", "backward_data", "forward", "forward"]


def test_what_is_memory_bound_moves_the_bytes_of_the_activations_and_of_the_weights() -> None:
    trace = mlp_step("mlp", TOKENS, INPUTS, HIDDEN, OUTPUTS)
    wide = 2 * TOKENS * HIDDEN
    moved = {operator.id: operator.bytes_read + operator.bytes_written for operator in trace.operators}
    assert moved["gelu"] == 2 * wide
    assert moved["gelu_backward"] == 3 * wide
    for one, elements in zip(trace.passes, (INPUTS * HIDDEN, HIDDEN * OUTPUTS), strict=True):
        assert one.bytes_read == 2 * elements
        assert one.bytes_written == 2 * elements * 1.125  # twice half of the values and two bits for each of them
