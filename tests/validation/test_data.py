"""The committed rows, bars and list of fitted rows agree with each other and with the machines."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nmsim.arch.compose import read_extended
from nmsim.arch.load import load_gpu
from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern
from nmsim.validation.bars import read_bars
from nmsim.validation.fitted import FITTED_ROWS, read_fitted_rows
from nmsim.validation.gemm_rows import read_gemm_rows
from nmsim.validation.measured import find_arch
from nmsim.validation.suites import SUITES
from nmsim.validation.tabular import DATA, read_lines

ROOT = Path(__file__).parents[2]
MEASUREMENTS = sorted(path for path in DATA.glob("*.csv") if path != FITTED_ROWS)
GEMM_FILES = [path for path in MEASUREMENTS if path.name.startswith("gemm_")]


def source_texts(block: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """(dotted constant, source text) of everything a YAML document says a source of."""
    if isinstance(block, dict):
        for key, text in block.get("sources", {}).items():
            yield ".".join((*path, key)), text
        for key, inner in block.items():
            if key != "sources":
                yield from source_texts(inner, (*path, str(key)))
    elif isinstance(block, list):
        for index, inner in enumerate(entry for entry in block if isinstance(entry, dict)):
            named = "-".join(str(inner[key]) for key in ("dtype", "accumulator", "pattern", "shape") if key in inner)
            yield from source_texts(inner, (*path, named or str(index)))


def sources_of(arch: Path) -> list[tuple[str, str]]:
    return list(source_texts(read_extended(arch).data))


def fitted_constants() -> list[tuple[str, str, str]]:
    found = []
    for arch in sorted((ROOT / "arch_configs").glob("*.yaml")):
        found += [(arch.name, constant, text) for constant, text in sources_of(arch) if "fitted" in text.lower()]
    return found


@pytest.mark.parametrize(("arch", "constant", "text"), fitted_constants())
def test_a_constant_that_says_it_was_fitted_names_rows_of_the_list(arch: str, constant: str, text: str) -> None:
    listed = [row for row in read_fitted_rows() if row.constant == constant]
    assert listed, f"{arch}: {constant} is fitted; name its rows in {FITTED_ROWS.name}"
    assert any(row.publication in text for row in listed)


def test_every_listed_constant_says_where_it_comes_from() -> None:
    """A fitted one says so; one that was read off its row is a measurement or derived from it."""
    stated = {(arch.name, constant): text for arch in (ROOT / "arch_configs").glob("*.yaml") for constant, text in sources_of(arch)}
    for row in read_fitted_rows():
        text = stated[row.arch, row.constant]
        assert row.publication in text
        assert any(word in text for word in (("measured", "derived") if row.how.startswith("taken") else ("fitted",)))


def test_every_listed_row_exists() -> None:
    rows = {line.required("id") for path in MEASUREMENTS for line in read_lines(path, ["id"])}
    assert all(any(f"{fitted.row} ".startswith(f"{row} ") for row in rows) for fitted in read_fitted_rows())


@pytest.mark.parametrize("path", MEASUREMENTS, ids=lambda path: path.stem)
def test_every_row_has_its_own_name_a_source_and_a_status(path: Path) -> None:
    lines = read_lines(path, ["id", "source", "status"])
    assert len({line.required("id") for line in lines}) == len(lines)
    assert all(line.required("source") and line.required("status") for line in lines)


def test_every_suite_has_bars_and_every_bar_a_suite() -> None:
    assert set(read_bars()) == set(SUITES)


def test_every_bar_and_check_says_why() -> None:
    for suite in read_bars().values():
        assert suite.bars or suite.checks
        assert all(bar.why for bar in suite.bars)
        assert all(suite.checks.values())


@pytest.mark.parametrize("path", GEMM_FILES, ids=lambda path: path.stem)
def test_gemm_rows_are_on_machines_that_exist_and_no_faster_than_the_tensor_cores(path: Path) -> None:
    """A row beyond what the tensor cores can do at the boost clock is misread. GeForce cards run above it: a tenth is allowed."""
    rows = read_gemm_rows(path)
    machines = {name: load_gpu(find_arch(name)) for name in {row.arch for row in rows}}
    for row in rows:
        spec = machines[row.arch]
        most = 1.1 if "GeForce" in spec.name else 1.0
        for time_us, k, pattern in ((row.dense_us, row.k, None), (row.sparse_us, row.k, NMPattern.parse(row.pattern))):
            if time_us is not None:
                macs_per_us = spec.peak_macs_per_cycle(row.dtype, pattern) * spec.clock.boost_mhz
                assert row.m * row.n * k / time_us < most * macs_per_us


def test_bars_that_do_not_follow_the_schema_are_named(tmp_path: Path) -> None:
    file = tmp_path / "suites.yaml"
    file.write_text("gemm:\n  bars:\n    - {name: x, statistic: median, rows: [], limit: 1, why: y}\n")
    with pytest.raises(InputError, match=r"bars\.0\.statistic"):
        read_bars(file)
