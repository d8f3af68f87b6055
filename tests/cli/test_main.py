import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import nmsim
from nmsim.cli import main as command_line
from nmsim.cli.main import COMMANDS, command_of

PACKAGE = Path(nmsim.__file__).parent
HEAVY = ("torch", "numpy", "pandas", "matplotlib", "numba", "pyarrow", "pydantic", "simpy", "ruamel", "safetensors", "jinja2")


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "NMSIM_DEBUG")}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**clean, **environment},
        cwd=PACKAGE.parent,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = f"import sys; from nmsim.cli.main import main; main({arguments}); sys.stderr.write('|'.join(sorted(sys.modules)))"
    loaded = {name.partition(".")[0] for name in python(code).stderr.split("|")}
    assert "typer" in loaded
    assert loaded.isdisjoint(HEAVY), loaded & set(HEAVY)


@pytest.mark.parametrize("name", COMMANDS)
def test_importing_a_command_imports_nothing_heavy(name: str) -> None:
    code = f"import sys, {COMMANDS[name][0]}; print('|'.join(sorted(sys.modules)))"
    loaded = {module.partition(".")[0] for module in python(code).stdout.strip().split("|")}
    assert "nmsim" in loaded
    assert loaded.isdisjoint(HEAVY), loaded & set(HEAVY)


def test_help_lists_every_command_with_its_line(nmsim: Callable[..., Any]) -> None:
    ran = nmsim("--help")
    assert ran.code == 0
    shown = " ".join(re.sub(r"[│╭╮╰╯─]", " ", ran.out).split())
    for name, (_, line) in COMMANDS.items():
        assert f"{name} {line}" in shown
        assert line.endswith(".")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, nmsim: Callable[..., Any]) -> None:
    command = command_of(name)
    for arguments in [[name, sub] for sub in command.commands] if hasattr(command, "commands") else [[name]]:
        ran = nmsim(*arguments, "--help")
        assert ran.code == 0
        assert f"nmsim {' '.join(arguments)} " in ran.out.split("Example", 1)[1]
        assert "--install-completion" not in ran.out  # the whole program has it


def test_every_command_module_is_in_the_table() -> None:
    modules = {f"nmsim.cli.{path.stem}" for path in (PACKAGE / "cli").glob("[!_]*.py")}
    offering = set()
    for module in modules:
        name = module.rpartition(".")[2]
        if hasattr(loaded := import_module(module), "app") or callable(getattr(loaded, name, None)):
            offering.add(module)
    assert offering - {"nmsim.cli.main"} == {module for module, _ in COMMANDS.values()}


def test_version_names_the_package_and_the_model(nmsim: Callable[..., Any]) -> None:
    import nmsim as package

    assert nmsim("--version") == (0, f"nmsim {package.__version__} (model {package.MODEL_VERSION})\n", "")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["archh"], "nmsim: error: No such command 'archh'. Did you mean 'arch'? Try `nmsim --help`.\n"),
        (["--frob"], "nmsim: error: No such option: --frob. Try `nmsim --help`.\n"),
        (["arch", "frob"], "nmsim: error: No such command 'frob'. Try `nmsim arch --help`.\n"),
        (["arch", "check"], "nmsim: error: Missing argument 'FILE...'. Try `nmsim arch check --help`.\n"),
    ],
)
def test_a_wrong_command_line_is_one_line_on_stderr_and_code_2(arguments: list[str], line: str, nmsim: Callable[..., Any]) -> None:
    assert nmsim(*arguments) == (2, "", line)


def test_no_arguments_print_the_help_and_nothing_else(nmsim: Callable[..., Any]) -> None:
    ran = nmsim()
    assert ran.code == 2
    assert "Usage: nmsim" in ran.out + ran.err
    assert "error" not in ran.err


def test_no_color_turns_colours_off() -> None:
    code = "from nmsim.cli.main import main; main(['--help'])"
    colour = re.compile(r"\x1b\[(?:\d+;)*3\d")
    assert colour.search(python(code, FORCE_COLOR="1").stdout)
    assert not colour.search(python(code, FORCE_COLOR="1", NO_COLOR="1").stdout)
    assert "\x1b" not in python(code).stdout  # a pipe is no terminal


def test_the_module_runs_as_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "nmsim", "--version"], capture_output=True, text=True, cwd=PACKAGE.parent, check=False)
    assert (done.returncode, done.stdout[:6]) == (0, "nmsim ")


def test_debug_may_come_from_the_option_or_the_environment(nmsim: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = nmsim("arch", "check", "none.yaml")
    assert quiet == (2, "", "nmsim: error: none.yaml: no such file; check the path\n")
    loud = nmsim("--debug", "arch", "check", "none.yaml")
    assert loud.code == 2
    assert "Traceback" in loud.err
    monkeypatch.setenv("NMSIM_DEBUG", "1")
    assert "Traceback" in nmsim("arch", "check", "none.yaml").err
    monkeypatch.setenv("NMSIM_DEBUG", "0")
    assert nmsim("arch", "check", "none.yaml") == quiet


def test_a_bug_in_a_command_is_one_sentence_that_asks_for_a_report(nmsim: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ZeroDivisionError("division by zero\nsecond line")

    monkeypatch.setattr(command_line, "command_of", broken)
    ran = nmsim("arch", "check", "x.yaml")
    assert ran.code == 1
    assert ran.out == ""
    assert re.fullmatch(
        r"nmsim: internal error: unexpected ZeroDivisionError in main\.py:\d+: division by zero; this is a bug in nmsim: please report it "
        r"with the command you ran and what it prints under --debug \(or NMSIM_DEBUG=1\)\n",
        ran.err,
    )
