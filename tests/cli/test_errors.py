import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from nmsim.cli.errors import debug_from_environment, guarded
from nmsim.errors import CheckFailed, InputError, NmsimError, PhysicsError


def ending(problem: BaseException | int | None, *, debug: bool = False) -> int:
    def command() -> object:
        if isinstance(problem, BaseException):
            raise problem
        return problem

    return guarded(command, lambda: debug)


@pytest.mark.parametrize(
    ("problem", "code", "line"),
    [
        (None, 0, ""),
        (0, 0, ""),
        (3, 3, ""),
        (
            InputError("must be positive", file="a.yaml", line=3, path="x", value=-1),
            2,
            "nmsim: error: a.yaml:3: x: must be positive, got -1\n",
        ),
        (InputError("two\nlines"), 2, "nmsim: error: two lines\n"),
        (CheckFailed("3 findings"), 1, "nmsim: check failed: 3 findings\n"),
        (NmsimError("no"), 1, "nmsim: error: no\n"),
        (KeyboardInterrupt(), 130, ""),
        (typer.Abort(), 130, ""),
        (SystemExit(4), 4, ""),
        (SystemExit(None), 0, ""),
        (SystemExit("why"), 1, ""),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_each_ending_has_its_code_and_at_most_one_line(
    problem: BaseException | int | None, code: int, line: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmsim.cli.errors._silence_stdout", lambda: None)  # this process still needs its stdout
    assert ending(problem) == code
    assert capfd.readouterr() == ("", line)


@pytest.mark.parametrize(
    "problem", [PhysicsError("bytes were lost"), ValueError(""), RuntimeError("x\ny"), AssertionError("odd"), RecursionError("deep")]
)
def test_our_own_faults_ask_for_a_report_in_one_line(problem: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    assert ending(problem) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("nmsim: internal error: ")
    assert "please report it" in err


@pytest.mark.parametrize("problem", [InputError("no"), CheckFailed("no"), PhysicsError("no"), ValueError("no")])
def test_debug_shows_the_traceback_and_keeps_the_code(problem: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    quiet = ending(problem)
    capfd.readouterr()
    assert ending(problem, debug=True) == quiet
    assert "Traceback (most recent call last)" in capfd.readouterr().err


@pytest.mark.parametrize(("value", "wanted"), [("1", True), ("yes", True), ("", False), ("0", False), ("False", False), ("no", False)])
def test_the_environment_variable_may_also_say_no(value: str, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMSIM_DEBUG", value)
    assert debug_from_environment() is wanted


WRITE_LITTLE = "import sys; from nmsim.cli.errors import guarded; sys.exit(guarded(lambda: print('x'), lambda: False))"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["-m", "nmsim", "arch", "show", "arch_configs/ampere.yaml"], ["-c", WRITE_LITTLE]])
def test_a_reader_that_goes_away_is_no_error(arguments: list[str], unbuffered: str, ampere: Path) -> None:
    with subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ampere.parents[1],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


def test_an_interrupt_is_quiet() -> None:
    code = (
        "import signal, sys, time\nfrom nmsim.cli.errors import guarded\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell in the background has its children ignore it
        "print('ready', flush=True)\nsys.exit(guarded(lambda: time.sleep(30), lambda: False))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        assert process.stderr.read() == b""
        assert process.wait(30) == 130
