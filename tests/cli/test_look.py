"""What every command looks like: completion, colour on a terminal alone and never with NO_COLOR, tables of eighty columns."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmsim.cli.main import COMMANDS
from nmsim.workload.store import write_trace
from tests.sweep.conftest import recorded

ROOT = Path(__file__).parents[2]
Run = Callable[..., Any]


def completed(words: str) -> list[str]:
    """What bash is told for a line whose last word is being typed."""
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), "_NMSIM_COMPLETE": "complete_bash"}
    ran = subprocess.run([sys.executable, "-m", "nmsim"], cwd=ROOT, env=os.environ | asked, capture_output=True, text=True, check=False)
    return ran.stdout.split()


def on_a_terminal(arguments: list[str], columns: int, **variables: str) -> str:
    """What a command writes to a terminal of so many columns."""
    terminal, side = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm-256color"} | variables
    command = [sys.executable, "-m", "nmsim", *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=side, stdout=side, stderr=side) as running:
        os.close(side)
        written = b""
        while True:
            try:
                part = os.read(terminal, 65536)
            except OSError:  # the other side is closed: Linux says so by an error
                break
            if not part:
                break
            written += part
    os.close(terminal)
    assert running.returncode == 0, written
    return written.decode()


def test_commands_and_their_options_are_completed() -> None:
    assert completed("nmsim ") == list(COMMANDS)
    assert completed("nmsim co") == ["compare"]
    assert set(completed("nmsim sweep --pa")) == {"--pattern"}
    assert set(completed("nmsim arch ")) == {"check", "show"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown_for_a_shell(nmsim: Run, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda *_: (shell, f"/bin/{shell}"))
    ran = nmsim("--show-completion")
    assert ran.code == 0
    assert "_NMSIM_COMPLETE" in ran.out


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trace(recorded("layer", "sr-ste", "2:4", outputs=512), tmp_path_factory.mktemp("traces") / "layer.nmtrace")


def test_colour_is_for_terminals_and_off_with_no_color(ampere: Path, trace: Path) -> None:
    command = ["simulate", str(ampere), str(trace), "--baseline", "dense"]
    colours = re.compile(r"\x1b\[[0-9;]*3[0-9]|\x1b\[1m")
    assert colours.search(on_a_terminal(command, 100, NO_COLOR="")) is not None
    assert re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;5)", on_a_terminal(command, 100, NO_COLOR="1")) is None


@pytest.mark.parametrize("width", [80, 100])
def test_tables_fit_the_width_and_lose_no_number(
    nmsim: Run, ampere: Path, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr("nmsim.cli.tables.PIPED_WIDTH", width)
    out = tmp_path / "r"
    for command in (
        ("simulate", ampere, trace, "--batch", 4096, "--out", out),
        ("gemm", ampere, "--m", 8192, "--n", 8192, "--k", 1024, "--pattern", "2:4"),
        ("compare", out, out),
    ):
        ran = nmsim(*command)
        assert ran.code == 0, ran.err
        framed = [line for line in ran.out.splitlines() if line[:1] in "│┃┏┡├└ "]
        assert max(map(len, framed), default=0) <= width
        assert "…" not in ran.out
        assert not re.search(r"backward_(?!data|weight)", ran.out)
