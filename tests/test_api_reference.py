"""Every public name is documented, and the reference that docs/README.md tells how to make can be made."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import warnings
from itertools import pairwise
from pathlib import Path

import pytest

import nmsim
import nmsim.training

ROOT = Path(__file__).parents[1]


def documented_constants(module: str) -> set[str]:
    """Names assigned at the top of a module's file that a docstring follows."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    body = ast.parse(Path(spec.origin).read_text()).body
    found = set()
    for line, after in pairwise(body):
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            targets = line.targets if isinstance(line, ast.Assign) else [line.target] if isinstance(line, ast.AnnAssign) else []
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("name", [name for name in nmsim.__all__ if name != "__version__"])
def test_every_public_name_is_documented(name: str) -> None:
    public = getattr(nmsim, name)
    if inspect.isroutine(public) or inspect.isclass(public):
        assert inspect.getdoc(public), name
        if inspect.isroutine(public):
            assert all(parameter.annotation is not parameter.empty for parameter in inspect.signature(public).parameters.values())
    else:
        assert name in documented_constants("nmsim.version"), name


def test_every_public_name_of_training_is_documented() -> None:
    for name in nmsim.training.__all__:
        assert inspect.getdoc(getattr(nmsim.training, name)), name


def test_the_reference_is_made_by_the_command_of_the_guide(tmp_path: Path) -> None:
    (modules,) = re.findall(r"^python -m pdoc (.*) -o api$", (ROOT / "docs" / "README.md").read_text(), re.MULTILINE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pdoc's own
        import pdoc

        pdoc.pdoc(*modules.split(), output_directory=tmp_path)
    page = (tmp_path / "nmsim.html").read_text()
    for name in nmsim.__all__:
        assert name == "__version__" or f'id="{name}"' in page, name
    for module in modules.split():
        assert (tmp_path / f"{module.replace('.', '/')}.html").is_file()


def test_every_page_is_in_the_index() -> None:
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    linked = set(re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs" / "README.md").read_text()))
    assert pages == linked


@pytest.mark.parametrize("page", ["README.md", "docs/README.md", "docs/tutorial.md", "docs/cluster.md"])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", file.read_text()):
        assert (file.parent / link).exists(), link
