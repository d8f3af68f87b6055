"""Caches notice an edit: the folder of compiled code and SM-level results is named by the hash of all that they are made from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nmsim
from nmsim.hw import chip_compiled
from nmsim.hw.chip_compiled import ENGINE_PACKAGES, OBJECT_FOLDER
from nmsim.hw.compiled_loop import chip_loop
from nmsim.hw.object_code import Compiled
from nmsim.keys import source_key

ONE_RULE = """
import json, sys
import numpy as np
from nmsim.hw.chip_compiled import OBJECT_FOLDER, cache_folder
from nmsim.hw.object_code import compiled_function
from nmsim.rules.server import serve
from nmsim.units import RATE_BITS

def busy(units):
    return serve(0, 0, 0, units[0], 3 << RATE_BITS)[1]

units = np.array([100])
ticks = compiled_function(busy, (units,), cache_folder() / OBJECT_FOLDER)(units)
print(json.dumps({"ticks": ticks, "folder": str(cache_folder())}))
"""
"""A rule called by a function that takes a moment to compile: kept on disk as the engine is."""
ENGINE = """
import json, sys
from nmsim.arch.load import load_arch
from nmsim.hw.chip_compiled import cache_folder, run_compiled
from nmsim.hw.timing import chip_timing
from nmsim.mapping.candidates import build_plan, rank
from nmsim.mapping.lower import lower_dense
from nmsim.run.mainloops import mainloop_timing
from nmsim.workload.catalogue import linear_gemms

spec = load_arch(sys.argv[1], ["sm.count=4"])
plan = build_plan(spec, rank(spec, lower_dense(linear_gemms("layer", 128, 256, 128, "fp16")[0]))[0])
mainloop = mainloop_timing(spec, plan.mainloop, plan.occupancy)
ticks = run_compiled(chip_timing(spec, 1410), plan, mainloop.ticks()).ticks
print(json.dumps({"ticks": ticks, "period": mainloop.period, "folder": str(cache_folder())}))
"""
MAINLOOP_ONLY = ENGINE.replace("run_compiled(chip_timing(spec, 1410), plan, mainloop.ticks()).ticks", "0")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with a copy of the package that a test may edit."""
    shutil.copytree(Path(nmsim.__file__).parent, tmp_path / "tree" / "nmsim", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "tree"


def run_in(tree: Path, arch: Path, cache: Path, script: str) -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": str(tree), "NMSIM_CACHE_DIR": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script, str(arch)], env=environment, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def compiled_files(cache: Path) -> set[Path]:
    """All that is kept beside the SM level's results."""
    return {file for file in cache.rglob("*") if file.is_file() and file.suffix != ".json"}


@pytest.mark.parametrize("script", [pytest.param(ONE_RULE, id="a rule"), pytest.param(ENGINE, id="the engine", marks=pytest.mark.slow)])
def test_an_edited_rule_changes_the_ticks_and_taking_the_edit_back_gives_the_old_ones_from_the_cache(
    tree: Path, ampere: Path, tmp_path: Path, script: str
) -> None:
    cache, rule = tmp_path / "cache", tree / "nmsim" / "rules" / "server.py"
    before = run_in(tree, ampere, cache, script)
    compiled = compiled_files(cache)
    assert compiled

    edit(rule, "work = units * rate + remainder", "work = 2 * units * rate + remainder")
    edited = run_in(tree, ampere, cache, script)
    assert edited["ticks"] > before["ticks"]
    assert edited["folder"] != before["folder"]
    with_edited = compiled_files(cache)
    assert compiled < with_edited

    edit(rule, "work = 2 * units * rate + remainder", "work = units * rate + remainder")
    assert run_in(tree, ampere, cache, script) == before
    assert compiled_files(cache) == with_edited  # nothing was compiled again


def test_the_engine_keeps_its_code_in_the_folder_of_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what holds of one rule above holds of the whole engine."""
    asked: list[tuple[object, Path]] = []

    def compiled(function: object, arguments: object, folder: Path) -> Compiled:
        asked.append((function, folder))
        return lambda *_: 0

    monkeypatch.setenv("NMSIM_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(chip_compiled, "compiled_function", compiled)
    chip_compiled._compiled_loop.__wrapped__()()
    assert asked == [(chip_loop, tmp_path / source_key(*ENGINE_PACKAGES)[:16] / OBJECT_FOLDER)]


def test_all_that_an_answer_is_made_of_names_the_folder() -> None:
    """Whatever module of nmsim the engine or the SM level loads is hashed, but for those that only say and name things."""
    script = """
import sys
import nmsim.hw.chip_compiled, nmsim.hw.sm_level, nmsim.hw.stream_level
print(*sorted({name.split(".")[1] for name in sys.modules if name.startswith("nmsim.")}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {*ENGINE_PACKAGES, "errors", "keys", "version"}


def test_an_edited_sm_level_is_simulated_again_and_an_unedited_one_is_not(tree: Path, ampere: Path, tmp_path: Path) -> None:
    cache, port = tmp_path / "cache", tree / "nmsim" / "hw" / "shared_memory.py"
    before = run_in(tree, ampere, cache, MAINLOOP_ONLY)
    (kept,) = cache.rglob("mainloops/*.json")
    kept.write_text(kept.read_text().replace(f"{before['period'][0][0]}, ", "12345, ", 1))
    assert run_in(tree, ampere, cache, MAINLOOP_ONLY)["period"][0][0] == 12345  # it was read back, not simulated

    edit(port, "port_bytes, self._rate)", "8 * port_bytes, self._rate)")
    edited = run_in(tree, ampere, cache, MAINLOOP_ONLY)
    assert edited["period"][0][0] > before["period"][0][0]
    assert edited["period"][0][0] != 12345
