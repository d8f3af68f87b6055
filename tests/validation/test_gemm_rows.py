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
