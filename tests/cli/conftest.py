from collections.abc import Callable
from typing import NamedTuple

import pytest

from nmsim.cli.main import main


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def nmsim(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run the command line in this process."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NMSIM_DEBUG", raising=False)

    def run(*arguments: object) -> Ran:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ran(code, *capfd.readouterr())

    return run
