"""Compiled code that is kept on disk does what numba's function does, and is never trusted blindly."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nmsim.hw import object_code
from nmsim.hw.object_code import compiled_function, object_file


def weighted(pair, table, out):
    total = 0
    for row in range(table.shape[0]):
        for column in range(table.shape[1]):
            total += table[row, column] * pair[0][row] - pair[1][column]
        out[row] = total
    return total


def quotient(out):
    return 7 // out[0]


def calls_outside(out):
    return int(math.gamma(out[0]))


def arguments():
    table = np.arange(12, dtype=np.int64).reshape(3, 4)
    return (np.array([2, 3, 5], dtype=np.int64), np.array([1, 1, 2, 9], dtype=np.int64)), table, np.zeros(3, dtype=np.int64)


def test_code_just_compiled_and_code_from_disk_agree_with_python(tmp_path: Path) -> None:
    python = arguments()
    expected = weighted(*python)
    for _ in range(2):  # compiled, then from disk
        given = arguments()
        assert compiled_function(weighted, given, tmp_path)(*given) == expected
        assert given[2].tolist() == python[2].tolist()
    assert object_file(tmp_path, "weighted").is_file()


def test_who_wants_to_know_is_told_when_something_is_compiled_and_not_when_it_is_on_disk(tmp_path: Path, monkeypatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(object_code, "before_compiling", [lambda: told.append(1)])
    for _ in range(2):
        given = arguments()
        compiled_function(weighted, given, tmp_path)(*given)
    assert told == [1]


@pytest.mark.parametrize("damage", [lambda code: code[:-9], lambda code: b"", lambda code: code[:200] + b"\xff" * 8 + code[208:]])
def test_a_file_that_is_not_whole_is_compiled_again(tmp_path: Path, damage) -> None:
    given = (np.array([2], dtype=np.int64),)
    compiled_function(quotient, given, tmp_path)
    file = object_file(tmp_path, "quotient")
    damaged = damage(file.read_bytes())
    file.write_bytes(damaged)
    assert compiled_function(quotient, given, tmp_path)(*given) == 3
    assert file.read_bytes() != damaged


def test_an_error_in_compiled_code_is_an_error_in_python(tmp_path: Path) -> None:
    given = (np.zeros(1, dtype=np.int64),)
    with pytest.raises(ArithmeticError, match="status"):
        compiled_function(quotient, given, tmp_path)(*given)


def test_a_function_that_calls_outside_itself_still_runs_but_is_not_kept(tmp_path: Path) -> None:
    given = (np.full(1, 5, dtype=np.int64),)
    assert compiled_function(calls_outside, given, tmp_path)(*given) == 24
    assert not object_file(tmp_path, "calls_outside").exists()


def test_a_folder_that_cannot_be_written_only_costs_the_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    given = (np.array([2], dtype=np.int64),)
    assert compiled_function(quotient, given, tmp_path / "file")(*given) == 3


@pytest.mark.parametrize("array", [np.zeros((3, 4), dtype=np.int64).T, np.zeros((3, 4), dtype=np.int32)])
def test_an_array_of_another_layout_or_type_is_refused_by_code_from_disk(tmp_path: Path, array) -> None:
    given = arguments()
    call = compiled_function(weighted, given, tmp_path)
    with pytest.raises(TypeError, match="contiguous int64"):
        call(given[0], array, given[2])


def test_a_kernel_of_which_the_code_is_on_disk_runs_without_importing_numba() -> None:
    program = """
import sys
from nmsim.api import simulate_gemm
for _ in range(2):
    simulate_gemm("arch_configs/ampere.yaml", m=256, n=256, k=256)
print("numba" in sys.modules)
"""
    root = Path(__file__).parents[2]
    for _ in range(2):  # the first of them may have to compile
        done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
