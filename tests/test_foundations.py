"""The project's own promises: what is exported, what is installed, and that the files that say so agree."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import nmsim

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonical(name): pinned for name, pinned in pairs}


def requirements(*extras: str) -> dict[str, str]:
    """name -> lower bound, of the core and the extras."""
    project = PROJECT["project"]
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    named = [text for text in texts if not text.startswith("nmsim[")]  # an extra of our own stands for its requirements
    return {canonical(text.split(">=")[0]): text.split(">=")[1] for text in named}


def release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"[\d.]+", text)[0].rstrip(".").split("."))  # type: ignore[index]


@pytest.mark.parametrize("name", nmsim.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(nmsim, name) is not None
    assert name in dir(nmsim)


def test_the_verbs_can_be_called_and_the_rest_cannot_be_found() -> None:
    for verb in ("simulate", "simulate_gemm", "microbench", "load_arch", "load_trace", "write_trace"):
        assert verb in nmsim.__all__
        assert callable(getattr(nmsim, verb))
    assert issubclass(nmsim.InputError, nmsim.NmsimError)
    assert isinstance(nmsim.MODEL_VERSION, str)
    with pytest.raises(AttributeError, match="module 'nmsim' has no attribute 'simulat'"):
        nmsim.simulat  # noqa: B018


def test_importing_the_package_imports_no_dependency() -> None:
    code = "import sys; before = set(sys.modules); import nmsim; print('|'.join(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.strip().split("|")}
    assert "nmsim" in loaded
    assert loaded.isdisjoint({"numpy", "pandas", "torch", "numba", "pydantic", "typer", "ruamel", "pyarrow", "matplotlib", "simpy"})


def test_no_module_shadows_a_public_name() -> None:
    modules = {path.stem for path in (ROOT / "nmsim").iterdir()}
    assert modules.isdisjoint(nmsim.__all__)


def test_everything_the_core_and_the_tests_need_is_pinned_at_or_above_its_lower_bound() -> None:
    pinned = pins()
    for name, bound in requirements("train", "dev").items():
        assert name in pinned, f"{name} is not in constraints.txt"
        assert release(pinned[name]) >= release(bound), name


def test_torch_and_the_data_set_package_come_with_the_train_extra_alone() -> None:
    core = requirements()
    assert {"torch", "scikit-learn", "transformers", "dask"}.isdisjoint(core)
    assert {"torch", "scikit-learn"} <= set(requirements("train"))
    assert release(requirements("train")["torch"]) == (2, 13, 0)


def test_the_version_is_the_one_of_the_installed_package() -> None:
    try:
        installed = version("nmsim")
    except PackageNotFoundError:  # run from a checkout that was not installed
        installed = nmsim.__version__
    assert installed == nmsim.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", nmsim.__version__)


def test_continuous_integration_runs_the_test_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(r"^ *python -m pytest.*$", readme, flags=re.MULTILINE)
    assert command is not None
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.rstrip().endswith('bash -c "$test_command"')  # pytest's closing line is the last
    assert "set -euo pipefail" in script
    for tool in ("ruff check", "ruff format --check", "mypy", "lint-imports", "-c constraints.txt"):
        assert tool in script


def test_warnings_are_errors_and_slow_tests_are_asked_for() -> None:
    options = PROJECT["tool"]["pytest"]["ini_options"]
    assert options["filterwarnings"][0] == "error"
    assert options["addopts"][-2:] == ["-m", "not slow"]


def test_nothing_names_a_package_index_or_this_machine() -> None:
    hosts = re.compile(r"https?://[^\s\"')>]*(simple|pypi|artifact|index)|--(extra-)?index-url|--find-links|file://", re.IGNORECASE)
    for name in ("pyproject.toml", "constraints.txt", ".ci/run", "README.md"):
        assert hosts.search((ROOT / name).read_text(encoding="utf-8")) is None, name


def test_source_files_stay_small() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").count("\n") for path in (ROOT / "nmsim").rglob("*.py")}
    assert {path: length for path, length in lengths.items() if length > 400} == {}
