"""A candidate that is not simulated could not have won."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.api import load_arch
from nmsim.arch.load import load_gpu
from nmsim.arch.spec import TileSpec
from nmsim.hw.timing import chip_timing
from nmsim.mapping.candidates import build_plan, rank
from nmsim.mapping.lower import lower_dense, lower_nm
from nmsim.run import choice
from nmsim.run.choice import RunOptions, best_kernel, capped_cycles, run_at, worth_running
from nmsim.run.kernel import run_kernel_below
from nmsim.run.least import least_cycles
from nmsim.run.mainloops import mainloop_timing
from nmsim.run.single import what_if_gemm
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import TICKS_PER_CYCLE

sides = st.integers(1, 700)


@pytest.fixture(scope="module")
def spec(ampere):
    return load_arch(ampere)


@settings(deadline=None, max_examples=25)
@given(m=sides, n=sides, k=st.integers(1, 3000), batch=st.integers(1, 3), sparse=st.booleans(), warm=st.booleans())
def test_no_candidate_beats_its_least_time_and_the_choice_is_the_fastest_of_all(spec, m, n, k, batch, sparse, warm) -> None:
    gemm = what_if_gemm(m, n, k, batch, "fp16", "fp16")
    problem = lower_nm(gemm, "b", NMPattern(2, 4)) if sparse else lower_dense(gemm)
    options, clock_mhz = RunOptions(l2="warm" if warm else "cold"), spec.clock.boost_mhz
    runs = [run_at(spec, build_plan(spec, candidate), clock_mhz, options) for candidate in worth_running(spec, problem)]
    for run in runs:
        mainloop = mainloop_timing(spec, run.plan.mainloop, run.plan.occupancy)
        assert least_cycles(chip_timing(spec, clock_mhz), run.plan, mainloop.ticks()) <= run.cycles
    fastest = min(runs, key=lambda run: capped_cycles(spec, run) * spec.kernels.reluctance(run.plan.split_k))
    chosen = best_kernel(spec, problem, options)
    assert (chosen.plan.name, chosen.plan.split_k, chosen.cycles) == (fastest.plan.name, fastest.plan.split_k, fastest.cycles)


def test_a_hopeless_candidate_is_not_simulated(ampere, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 64 x 64 ask the L2 for so many bytes that no order of events makes up for it, where 256 x 128 fill the machine once."""
    simulated, spec = [], load_gpu(ampere)
    large, small = TileSpec(cta=(256, 128, 128), warp=(64, 64), stages=3), TileSpec(cta=(64, 64, 128), warp=(32, 32), stages=3)
    library = spec.kernels.model_copy(update={"tiles": (large, small), "max_split_k": 1})
    spec = spec.model_copy(update={"kernels": library})

    def watched(run):
        def watching(*arguments, **options):
            simulated.append(arguments)
            return run(*arguments, **options)

        return watching

    for name in ("run_at", "run_kernel_below"):
        monkeypatch.setattr(choice, name, watched(getattr(choice, name)))
    problem = lower_dense(what_if_gemm(2304, 1536, 512, 1, "fp16", "fp16"))
    best_kernel(spec, problem, RunOptions())
    assert 1 <= len(simulated) < len(worth_running(spec, problem))


@settings(deadline=None, max_examples=25)
@given(m=sides, n=sides, k=st.integers(1, 3000), share=st.floats(0.2, 1.2), engine=st.sampled_from(["compiled", "simpy"]))
def test_a_run_is_given_up_exactly_where_it_would_take_too_long(spec, m, n, k, share, engine) -> None:
    problem, clock_mhz = lower_dense(what_if_gemm(m, n, k, 1, "fp16", "fp16")), spec.clock.boost_mhz
    plan = build_plan(spec, rank(spec, problem, 1)[0])
    whole = run_at(spec, plan, clock_mhz, RunOptions())
    assert run_kernel_below(spec, plan, clock_mhz, whole.cycles, engine=engine) is None
    for limit in (whole.cycles * share, whole.cycles + 1 / TICKS_PER_CYCLE):
        run = run_kernel_below(spec, plan, clock_mhz, limit, engine=engine)
        assert (run is not None) == (limit > whole.cycles)
        assert run is None or (run.cycles, run.stall_cycles) == (whole.cycles, whole.stall_cycles)
