from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # how long an example takes is the machine's business
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def arch_configs() -> Path:
    """The folder of shipped architectures."""
    return Path(__file__).parents[1] / "arch_configs"


@pytest.fixture(scope="session")
def ampere(arch_configs: Path) -> Path:
    """The A100 SXM4 file."""
    return arch_configs / "ampere.yaml"
