"""Whatever is typed: an answer or one line that says what is wrong; never a traceback, never a hang."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.cli.main import COMMANDS, main
from tests.fuzz.hostile import BOMB, HANG_S, NUMBERS, WORDS, fuzzed, little_memory, time_limit, tokens

REPOSITORY = Path(__file__).parents[2]
MACHINE = str(REPOSITORY / "arch_configs" / "ampere.yaml")
ARRAY = str(REPOSITORY / "arch_configs" / "systolic_32.yaml")
TRACE = str(REPOSITORY / "workloads" / "digits_resnet_sr_ste_2to4.nmtrace")
OPTIONS = {
    "gemm": [
        "--m",
        "--n",
        "--k",
        "--l",
        "--dtype",
        "--out-dtype",
        "--pattern",
        "--sparse-operand",
        "--l2",
        "--set",
        "--engine",
        "--timeline",
    ],
    "mma": ["--shape", "--sparse", "--dtype", "--acc", "--warps", "--ilp", "--json"],
    "simulate": ["--batch", "--pattern", "--dtype", "--baseline", "--l2", "--set", "--engine", "--timeline", "--cycles", "--sm"],
    "report": ["--out", "--runs", "--json"],
    "sweep": ["--arch", "--workload", "--pattern", "--jobs", "--out", "--set"],
    "validate": ["--data", "--set", "--json"],
    "arch": ["--json", "--set"],
    "trace": ["--json"],
    "train": ["--data", "--recipe", "--pattern", "--trace", "--steps"],
}
small = st.sampled_from(["1", "7", "16", "64", "128"])


def run(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capfd.readouterr()
    with time_limit(HANG_S):
        code = main(arguments)
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    assert "internal error" not in said.err, (arguments, said.err)
    assert code in (0, 1, 2), (arguments, said.err)
    if code == 2:
        assert (said.err + said.out).strip(), arguments
    return code, said.err


def argument(data: st.DataObject, paths: list[str]) -> str:
    return str(data.draw(st.one_of(st.sampled_from(paths), tokens, small))).replace("\0", "?")


def anything(data: st.DataObject, paths: list[str]) -> list[str]:
    """A sub-command with options that it has, most of their values hostile; what would be a long run is kept from being one."""
    command = data.draw(st.sampled_from(sorted(OPTIONS)))
    places = 1 if command != "arch" and command != "trace" else 2
    head = [argument(data, [*paths, "show", "check"] if places == 2 else paths) for _ in range(data.draw(st.integers(0, places)))]
    tail = ["no-such-suite"] if command == "validate" else []  # all suites would take minutes
    for option in data.draw(st.lists(st.sampled_from([*OPTIONS[command], "--help", "--nonsense"]), max_size=4)):
        tail += [option] if option in ("--json", "--help", "--sparse", "--nonsense") else [option, argument(data, paths)]
    return [command, *head, *tail]


def gemm(data: st.DataObject, _paths: list[str]) -> list[str]:
    """A small GEMM with one hostile value among good ones."""
    options = {"--m": "64", "--n": "64", "--k": "128", "--l": "1", "--dtype": "fp16", "--out-dtype": "fp16", "--pattern": "2:4"}
    options |= {"--sparse-operand": "b", "--l2": "cold", "--engine": "compiled", "--set": "sm.count=4"}
    bad = data.draw(st.sampled_from(sorted(options)))
    options[bad] = data.draw(tokens).replace("\0", "?")
    if bad == "--set":
        key = data.draw(
            st.sampled_from(["sm.count", "l2.partitions", "dram.bandwidth_gb_per_s", "clock.boost_mhz", "kernels.tiles.0.stages"])
        )
        options[bad] = f"{key}={options[bad]}"
    machine = data.draw(st.sampled_from([MACHINE, ARRAY]))
    if machine == ARRAY:
        del options["--l2"], options["--engine"]
        options["--set"] = options["--set"] if bad == "--set" else "array.rows=32"
    return ["gemm", machine, *[f"{option}={value}" for option, value in options.items()], "--json"]


CASES = {"anything": anything, "gemm": gemm}
by_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(scope="module", autouse=True)
def compiled_engine() -> None:
    """Compiled once before any time limit runs."""
    assert main(["gemm", MACHINE, "--m", "8", "--n", "8", "--k", "8", "--json"]) == 0


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files and folders that a user might name by mistake."""
    folder = tmp_path_factory.mktemp("paths")
    for name, text in (
        ("bomb.yaml", BOMB),
        ("empty.yaml", ""),
        ("list.yaml", "- 1"),
        ("sweep.yaml", "arch: [x]\nworkload: [y]"),
        ("a.csv", "id\n1"),
    ):
        (folder / name).write_text(text)
    (folder / "manifest.json").write_text("{")
    (folder / "empty.nmtrace").mkdir()
    files = [str(folder / name) for name in ("bomb.yaml", "empty.yaml", "list.yaml", "sweep.yaml", "a.csv", "empty.nmtrace", "absent.yaml")]
    return [*files, str(folder), "/dev/null", "/", ""]


@by_case
@fuzzed(50)
@given(data=st.data())
def test_any_command_answers_or_says_what_is_wrong(
    case: Callable[..., list[str]],
    data: st.DataObject,
    paths: list[str],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    run(case(data, paths), capfd)


@pytest.mark.slow
@by_case
@fuzzed(1_000)
@given(data=st.data())
def test_two_thousand_commands_answer_or_say_what_is_wrong(
    case: Callable[..., list[str]],
    data: st.DataObject,
    paths: list[str],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    run(case(data, paths), capfd)


def test_every_command_is_fuzzed() -> None:
    assert set(OPTIONS) | {"compare", "completion"} >= set(COMMANDS)


@pytest.mark.parametrize("option", ["--m", "--l", "--pattern", "--dtype", "--set"])
def test_every_hostile_token_as_an_option_of_a_gemm(option: str, capfd: pytest.CaptureFixture[str]) -> None:
    with little_memory():
        for token in [*NUMBERS, *WORDS]:
            value = f"sm.count={token}" if option == "--set" else token
            rest = {"--m": "8", "--n": "8", "--k": "8"} | {option: value.replace("\0", "?")}
            if token in ("2147483647", "0o777", "007", "+3", "1_000"):
                continue  # numbers
            code, _ = run(["gemm", MACHINE, *[f"{name}={one}" for name, one in rest.items()], "--json"], capfd)
            assert code == 2 or token in ("1:2", "2:4", "dense", "fp16", "&a 1"), token


def test_markup_in_names_is_shown_and_not_obeyed(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "odd.nmtrace"
    shutil.copytree(TRACE, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["name"] = "[bold red]<script>alert(1)</script>[/]"
    manifest["provenance"]["model"] = "[link=https://example.org]x[/link]"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert main(["trace", "show", str(folder)]) == 0
    said = capfd.readouterr().out
    assert "[bold red]<script>alert(1)</script>[/]" in said
    assert "[link=https://example.org]x[/link]" in said
