"""SM-level results, each simulated once ever: kept in memory, and on disk under a key of all they depend on."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path

from nmsim.arch.spec import GpuSpec
from nmsim.hw.mainloop import MainloopTiming
from nmsim.keys import content_key
from nmsim.mapping.plan import MainloopKey


def mainloop_timing(spec: GpuSpec, key: MainloopKey, occupancy: int) -> MainloopTiming:
    """The SM level's answer for a mainloop with up to `occupancy` resident CTAs."""
    return _timing(_sm_key(spec), key, occupancy, _Spec(spec))


class _Spec:
    """Carries the spec past the cache: equal for every spec whose SM parts have the same key."""

    def __init__(self, spec: GpuSpec) -> None:
        self.spec = spec

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Spec)

    def __hash__(self) -> int:
        return 0


def _sm_key(spec: GpuSpec) -> str:
    core = spec.tensor_core.model_dump(mode="json", exclude={"sources": True, "mma": {"__all__": {"sources"}}, "decoder": {"sources"}})
    parts = {
        "schedulers": spec.sm.schedulers,
        "fp32_fma_per_cycle": spec.sm.fp32_fma_per_cycle,
        "shared_memory": spec.shared_memory.model_dump(exclude={"sources"}),
        "tensor_core": core,
    }
    return content_key(parts)


@cache
def _timing(sm_key: str, key: MainloopKey, occupancy: int, carried: _Spec) -> MainloopTiming:
    from nmsim.hw.chip_compiled import cache_folder

    name = content_key({"sm": sm_key, "mainloop": asdict(key), "occupancy": occupancy})
    file = cache_folder() / "mainloops" / f"{name}.json"
    try:
        return MainloopTiming.from_json(json.loads(file.read_text()))
    except (OSError, ValueError, LookupError, TypeError):
        pass  # not there, or not ours any more: simulate it
    timing = _simulate(carried.spec, key, occupancy)
    _keep(file, json.dumps(timing.to_json()))
    return timing


def _simulate(spec: GpuSpec, key: MainloopKey, occupancy: int) -> MainloopTiming:
    if key.kind == "stream":
        from nmsim.hw.stream_level import stream_timing

        return stream_timing(spec, key, occupancy)
    from nmsim.hw.sm_level import simulate_mainloop

    return simulate_mainloop(spec, key, occupancy)


def _keep(file: Path, text: str) -> None:
    """Write to a temporary name, then rename; a cache that can't be written is only slower."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as draft:
            draft.write(text)
        os.replace(draft.name, file)
    except OSError:
        return
