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

SCRIPT = """
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
MAINLOOP_ONLY = SCRIPT.replace("run_compiled(chip_timing(spec, 1410), plan, mainloop.ticks()).ticks", "0")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with a copy of the package that a test may edit."""
    shutil.copytree(Path(nmsim.__file__).parent, tmp_path / "tree" / "nmsim", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "tree"


def run_in(tree: Path, arch: Path, cache: Path, script: str = SCRIPT) -> dict[str, Any]:
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


def test_an_edited_rule_changes_the_ticks_and_taking_the_edit_back_gives_the_old_ones_from_the_cache(
    tree: Path, ampere: Path, tmp_path: Path
) -> None:
    cache, rule = tmp_path / "cache", tree / "nmsim" / "rules" / "server.py"
    before = run_in(tree, ampere, cache)
    compiled = compiled_files(cache)
    assert compiled

    edit(rule, "work = units * rate + remainder", "work = 2 * units * rate + remainder")
    edited = run_in(tree, ampere, cache)
    assert edited["ticks"] > before["ticks"]
    assert edited["folder"] != before["folder"]
    with_edited = compiled_files(cache)
    assert compiled < with_edited

    edit(rule, "work = 2 * units * rate + remainder", "work = units * rate + remainder")
    assert run_in(tree, ampere, cache) == before
    assert compiled_files(cache) == with_edited  # nothing was compiled again


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
