"""A specification as plain data: what content keys are made from and what `nmsim arch show` prints."""

from __future__ import annotations

from typing import Any

from nmsim.arch.spec import Block
from nmsim.keys import content_key


def resolved_arch(spec: Block) -> dict[str, Any]:
    """Every value of `spec`, defaults and overrides included, as JSON-ready data under the keys of the YAML; no sources."""
    resolved: dict[str, Any] = _without_sources(spec.model_dump(mode="json", by_alias=True))
    return resolved


def value_sources(spec: Block) -> dict[str, str]:
    """Where the values come from, in the order of the blocks: `sm.count`, or `sm.*` for those that the block does not name."""
    found: dict[str, str] = {}
    _collect_sources(spec, "", found)
    return found


def arch_key(spec: Block) -> str:
    """Content key (sha256, hex) of everything timing and energy read: neither sources nor name and description."""
    return content_key({key: value for key, value in resolved_arch(spec).items() if key not in ("name", "description")})


def _collect_sources(block: Block, path: str, found: dict[str, str]) -> None:
    found |= {f"{path}{name}": text for name, text in block.sources.items()}
    for name, value in block:
        if isinstance(value, Block):
            _collect_sources(value, f"{path}{name}.", found)


def _without_sources(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_sources(value) for key, value in data.items() if key != "sources"}
    if isinstance(data, list):
        return [_without_sources(value) for value in data]
    return data
