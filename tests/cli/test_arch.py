import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmsim.arch.load import load_arch
from nmsim.arch.resolve import arch_key, resolved_arch

Run = Callable[..., Any]


def test_check_of_a_sound_file_says_so(nmsim: Run, ampere: Path) -> None:
    ran = nmsim("arch", "check", ampere)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{ampere}: ok, NVIDIA A100 SXM4 80GB: ")
    assert json.loads(nmsim("arch", "check", ampere, "--json").out) == {"file": str(ampere), "ok": True, "findings": [], "hints": []}


def test_check_of_a_value_without_a_source_fails_with_code_1(nmsim: Run, ampere: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"extends: {ampere}\nname: mine\nsm: {{count: 128}}\n")
    ran = nmsim("arch", "check", file)
    assert ran.code == 1
    assert ran.out == f"{file}:3: error: sm.count: has no source; add `count: ...` to sm.sources\n"
    assert ran.err == f"nmsim: check failed: {file}: 1 value(s) or source(s) to mend\n"
    as_json = nmsim("arch", "check", file, "--json")
    assert as_json.code == 1
    assert json.loads(as_json.out)["findings"] == [
        {"severity": "error", "file": str(file), "line": 3, "path": "sm.count", "problem": "has no source; add `count: ...` to sm.sources"}
    ]


def test_check_of_several_files_checks_each_and_fails_with_those_that_do(nmsim: Run, ampere: Path, tmp_path: Path) -> None:
    bad, worse = tmp_path / "bad.yaml", tmp_path / "worse.yaml"
    bad.write_text(f"extends: {ampere}\nname: bad\nsm: {{count: 128}}\n")
    worse.write_text(f"extends: {ampere}\nname: worse\nsm: {{count: 128, max_warps: 32}}\n")
    ran = nmsim("arch", "check", bad, ampere, worse)
    assert ran.code == 1
    assert f"{ampere}: ok, NVIDIA A100 SXM4 80GB: " in ran.out
    assert ran.out.count("error: sm.count: has no source") == 2
    assert f"{bad}: 1 value(s)" in ran.err
    assert f"{worse}: 2 value(s)" in ran.err
    as_json = nmsim("arch", "check", bad, ampere, worse, "--json")
    assert as_json.code == 1
    assert [(one["file"], one["ok"]) for one in json.loads(as_json.out)] == [(str(bad), False), (str(ampere), True), (str(worse), False)]


def test_a_warning_is_printed_and_does_not_fail_the_check(nmsim: Run, ampere: Path) -> None:
    ran = nmsim("arch", "check", ampere, "--set", "tensor_core.decoder.codes_per_cycle=32")
    assert (ran.code, ran.err) == (0, "")
    assert "warning: tensor_core.mma.20: consumes 512 metadata codes in 8 cycles" in ran.out


def test_what_the_recorded_steps_need_is_said_before_one_is_simulated(nmsim: Run, ampere: Path) -> None:
    volta = ampere.with_name("volta.yaml")
    ran = nmsim("arch", "check", volta)
    assert (ran.code, ran.err) == (0, "")
    assert f"{volta}: hint: tensor_core.mma has no dense bf16 instruction" in ran.out
    assert "--dtype and one of fp16" in json.loads(nmsim("arch", "check", volta, "--json").out)["hints"][0]


def test_a_file_that_stands_on_nothing_is_told_what_to_stand_on(nmsim: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nkind: gpu\n")
    assert "the key 'schema' is missing; add `schema: nmsim-arch/1`, or take it from a shipped file" in nmsim("arch", "check", file).err


def test_a_file_or_override_that_is_wrong_is_bad_input(nmsim: Run, ampere: Path, tmp_path: Path) -> None:
    for command in ("check", "show"):
        assert nmsim("arch", command, tmp_path / "no.yaml") == (
            2,
            "",
            f"nmsim: error: {tmp_path / 'no.yaml'}: no such file; check the path\n",
        )
        ran = nmsim("arch", command, ampere, "--set", "sm.count=-4")
        assert ran == (2, "", "nmsim: error: --set sm.count=-4: sm.count: must be greater than 0, got -4\n")


def test_show_prints_every_value_with_its_source(nmsim: Run, ampere: Path) -> None:
    out = nmsim("arch", "show", ampere, "--set", "sm.count=128").out
    assert "  count = 128  (set by --set sm.count=128)\n" in out
    assert "  near_latency_cycles = 211  (measured: gpu-benches" in out
    assert "no source" not in out
    assert "  cluster = 1  (default: no file writes it)\n" in out
    assert "  fp16_dense_tflops = 369.6\n" in out
    spec = load_arch(ampere)
    for block in resolved_arch(spec).values():
        for key in (key for key, value in block.items() if value is not None) if isinstance(block, dict) else ():
            assert f"{key} = " in out or f"{key}  (" in out or f".{key}\n" in out, key


def test_show_as_json_is_the_resolved_machine(nmsim: Run, ampere: Path) -> None:
    shown = json.loads(nmsim("arch", "show", ampere, "--json").out)
    spec = load_arch(ampere)
    assert shown["arch"] == resolved_arch(spec)
    assert shown["key"] == arch_key(spec)
    assert shown["peaks"]["fp16_2:4_tflops"] == pytest.approx(624, rel=0.002)  # datasheet
