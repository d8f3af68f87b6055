"""The machine that docs/architectures.md writes works as it is printed there, and the page names every block and file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nmsim.api import simulate, simulate_gemm
from nmsim.arch.check import check_arch, hints
from nmsim.arch.load import load_gpu
from nmsim.arch.spec import GpuSpec, MmaSpec

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architectures.md").read_text(encoding="utf-8")


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The machine on the page, in a folder of its own."""
    found = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    file = tmp_path / "rtx_3060.yaml"
    file.write_text(found[1].replace("extends: ada.yaml", f"extends: {ROOT / 'arch_configs' / 'ada.yaml'}"))
    return file


def test_the_example_checks_without_a_finding_and_has_the_peaks_that_the_page_says(example: Path) -> None:
    assert [str(finding) for finding in check_arch(example)] == []
    spec = load_gpu(example)
    assert hints(spec) == []
    tflops = spec.peak_macs_per_cycle("fp16") * 2 * spec.clock.boost_mhz * 1e-6
    assert f"`fp16_dense_tflops = {tflops:,.1f}`" in PAGE
    assert f"`dram_gb_per_s = {spec.dram.bandwidth_gb_per_s:,.1f}`" in PAGE


def test_the_example_gains_from_2_4_as_the_page_says_and_loses_most_of_it_to_the_raster_that_check_remarks_on(example: Path) -> None:
    walked = ["kernels.nm_raster_width=1"]
    banded, along = (simulate_gemm(load_gpu(example, sets), m=1024, n=4096, k=4096, pattern="2:4") for sets in ([], walked))
    assert banded.speedup_vs_dense > 1.7
    assert along.time_us > 1.2 * banded.time_us
    assert ["nm_raster_width 1 walks along it" in finding.problem for finding in check_arch(example, walked)] == [True]


def test_a_recorded_step_runs_on_the_example_as_it_is(example: Path) -> None:
    result = simulate(example, ROOT / "workloads" / "digits_vit_sr_ste_2to4.nmtrace", baseline=("dense",))
    assert {row.native_pattern for row in result.rows if row.ran_sparse} == {"2:4"}


def test_every_shipped_file_block_and_instruction_key_is_on_the_page() -> None:
    for path in (ROOT / "arch_configs").glob("*.yaml"):
        assert f"`{path.name}`" in PAGE, path.name
    blocks = [name for name in GpuSpec.model_fields if name not in ("schema_version", "name", "kind", "description")]
    for name in (*blocks, *(key for key in MmaSpec.model_fields if key != "sources")):
        assert f"`{name}`" in PAGE, name
