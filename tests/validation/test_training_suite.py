"""The published MLP step, counted by hand."""

from nmsim.validation.suites.training import mlp_step

TOKENS, INPUTS, HIDDEN, OUTPUTS = 512, 64, 256, 128


def test_the_step_has_three_products_a_layer_and_two_thirds_of_them_sparse() -> None:
    trace = mlp_step("mlp", TOKENS, INPUTS, HIDDEN, OUTPUTS, masked_gradient=False)
    assert sum(gemm.macs for gemm in trace.gemms) == 3 * TOKENS * HIDDEN * (INPUTS + OUTPUTS)
    sparse = [gemm.phase for gemm in trace.gemms if "nm" in (gemm.a.structure, gemm.b.structure)]
    assert sorted(sparse) == ["backward_data", "backward_data", "forward", "forward"]


def test_what_is_memory_bound_moves_the_bytes_of_the_activations_and_of_the_weights() -> None:
    trace = mlp_step("mlp", TOKENS, INPUTS, HIDDEN, OUTPUTS, masked_gradient=False)
    wide = 2 * TOKENS * HIDDEN
    moved = {operator.id: operator.bytes_read + operator.bytes_written for operator in trace.operators}
    assert moved["gelu"] == 2 * wide
    assert moved["gelu_backward"] == 3 * wide
    for one, elements in zip(trace.passes, (INPUTS * HIDDEN, HIDDEN * OUTPUTS), strict=True):
        assert one.bytes_read == 2 * elements
        # twice half of the values and two bits for each of them, and a bit an element of the mask
        assert one.bytes_written == 2 * elements * 1.125 + elements / 8
    accumulated = {"input": TOKENS * INPUTS, "up": INPUTS * HIDDEN, "down": HIDDEN * OUTPUTS}
    assert {name: moved[f"accumulate_{name}"] for name in accumulated} == {name: 6 * count for name, count in accumulated.items()}
    assert not any(operator.id.startswith("bias") for operator in trace.operators)


def test_a_masked_gradient_is_a_pass_more_over_every_weight() -> None:
    straight, masked = (mlp_step("mlp", TOKENS, INPUTS, HIDDEN, OUTPUTS, masked_gradient=which).passes for which in (False, True))
    assert [one.module for one in masked if one not in straight] == ["up", "down"]
    assert all(one.bytes_read > one.bytes_written for one in masked if one not in straight)
