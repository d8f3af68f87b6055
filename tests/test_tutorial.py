"""The tutorial runs as it stands: files are saved under the name in their first line, commands run in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that looks like the repository's root, with `nmsim` and `python` those of this test."""
    (tmp_path / "arch_configs").symlink_to(ROOT / "arch_configs")
    (tmp_path / "bin").mkdir()
    for name, command in (("nmsim", '-m nmsim "$@"'), ("python", '"$@"'), ("pip", '-c "" # "$@"')):
        script = tmp_path / "bin" / name
        script.write_text(f"#!/bin/sh\nexec {sys.executable} {command}\n")
        script.chmod(0o755)
    return tmp_path


@pytest.mark.slow
def test_the_tutorial_runs(place: Path) -> None:
    environment = os.environ | {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    said = []
    for kind, text in BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text()):
        if kind in ("python", "yaml"):
            name = text.splitlines()[0].removeprefix("# ")
            assert re.fullmatch(r"\w+\.(py|yaml)", name), text
            (place / name).write_text(text)
        else:
            assert kind == "sh"
            command = ["sh", "-ec", text]
            ran = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
            assert ran.returncode == 0, f"{text}\n{ran.stdout}\n{ran.stderr}"
            said.append(ran.stdout)
    assert (place / "reports" / "study" / "index.html").stat().st_size > 10_000
    everything = "".join(said)
    for words in ("2:4", "18 points, 0 of which can't be simulated", "18 simulated now", "in A and B: machine", "x over dense"):
        assert words in everything
