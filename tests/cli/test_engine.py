"""Which engine serves: the compiled one where numba is installed, else the readable one, with the same answers and one line to say so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from nmsim.api import simulate_gemm

SHAPE = {"m": 200, "n": 136, "k": 96}
WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None
from nmsim.cli.main import main
sys.exit(main())
"""


def test_without_numba_the_simpy_engine_serves_and_says_so_in_one_line(ampere: Path) -> None:
    arguments = [text for name, value in SHAPE.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, "-c", WITHOUT_NUMBA, "gemm", str(ampere), *arguments, "--pattern", "2:4", "--json"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=True)
    assert done.stderr == "numba is not installed: the simpy engine serves, with the same answers, slower\n"
    answer = json.loads(done.stdout)
    assert answer.pop("engine") == "simpy"
    compiled = json.loads(json.dumps(simulate_gemm(ampere, m=SHAPE["m"], n=SHAPE["n"], k=SHAPE["k"], pattern="2:4").to_json()))
    assert compiled.pop("engine") == "compiled"
    assert answer == compiled
