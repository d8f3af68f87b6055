"""A user's own file is read cell by cell, and each wrong cell is named."""

from pathlib import Path

import pytest

from nmsim.errors import InputError
from nmsim.validation.gemm_rows import comparisons_of, read_gemm_rows, simulate_rows
from nmsim.validation.measured import Context

HEADER = "id,arch,m,n,k,dense_us,sparse_us\n"


def file_of(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "mine.csv"
    path.write_text(header + "".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("x,ampere.yaml,64,64,64,,", "dense_us"),
        ("x,ampere.yaml,64,64,64,-1,", "dense_us"),
        ("x,ampere.yaml,64,64,64,nan,", "dense_us"),
        ("x,ampere.yaml,64,64,64,,1e999", "sparse_us"),
        ("x,ampere.yaml,0,64,64,1,", "m"),
        ("x,ampere.yaml,64,64.5,64,1,", "n"),
        ("x,ampere.yaml,64,64,,1,", "k"),
        (",ampere.yaml,64,64,64,1,", "id"),
        ("x,,64,64,64,1,", "arch"),
        ("x,ampere.yaml,64,64,64,1", "cells"),
        ("x,ampere.yaml,64,64,64,1,,5", "cells"),
    ],
)
def test_a_wrong_cell_is_named_with_its_line(line: str, names: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, "first,ampere.yaml,64,64,64,1,", line)
    with pytest.raises(InputError, match=names) as error:
        read_gemm_rows(path)
    assert str(error.value).startswith(f"{path}:3")


@pytest.mark.parametrize(
    ("header", "line", "says"),
    [
        (",l2", "x,ampere.yaml,64,64,64,1,,hot", "l2: is no state of the L2, got 'hot'; write cold or warm, or leave it empty"),
        (",pattern", "x,ampere.yaml,64,64,64,1,2,2-4", "pattern: not an N:M pattern, got '2-4'"),
        (",dtype", "x,ampere.yaml,64,64,64,1,,half", "dtype: NVIDIA A100 SXM4 80GB has no such element type, got 'half'; use one of bf16"),
        (",out_dtype", "x,ampere.yaml,64,64,64,1,,half", "out_dtype: NVIDIA A100 SXM4 80GB has no such element type, got 'half'"),
        (",set", "x,ampere.yaml,64,64,64,1,,sm.cores=4", "set: --set sm.cores=4"),
        ("", "x,absent.yaml,64,64,64,1,", "arch: no such architecture file, got 'absent.yaml'"),
        ("", "x,ampere.yaml,2000000,2000000,64,1,", "GiB of DRAM"),
        (",l2", "x,sat.yaml,64,64,64,1,,warm", "l2: is said of sat.yaml, which has no L2, got 'warm'; leave it empty"),
    ],
)
def test_what_only_the_machine_can_refuse_is_named_with_its_line_too(header: str, line: str, says: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, "first,ampere.yaml,64,64,64,1," + "," * header.count(","), line, header=HEADER.strip() + header + "\n")
    with pytest.raises(InputError) as error:
        list(simulate_rows(Context(data=path), read_gemm_rows(path)))
    assert str(error.value).startswith(f"{path}:3: ")
    assert says in str(error.value)


def test_what_the_command_line_changes_wrongly_is_not_blamed_on_a_row(tmp_path: Path) -> None:
    path = file_of(tmp_path, "x,ampere.yaml,64,64,64,1,")
    with pytest.raises(InputError) as error:
        list(simulate_rows(Context(overrides=("sm.cores=4",), data=path), read_gemm_rows(path)))
    assert str(error.value).startswith("--set sm.cores=4")


def test_files_of_a_spreadsheet_are_read_or_refused_with_the_fix(tmp_path: Path) -> None:
    path = file_of(tmp_path, "x,ampere.yaml,64,64,64,1,", header="\ufeff" + HEADER)
    assert [row.id for row in read_gemm_rows(path)] == ["x"]
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        path = file_of(tmp_path, "x,ampere.yaml,64,64,64,1,".replace(",", separator), header=HEADER.replace(",", separator))
        with pytest.raises(InputError, match=f":1: has its cells separated by {name}; save it with commas"):
            read_gemm_rows(path)


@pytest.mark.parametrize(
    ("column", "meant"), [("patern", "pattern"), ("Pattern", "pattern"), ("outdtype", "out_dtype"), ("dense_ms", None)]
)
def test_a_misspelt_column_is_refused_and_one_of_the_readers_own_is_not(column: str, meant: str | None, tmp_path: Path) -> None:
    path = file_of(tmp_path, "x,ampere.yaml,64,64,64,1,,1:4", header=f"{HEADER.strip()},{column}\n")
    if meant is None:
        assert len(read_gemm_rows(path)) == 1
    else:
        with pytest.raises(InputError, match=f":1: {column}: is no column of this format; did you mean {meant}"):
            read_gemm_rows(path)


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="l2: is the name of two columns"):
        read_gemm_rows(file_of(tmp_path, "x,ampere.yaml,64,64,64,1,,cold,warm", header=f"{HEADER.strip()},l2,l2\n"))


def test_a_row_says_which_pattern_ran(tmp_path: Path) -> None:
    header = f"{HEADER.strip()},pattern\n"
    path = file_of(tmp_path, "a,volta.yaml,64,64,64,,1,2:4", "b,ampere.yaml,64,64,64,,1,1:4", "c,sat.yaml,64,64,64,,1,1:4", header=header)
    found = [comparison for one in simulate_rows(Context(), read_gemm_rows(path)) for comparison in comparisons_of(one)]
    assert [row.quantity for row in found] == ["2:4 as dense time", "1:4 as 2:4 time", "1:4 time"]
    assert "runs dense" in found[0].note
    assert "1:4 runs as 2:4" in found[1].note
    assert found[2].note == ""


def test_a_repeated_id_a_missing_column_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="earlier line"):
        read_gemm_rows(file_of(tmp_path, "x,ampere.yaml,64,64,64,1,", "x,ampere.yaml,64,64,64,2,"))
    with pytest.raises(InputError, match="'sparse_us'"):
        read_gemm_rows(file_of(tmp_path, header="id,arch,m,n,k,dense_us\n"))
    with pytest.raises(InputError, match="no rows"):
        read_gemm_rows(file_of(tmp_path))
    with pytest.raises(InputError, match="cannot be read"):
        read_gemm_rows(tmp_path / "absent.csv")


def test_a_row_is_compared_in_what_was_measured_and_nothing_else(tmp_path: Path) -> None:
    rows = read_gemm_rows(file_of(tmp_path, "d,ampere.yaml,64,64,64,4,", "s,ampere.yaml,64,64,64,,6", "both,ampere.yaml,64,64,64,4,6"))
    found = {one.row.id: comparisons_of(one) for one in simulate_rows(Context(), rows)}
    assert [row.quantity for row in found["d"]] == ["dense time"]
    assert [row.quantity for row in found["s"]] == ["2:4 time"]
    dense, sparse, speedup = found["both"]
    assert speedup.published == pytest.approx(4 / 6)
    assert speedup.simulated == pytest.approx(dense.simulated / sparse.simulated)


def test_an_architecture_may_lie_beside_the_data(tmp_path: Path, ampere: Path) -> None:
    (tmp_path / "mine.yaml").write_text(ampere.read_text())
    path = file_of(tmp_path, "d,mine.yaml,64,64,64,4,")
    assert len(list(simulate_rows(Context(data=path), read_gemm_rows(path)))) == 1
    with pytest.raises(InputError, match=r"absent\.yaml"):
        list(simulate_rows(Context(data=path), read_gemm_rows(file_of(tmp_path, "d,absent.yaml,64,64,64,4,"))))
