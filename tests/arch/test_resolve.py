import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmsim.arch.load import load_gpu
from nmsim.arch.resolve import arch_key, resolved_arch, value_sources
from nmsim.arch.spec import GpuSpec
from nmsim.errors import InputError
from nmsim.keys import canonical_json

Load = Callable[..., GpuSpec]


def keys_of(data: Any) -> set[str]:
    if isinstance(data, dict):
        return set(data) | {key for value in data.values() for key in keys_of(value)}
    return {key for value in data for key in keys_of(value)} if isinstance(data, list) else set()


def test_the_resolved_machine_is_json_without_sources_and_loads_again_as_the_same(load: Load, small_machine: dict[str, Any]) -> None:
    spec = load(small_machine)
    resolved = resolved_arch(spec)
    assert "sources" not in keys_of(resolved)
    assert resolved["schema"] == "nmsim-arch/1"
    assert json.loads(canonical_json(resolved)) == resolved
    assert resolved_arch(load(resolved)) == resolved


def test_the_key_ignores_how_a_machine_is_described_and_notices_every_value(load: Load, small_machine: dict[str, Any]) -> None:
    key = arch_key(load(small_machine))
    assert arch_key(load(small_machine, "name=other", "description=x", "sm.sources.count=datasheet")) == key
    assert arch_key(load(small_machine, "sm.count=5")) != key
    assert arch_key(load(small_machine, "tensor_core.mma.1.latency_cycles=26")) != key
    assert arch_key(load(small_machine, "energy.mac_pj.fp16=0.81")) != key


def test_a_whole_number_written_with_a_point_is_the_same_machine(load: Load, small_machine: dict[str, Any]) -> None:
    assert arch_key(load(small_machine, "dram.cas_ns=14.0")) == arch_key(load(small_machine, "dram.cas_ns=14"))


def test_every_value_of_a_shipped_machine_has_its_source_in_words(ampere: Path) -> None:
    """Each source names a value that the machine holds, or stands for all others of its block; one that is set says by whom."""
    spec, resolved = load_gpu(ampere, ["sm.count=72"]), resolved_arch(load_gpu(ampere))
    sources = value_sources(spec)
    assert sources["sm.count"].startswith("set by --set sm.count=72")
    assert sources["shared_memory.latency_cycles"] == spec.shared_memory.sources["latency_cycles"]
    for path, text in sources.items():
        *blocks, name = path.split(".")
        block = resolved
        for one in blocks:
            block = block[one]
        assert name == "*" or name in block
        assert text.strip()


@pytest.mark.parametrize(
    "override",
    [
        "clock.boost_mhz=2147483647",  # a list of its steps would fill the memory
        "dram.bandwidth_gb_per_s=1e-300",  # the ticks of a byte would be infinite
        "noc.sm_port_bytes_per_cycle=1e-9",
        "l2.sustained_fraction=1e-300",
        "tensor_core.register_read_bytes_per_cycle=1e-300",
    ],
)
def test_a_value_that_no_machine_could_count_with_is_refused(ampere: Path, override: str) -> None:
    with pytest.raises(InputError, match=override.partition("=")[0].rpartition(".")[2]):
        load_gpu(ampere, [override])
