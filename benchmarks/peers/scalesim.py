"""One GEMM on one systolic array: SCALE-Sim v3 and nmsim side by side, equal cycles asserted, times compared.

nmsim does not depend on SCALE-Sim. Install that into an environment of its own and name its interpreter:

    python -m venv scalesim_env
    scalesim_env/bin/pip install scalesim==3.0.0 'numpy<2.4'
    python benchmarks/peers/scalesim.py --scalesim-python scalesim_env/bin/python        (or SCALESIM_PYTHON=...)

The common GEMM is 1024 x 1024 x 1024 on a 128 x 128 weight-stationary array (about 40 s and 1 GB in SCALE-Sim); `--size 256`
takes a moment. Both run with operands at hand (SCALE-Sim: CALC mode) and count compute cycles; SCALE-Sim prints the index
of the last cycle, one less than their number (its issue 125). Times are processor seconds of the simulation call in a warm process,
imports left out. `python -m pytest benchmarks` asserts both where SCALESIM_PYTHON is set.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nmsim

CONFIG = """[general]
run_name = peer
[architecture_presets]
ArrayHeight: {array}
ArrayWidth: {array}
IfmapSramSzkB: 6144
FilterSramSzkB: 6144
OfmapSramSzkB: 2048
IfmapOffset: 0
FilterOffset: 10000000
OfmapOffset: 20000000
Bandwidth: 10
Dataflow: {dataflow}
MemoryBanks: 1
ReadRequestBuffer: 512
WriteRequestBuffer: 512
[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 10
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 10
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2
[sparsity]
SparsitySupport: {sparse}
SparseRep: ellpack_block
OptimizedMapping: false
BlockSize: 8
RandomNumberGeneratorSeed: 40
[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""

DRIVER = """
import contextlib, io, json, resource, sys, time
from scalesim.scale_sim import scalesim
config, topology, layout, out = sys.argv[1:]
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    start = time.process_time()
    simulation = scalesim(save_disk_space=True, verbose=False, config=config, topology=topology, layout=layout, input_type_gemm=True)
    simulation.run_scale(top_path=out)
    seconds = time.process_time() - start
layer = simulation.runner.single_layer_sim_object_list[0]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"cycles": int(layer.get_compute_report_items()[1]), "seconds": seconds, "peak_mib": peak}))
"""


def run_scalesim(python: str, size: int, array: int, dataflow: str, pattern: str | None) -> dict[str, float]:
    """SCALE-Sim's own result in its own interpreter: printed cycles, seconds, peak MiB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "peer.cfg").write_text(CONFIG.format(array=array, dataflow=dataflow, sparse=pattern is not None))
        (folder / "gemm.csv").write_text(f"Layer, M, N, K, Sparsity,\ngemm, {size}, {size}, {size}, {pattern or '1:1'},\n")
        (folder / "layout.csv").write_text("Layer,\n" + "gemm, " + ", ".join(["1"] * 20) + ",\n")
        files = [str(folder / file) for file in ("peer.cfg", "gemm.csv", "layout.csv")]
        done = subprocess.run([python, "-c", DRIVER, *files, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"SCALE-Sim failed:\n{done.stdout}{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def run_nmsim(size: int, array: int, dataflow: str, pattern: str | None) -> dict[str, float]:
    """The same on nmsim, memory included: compute cycles, cycles with memory, the fastest of five calls."""
    file = Path(__file__).parents[2] / "arch_configs" / "systolic_128.yaml"
    spec = nmsim.load_arch(file, [f"array.rows={array}", f"array.columns={array}", f"array.dataflow={dataflow}", "array.overlap=none"])
    seconds = []
    for _ in range(5):
        start = time.process_time()
        result = nmsim.simulate_gemm(spec, m=size, n=size, k=size, pattern=pattern)
        seconds.append(time.process_time() - start)
    return {"cycles": result.compute_cycles, "with_memory": result.cycles, "seconds": min(seconds), "first_seconds": seconds[0]}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--scalesim-python", default=os.environ.get("SCALESIM_PYTHON"), help="interpreter that has scalesim")
    options.add_argument("--size", type=int, default=1024, help="m, n and k of the GEMM")
    options.add_argument("--array", type=int, default=128, help="rows and columns of the array")
    options.add_argument("--dataflow", choices=("ws", "os", "is"), default="ws")
    options.add_argument("--pattern", help="N:M of the filter; dense without it")
    given = options.parse_args()
    if not given.scalesim_python:
        options.error("name SCALE-Sim's interpreter: --scalesim-python or SCALESIM_PYTHON")
    ours = run_nmsim(given.size, given.array, given.dataflow, given.pattern)
    theirs = run_scalesim(given.scalesim_python, given.size, given.array, given.dataflow, given.pattern)
    print(f"{given.size}^3 on {given.array} x {given.array} {given.dataflow}, {given.pattern or 'dense'}")
    cost = f"{theirs['seconds']:.2f} s, {theirs['peak_mib']:,.0f} MiB"
    print(f"SCALE-Sim v3: {theirs['cycles'] + 1:,.0f} compute cycles (prints one less), {cost}")
    print(
        f"nmsim:        {ours['cycles']:,.0f} compute cycles, {ours['with_memory']:,.0f} with its DRAM, "
        f"{ours['seconds'] * 1e3:.2f} ms (first call {ours['first_seconds'] * 1e3:.1f} ms)"
    )
    print(
        f"ratio:        {theirs['seconds'] / ours['seconds']:,.0f}x ({theirs['seconds'] / ours['first_seconds']:,.0f}x on the first call)"
    )
    if theirs["cycles"] + 1 != ours["cycles"]:
        sys.exit("the cycles differ")


if __name__ == "__main__":
    main()
