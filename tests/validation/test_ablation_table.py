"""Each mechanism can be switched off on each machine that its suites use, and the table says what that moves."""

import pytest

from nmsim.validation import ablation
from nmsim.validation.ablation import MECHANISMS, SUITES, Mechanism, ablate
from nmsim.validation.measured import Comparison, Context, Measured


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda mechanism: mechanism.name)
def test_a_mechanism_can_be_switched_off_and_changes_the_machine(mechanism: Mechanism) -> None:
    assert set(mechanism.suites) <= set(SUITES)
    for arch in ("ampere.yaml", "ampere_pcie.yaml"):
        assert Context(overrides=mechanism.off).machine(arch) != Context().machine(arch)


def test_the_table_has_a_value_where_a_mechanism_reaches_and_none_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the suites: an error of 2 % with the mechanism, 12 % without."""

    def measured(name: str, context: Context) -> Measured:
        wrong = 1.12 if context.overrides else 1.02
        tags = frozenset({"time", "m >= 2048", "speedup", "latency plateau", "bandwidth plateau", "knee"})
        return Measured((Comparison("row", "time", "us", 10.0, 10.0 * wrong, tags, "nobody"),))

    monkeypatch.setattr(ablation, "measure_suite", measured)
    monkeypatch.setattr(ablation, "MECHANISMS", (Mechanism("launch", ("launch.kernel_us=0",)),))
    rows = ablate(["memory", "gemm"], Context())
    intact, without = (row.values for row in rows)
    assert intact["gemm: mean error of time"] == pytest.approx(2)
    assert without["gemm: mean error of time"] == pytest.approx(12)
    assert intact["memory: worst knee"] == pytest.approx(2)
    assert without["memory: worst knee"] is None
    assert not any(bar.startswith("tensor_core") for bar in intact)
