"""What is written is read back, to the same bytes, and nothing half-written is ever taken for a result."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nmsim.errors import InputError, PhysicsError
from nmsim.result.frames import key_of
from nmsim.result.rows import SimulationResult
from nmsim.result.schema import TABLES
from nmsim.result.store import read_results, write_results

MakeResult = Callable[..., SimulationResult]


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in sorted(directory.rglob("*")) if file.is_file()}


@pytest.fixture
def stored(make_result: MakeResult, tmp_path: Path) -> Path:
    """The folder of one stored run."""
    return write_results([make_result()], tmp_path / "results")[0]


def test_results_are_read_back_as_written_ordered_by_trace(make_result: MakeResult, tmp_path: Path) -> None:
    results = tuple(make_result(seed) for seed in range(3))
    write_results(reversed(results), tmp_path)
    assert read_results(tmp_path) == results


def test_the_same_result_gives_the_same_bytes_under_its_key(make_result: MakeResult, tmp_path: Path) -> None:
    result = make_result()
    for name in ("first", "second"):
        assert write_results([result], tmp_path / name) == (tmp_path / name / key_of(result),)
    assert files_of(tmp_path / "first") == files_of(tmp_path / "second")


def test_a_folder_holds_three_tables_and_the_manifest_and_no_leftovers(stored: Path) -> None:
    assert sorted(file.name for file in stored.iterdir()) == ["counters.parquet", "kernels.parquet", "manifest.json", "runs.parquet"]
    assert list(stored.parent.iterdir()) == [stored]


def test_writing_again_replaces_the_run(make_result: MakeResult, stored: Path) -> None:
    renamed = replace(make_result(), notes=("another note",))
    write_results([renamed], stored.parent)
    assert read_results(stored.parent) == (renamed,)
    assert list(stored.parent.iterdir()) == [stored]


def test_one_run_folder_can_be_read_by_itself(make_result: MakeResult, stored: Path) -> None:
    assert read_results(stored) == (make_result(),)


def test_tables_are_plain_zstd_parquet_with_every_column_required(stored: Path) -> None:
    for name, columns in TABLES.items():
        file = pq.ParquetFile(stored / f"{name}.parquet")
        assert file.schema_arrow.names == list(columns)
        assert not any(field.nullable for field in file.schema_arrow)
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_run_that_is_killed_before_the_rename_leaves_no_result(
    make_result: MakeResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            write_results([make_result()], tmp_path)
    with pytest.raises(InputError, match="the folder holds no results"):
        read_results(tmp_path)
    write_results([make_result()], tmp_path)
    assert read_results(tmp_path) == (make_result(),)


def test_what_a_killed_run_leaves_under_its_temporary_name_is_never_read(make_result: MakeResult, stored: Path) -> None:
    shutil.copytree(stored, stored.with_name(f".{stored.name}.left"))
    assert read_results(stored.parent) == (make_result(),)


def test_a_failed_replacement_leaves_the_old_run_in_its_place(
    make_result: MakeResult, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def full_disk(self: Path, target: Path) -> Path:
        if target == stored and not self.name.endswith(".old"):
            raise OSError(errno.ENOSPC, "the disk is full")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full_disk)
    with pytest.raises(InputError, match="the disk is full"):
        write_results([replace(make_result(), notes=())], stored.parent)
    assert read_results(stored.parent) == (make_result(),)
    assert list(stored.parent.iterdir()) == [stored]


def test_a_worker_that_finishes_second_lets_the_first_stand(
    make_result: MakeResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = make_result()
    rename = Path.rename

    def rename_after_the_other_worker(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        write_results([result], tmp_path)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_after_the_other_worker)
    (place,) = write_results([result], tmp_path)
    assert list(tmp_path.iterdir()) == [place]
    assert read_results(tmp_path) == (result,)


def test_totals_that_are_not_the_sums_of_the_rows_are_not_stored(make_result: MakeResult, tmp_path: Path) -> None:
    result = make_result()
    with pytest.raises(PhysicsError, match="are not the sums of its rows"):
        write_results([replace(result, rows=result.rows[1:])], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_place_that_cannot_be_written_is_named_and_left_clean(
    make_result: MakeResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, "the disk says no")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(InputError) as refused:
        write_results([make_result()], tmp_path)
    assert str(refused.value) == f"{tmp_path}: cannot write results here (the disk says no); choose another folder with --out"
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_the_folder_is_refused(make_result: MakeResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write results here"):
        write_results([make_result()], tmp_path / "file")


def test_a_missing_folder_and_an_empty_one_say_how_to_get_results(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such folder of results; write one with `nmsim simulate"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"the folder holds no results; write some with `nmsim simulate"):
        read_results(tmp_path)


@pytest.mark.parametrize("table", list(TABLES))
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_table_cut_short_is_refused_by_name(stored: Path, table: str, kept: float) -> None:
    file = stored / f"{table}.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(InputError, match=f"{table}.parquet: the {table} table is damaged or cut short; delete its folder"):
        read_results(stored.parent)


def test_a_table_damaged_in_the_middle_is_refused(stored: Path) -> None:
    file = stored / "counters.parquet"
    data = bytearray(file.read_bytes())
    data[4:400] = bytes(396)
    file.write_bytes(bytes(data))
    with pytest.raises(InputError, match="the counters table is damaged or cut short"):
        read_results(stored.parent)


def test_a_missing_table_is_refused_by_name(stored: Path) -> None:
    (stored / "kernels.parquet").unlink()
    with pytest.raises(InputError, match=r"kernels.parquet: the kernels table is missing"):
        read_results(stored.parent)


def test_a_table_with_other_rows_or_columns_than_announced_is_refused(stored: Path) -> None:
    file = stored / "kernels.parquet"
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table.slice(1), file)
    with pytest.raises(InputError, match="does not have the 18 rows that its manifest counts, got 17"):
        read_results(stored.parent)
    pq.write_table(table.append_column("extra", pa.array([0] * table.num_rows)), file)
    with pytest.raises(InputError, match="the kernels table has other columns than"):
        read_results(stored.parent)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema": "nmsim-results/0"}, "another schema than this version of nmsim reads .*, got 'nmsim-results/0'"),
        ({"schema": None}, "another schema than this version of nmsim reads"),
        ({"rows": 3}, "rows: must be an object, got 3"),
        ({"provenance": "x"}, "provenance: must be an object, got 'x'"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(stored: Path, change: dict[str, object], sentence: str) -> None:
    file = stored / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=sentence):
        read_results(stored.parent)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_manifest_that_is_no_object_is_refused(stored: Path, text: str) -> None:
    (stored / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json"):
        read_results(stored.parent)


def test_no_stored_file_holds_a_time_of_day(stored: Path) -> None:
    manifest = json.loads((stored / "manifest.json").read_text())
    assert set(manifest) == {"schema", "run_key", "rows", "provenance"}
    assert all(set(pq.read_schema(stored / f"{name}.parquet").metadata) == {b"nmsim_schema"} for name in TABLES)


def test_folders_of_others_are_passed_over_even_where_they_have_a_manifest(make_result: MakeResult, stored: Path) -> None:
    for name, text in (
        ("gpt.nmtrace", '{"schema": "nmsim-trace/1"}'),
        ("web-app", '{"name": "an app", "icons": []}'),
        ("broken", "\udcff{".encode("utf-8", "surrogateescape").decode("latin-1")),
    ):
        (stored.parent / name).mkdir()
        (stored.parent / name / "manifest.json").write_text(text, encoding="latin-1")
    stored.rename(stored.with_name("renamed by its owner"))
    assert read_results(stored.parent) == (make_result(),)
    (stored.parent / ("a" * 64)).mkdir()
    (stored.parent / ("a" * 64) / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="not a readable results manifest"):
        read_results(stored.parent)


def test_a_row_of_a_phase_that_there_is_not_is_damage_and_no_fault_of_the_simulator(stored: Path) -> None:
    table = pq.read_table(stored / "kernels.parquet", partitioning=None)
    place = table.schema.get_field_index("phase")
    damaged = table.set_column(place, table.schema.field(place), pa.array(["for-ard"] * table.num_rows))
    pq.write_table(damaged, stored / "kernels.parquet")
    with pytest.raises(InputError, match=r"the tables do not make a result \(.*'for-ard'.*\); delete it and simulate again"):
        read_results(stored)
