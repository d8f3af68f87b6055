"""`--timeline` from the command line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from nmsim.cli.main import main
from nmsim.cli.timeline import timeline_window
from nmsim.errors import InputError

WORKLOADS = Path(__file__).parents[2] / "workloads"
GEMM = ["--m", "256", "--n", "256", "--k", "256"]


@pytest.fixture(scope="module")
def digits_trace() -> Path:
    return WORKLOADS / "digits_resnet_sr_ste_2to4.nmtrace"


def test_gemm_writes_the_timeline_beside_its_answer(ampere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.json.gz"
    assert main(["gemm", str(ampere), *GEMM, "--json"]) == 0
    alone = capsys.readouterr().out
    assert main(["gemm", str(ampere), *GEMM, "--json", "--timeline", str(file), "--sm", "0", "--cycles", "0:2000"]) == 0
    said = capsys.readouterr()
    assert said.out == alone
    assert "ui.perfetto.dev" in said.err
    assert json.loads(gzip.decompress(file.read_bytes()))["otherData"]["kernels"][0]["shape"] == "256 x 256 x 256"


def test_simulate_records_the_gemms_named(ampere: Path, digits_trace: Path, tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    identifier = json.loads((digits_trace / "manifest.json").read_text())["gemms"][3]["id"]
    base = ["simulate", str(ampere), str(digits_trace), "--baseline", "dense", "--rows", "1", "--timeline", str(file), "--sm", "0"]
    assert main([*base, "--timeline-gemm", identifier, "--timeline-gemm", identifier]) == 0
    assert [kernel["gemm"] for kernel in json.loads(file.read_text())["otherData"]["kernels"]] == [identifier] * 2


def test_a_gemm_that_is_not_there_two_traces_and_a_systolic_machine_are_refused(
    ampere: Path, digits_trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "t.json")
    assert main(["simulate", str(ampere), str(digits_trace), "--timeline", file, "--timeline-gemm", "no.such"]) == 2
    assert "holds no such GEMM, got 'no.such'" in capsys.readouterr().err
    assert main(["simulate", str(ampere), str(digits_trace), str(digits_trace), "--timeline", file]) == 2
    assert "a timeline is of one trace" in capsys.readouterr().err
    assert main(["gemm", str(ampere.with_name("systolic_32.yaml")), *GEMM, "--timeline", file]) == 2
    assert "timeline" in capsys.readouterr().err
    assert not Path(file).exists()


def test_sms_and_cycles_are_read_as_written() -> None:
    assert timeline_window("0-3", None).sms == (0, 1, 2, 3)
    assert timeline_window("7, 1-2,2", "5:").sms == (1, 2, 7)
    window = timeline_window("5", ":900")
    assert (window.first_cycle, window.end_cycle) == (0, 900)


@pytest.mark.parametrize(
    ("sms", "cycles"), [("", None), ("3-1", None), ("a", None), ("0-999999", None), ("0", "9:9"), ("0", "7"), ("0", "-1:4")]
)
def test_anything_else_is_refused(sms: str, cycles: str | None) -> None:
    with pytest.raises(InputError, match=r"^--(sm|cycles): "):
        timeline_window(sms, cycles)
