"""A run's stages, read from the traces beside the one that names them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nmsim.api import simulate, simulate_run
from nmsim.errors import InputError
from nmsim.workload.catalogue import linear_gemms
from nmsim.workload.history import History, write_history
from nmsim.workload.store import write_trace
from nmsim.workload.trace import Provenance, SparsifyPass, Trace

ARCH = "arch_configs/ampere.yaml"


def step(name, passes=(), schedule=()):
    provenance = Provenance("shapes-only", "mlp", "", "", {}, 0, 0, None, None, {})
    return Trace(name, provenance, 64, "bf16", tuple(linear_gemms("fc", 64, 128, 128, "bf16")), passes=passes, schedule=schedule)


def test_the_run_adds_the_steps_of_every_stage_and_needs_them_all(tmp_path):
    search = SparsifyPass("fc:mask_search", "mask_search", "fc", 1 << 20, 1 << 19, 0)
    schedule = ({"steps": 5, "trace": "main.nmtrace"}, {"steps": 1, "trace": "main-tail.nmtrace"})
    write_trace(step("main", (search,), schedule), tmp_path / "main.nmtrace")
    main = simulate(ARCH, tmp_path / "main.nmtrace")
    assert simulate_run(ARCH, tmp_path / "main.nmtrace", result=main) == {}
    write_trace(step("main-tail"), tmp_path / "main-tail.nmtrace")
    totals = simulate_run(ARCH, tmp_path / "main.nmtrace", result=main)
    tail = simulate(ARCH, tmp_path / "main-tail.nmtrace")
    assert tail.total["traced"].time_us < main.total["traced"].time_us
    assert totals["traced"].time_s == pytest.approx((5 * main.total["traced"].time_us + tail.total["traced"].time_us) / 1e6)
    assert totals["dense"].steps == 6
    assert simulate_run(ARCH, tmp_path / "main.nmtrace") == totals


def test_a_run_to_an_accuracy_ends_where_it_gets_there(tmp_path):
    schedule = ({"steps": 40, "trace": "main-dense.nmtrace"}, {"steps": 60, "trace": "main.nmtrace"})
    write_trace(step("main", schedule=schedule), tmp_path / "main.nmtrace")
    write_trace(step("main-dense"), tmp_path / "main-dense.nmtrace")
    with pytest.raises(InputError, match="never reached this accuracy: it has no history"):
        simulate_run(ARCH, tmp_path / "main.nmtrace", until_accuracy=0.5)
    steps = list(range(10, 101, 10))
    # A lucky batch at step 30 is no accuracy reached: five observed steps are averaged.
    accuracy = [0.1, 0.1, 0.9, 0.2, 0.2, 0.6, 0.7, 0.8, 0.8, 0.9]
    write_history(History(steps, [1.0] * 10, accuracy, [0.0] * 10), tmp_path / "main.nmtrace")
    whole = simulate_run(ARCH, tmp_path / "main.nmtrace")["traced"]
    for asked, taken in ((0.3, 30), (0.5, 70), (0.76, 100)):
        part = simulate_run(ARCH, tmp_path / "main.nmtrace", until_accuracy=asked)["traced"]
        assert part.steps == taken
        assert part.time_s == pytest.approx(whole.time_s * taken / 100)
    with pytest.raises(InputError, match=r"its best is 0\.7600, got 0\.9"):
        simulate_run(ARCH, tmp_path / "main.nmtrace", until_accuracy=0.9)


def test_a_step_without_a_schedule_is_no_run(tmp_path):
    write_trace(replace(step("alone"), schedule=()), tmp_path / "alone.nmtrace")
    assert simulate_run(ARCH, tmp_path / "alone.nmtrace") == {}
