"""The machine that docs/architectures.md writes works as it is printed there, and the page names every block and file."""

from __future__ import annotations

import re
from pathlib import Path

from nmsim.arch.check import check_arch
from nmsim.arch.load import load_gpu
from nmsim.arch.spec import GpuSpec, MmaSpec

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architectures.md").read_text(encoding="utf-8")


def test_the_example_checks_without_a_finding_and_has_the_peaks_that_the_page_says(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    file = tmp_path / "rtx_3060.yaml"
    file.write_text(example[1].replace("extends: ada.yaml", f"extends: {ROOT / 'arch_configs' / 'ada.yaml'}"))
    assert [str(finding) for finding in check_arch(file)] == []
    spec = load_gpu(file)
    tflops = spec.peak_macs_per_cycle("fp16") * 2 * spec.clock.boost_mhz * 1e-6
    assert f"`fp16_dense_tflops = {tflops:,.1f}`" in PAGE
    assert f"`dram_gb_per_s = {spec.dram.bandwidth_gb_per_s:,.1f}`" in PAGE


def test_every_shipped_file_block_and_instruction_key_is_on_the_page() -> None:
    for path in (ROOT / "arch_configs").glob("*.yaml"):
        assert f"`{path.name}`" in PAGE, path.name
    blocks = [name for name in GpuSpec.model_fields if name not in ("schema_version", "name", "kind", "description")]
    for name in (*blocks, *(key for key in MmaSpec.model_fields if key != "sources")):
        assert f"`{name}`" in PAGE, name
