"""The tables of README.md in this folder: what each recipe reached, and what its step costs on the simulated machine."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nmsim.api import load_arch, load_trace, simulate
from nmsim.result.rows import SimulationResult
from nmsim.result.whole_run import RunTotal, first_steps, run_totals
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.tile_wise import kept_macs
from nmsim.version import MODEL_VERSION
from nmsim.workload.history import read_history, running_accuracy, steps_to_accuracy
from nmsim.workload.trace import Trace

ARCH = Path(__file__).parent.parent / "arch_configs" / "ampere.yaml"
BATCH = {"digits_resnet": 4096, "digits_vit": 4096, "gpt_w256": 512, "gpt_w512": 64}
"""Samples that the small steps are re-scaled to, so that the machine has something to do."""
FULL_BATCH = {"resnet50": 256, "bert_base": 32, "bert_large": 16, "gpt2": 16, "vit_l16": 64, "llama_block": 8}
COSTS_OF_A_TABLE = "Costs at "
SHARE_OF_THE_BEST = 0.95
"""Where runs are compared at equal accuracy: at the best itself, where the curve is flat, the step is one of chance."""
PHASES = ("forward", "backward_data", "backward_weight")
NAMES = {
    "digits_resnet": "Small ResNet on scikit-learn's digits",
    "digits_vit": "Small ViT on scikit-learn's digits",
    "gpt_w256": "Character GPT on Python's help texts",
}

INTRODUCTION = """# Workloads

Recorded training steps, `nmsim simulate`'s inputs. This page is written by `python workloads/make.py readme`; the runs are trained by
`python workloads/make.py train`, the full-size steps recorded by `python workloads/make.py full` (both go on where they stopped).
`nmsim trace show TRACE` prints the command that remakes a single one.

Accuracy is on held-out data: digits, or next characters. The small runs are short (400, 480 and 600 steps), so differences of a point
between recipes are within what another seed changes. Where three seeds were trained, the table gives their mean and range.
"""

COSTS = """Costs are those of the simulated step on `{machine}` (model version {version}), re-scaled to the samples that stand above each
table. Of each product: its speed-up over dense, launches included, and beside it the ideal, all MACs of that product in the network
over those left in the patterns that the machine ran and the tiles that it kept. Then the whole step, with the passes that the recipe
adds and the operators that are no GEMM, and its energy over the dense step's. *Whole run* adds up the steps of all stages (dense at
first, or a dense tail). A recipe with stages has a step of each beside its trace: NAME-STAGE.nmtrace. *At equal accuracy* ends each
run where the accuracy on its own training batches, averaged over five of the forty observed steps, reaches 0.95 of the best that the
worst run of the table reaches: steps, the speed-up over the dense run to there, and the energy over that run's. One seed, observed
every 10 to 15 steps, and a learning rate that was to decay over the whole run: a tenth of the steps more or less says little.
"""


def write_readme(folder: Path, results: Mapping[str, Mapping[str, Any]], runs: Sequence[Any]) -> None:
    """Simulates every committed trace in `folder` and writes README.md there."""
    machine = load_arch(ARCH).name
    parts = [INTRODUCTION, COSTS.format(machine=machine, version=MODEL_VERSION)]
    for task, title in NAMES.items():
        parts += [_heading(task, title), *_accuracies(task, results, runs)]
        traces = [run.name for run in runs if run.committed and run.task == task and (folder / f"{run.name}.nmtrace").is_dir()]
        parts.append(_cost_table(folder, traces, dict.fromkeys(traces, BATCH[task])))
    parts.append("## A longer run\n\nThe character GPT of width 512, four blocks, context 256, 1,000 steps.\n")
    longer = ["gpt_w512_dense", "gpt_w512_sr_ste_2to4"]
    parts.append(_cost_table(folder, longer, dict.fromkeys(longer, BATCH["gpt_w512"])))
    parts.append(
        "## Full-size networks\n\nOne real training step each, bf16 autocast, from the initialisation of the `transformers` configuration,"
        " at batch 1 and re-scaled here. Masks were checked group by group when recorded and are not stored; there is no accuracy.\n"
    )
    full = {f"{name}_fst_2to4": batch for name, batch in FULL_BATCH.items() if (folder / f"{name}_fst_2to4.nmtrace").is_dir()}
    parts.append(_cost_table(folder, list(full), full))
    (folder / "README.md").write_text("\n".join(parts), encoding="utf-8", newline="\n")


def write_accuracies(folder: Path, results: Mapping[str, Mapping[str, Any]], runs: Sequence[Any]) -> None:
    """Writes the tables of accuracy in README.md anew, and leaves what was simulated as it is."""
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8")
    for task, title in NAMES.items():
        before, heading, after = text.partition(_heading(task, title))
        _, costs, rest = after.partition(COSTS_OF_A_TABLE)
        text = "\n".join([before + heading, *_accuracies(task, results, runs), costs + rest])
    readme.write_text(text, encoding="utf-8", newline="\n")


def _heading(task: str, title: str) -> str:
    return f"## {title} (`{task}`)\n"


def _accuracies(task: str, results: Mapping[str, Mapping[str, Any]], runs: Sequence[Any]) -> list[str]:
    return [part for part in (_accuracy_table(task, results), _not_trained(task, results, runs)) if part]


def _accuracy_table(task: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """Recipe, pattern, accuracy (mean and range where there are seeds), difference in points to the dense runs of the same seeds."""
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for result in results.values():
        if result["task"] == task:
            grouped.setdefault((result["recipe"], result["pattern"] if result["recipe"] != "dense" else "-"), []).append(result)
    dense = {one["seed"]: one["accuracy"] for one in grouped["dense", "-"]}
    lines = ["| recipe | pattern | seeds | accuracy | against dense |", "|---|---|---|---|---|"]
    for (recipe, pattern), runs in sorted(grouped.items(), key=lambda item: (item[0][0] != "dense", item[0][1], item[0][0])):
        found = [one["accuracy"] for one in runs if one["accuracy"] is not None]
        if len(found) < len(runs):
            lines.append(f"| {recipe} | {pattern} | {len(runs)} | diverged: {next(one['error'] for one in runs if one['error'])} | - |")
            continue
        spread = f" ({100 * min(found):.1f} to {100 * max(found):.1f})" if len(found) > 1 else ""
        differences = [100 * (one["accuracy"] - dense[one["seed"]]) for one in runs if one["seed"] in dense]
        difference = f"{_mean(differences):+.1f} points" if differences else "-"
        lines.append(f"| {recipe} | {pattern} | {len(found)} | {100 * _mean(found):.1f} %{spread} | {difference} |")
    return "\n".join(lines) + "\n"


def _not_trained(task: str, results: Mapping[str, Mapping[str, Any]], runs: Sequence[Any]) -> str:
    """A sentence that names the runs of a task that the list has and the results have not; empty where there are none."""
    missing: dict[tuple[str, str], list[int]] = {}
    for run in runs:
        if run.task == task and run.name not in results:
            missing.setdefault((run.variant, run.pattern), []).append(run.seed)
    if not missing:
        return ""
    words = [f"{variant} {pattern} (seed {', '.join(map(str, seeds))})" for (variant, pattern), seeds in missing.items()]
    return f"Listed in `make.py` and not trained yet: {'; '.join(words)}.\n"


def _cost_table(folder: Path, names: Sequence[str], batches: Mapping[str, int]) -> str:
    lines = [
        "| trace | accuracy | forward | backward_data | backward_weight | step | energy | whole run | at equal accuracy |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    common = _accuracy_that_all_reach(folder, names)
    first: RunTotal | None = None
    for name in names:
        sys.stderr.write(f"simulating {name}\n")
        path = folder / f"{name}.nmtrace"
        trace, history = load_trace(path), read_history(path)
        files = dict.fromkeys((path.name, *(entry["trace"] for entry in trace.schedule)))
        results = {file: simulate(ARCH, folder / file, batch=batches[name], baseline=("dense",)) for file in files}
        result = results[path.name]
        until: RunTotal | None = None
        if common is not None and history is not None:
            until = run_totals(first_steps(trace.schedule, steps_to_accuracy(history, common) or 0), results)["traced"]
        first = first or until
        accuracy = trace.provenance.accuracy
        traced, dense = result.total["traced"], result.total["dense"]
        whole = run_totals(trace.schedule, results)["traced"].speedup_vs_dense if trace.schedule else None
        lines.append(
            f"| `{name}` | {'-' if accuracy is None else f'{100 * accuracy:.1f} %'} | "
            + " | ".join(_phase(trace, result, phase) for phase in PHASES)
            + f" | {traced.speedup_vs_dense:.2f}x | {traced.energy_j / dense.energy_j:.2f} | {'-' if whole is None else f'{whole:.2f}x'} | "
            + ("-" if first is None or until is None else _to_accuracy(until, first))
            + " |"
        )
    counts = ", ".join(f"{batch:,}" for batch in dict.fromkeys(batches[name] for name in names))
    reached = "" if common is None else f"; equal accuracy is {100 * common:.1f} %"
    return "\n".join([f"{COSTS_OF_A_TABLE}{counts} samples{reached}:\n", *lines]) + "\n"


def _accuracy_that_all_reach(folder: Path, names: Sequence[str]) -> float | None:
    """A share of the least of the best running accuracies; None where a run has no history or schedule."""
    histories = [read_history(folder / f"{name}.nmtrace") for name in names]
    if not all(load_trace(folder / f"{name}.nmtrace").schedule for name in names):
        return None
    best = [max(running_accuracy(one)) for one in histories if one is not None]
    return SHARE_OF_THE_BEST * min(best) if best else None


def _to_accuracy(run: RunTotal, first: RunTotal) -> str:
    """`240 steps, 0.95x, 1.02`: steps of a run to the common accuracy, its speed-up over the first run to there, energy over that's."""
    return f"{run.steps} steps, {first.time_s / run.time_s:.2f}x, {run.energy_j / first.energy_j:.2f}"


def _phase(trace: Trace, result: SimulationResult, phase: str) -> str:
    """`1.45x of 2.00x`: the simulated speed-up of a product's kernels, and what the MACs left would allow."""
    time_us = {part.scheme: part.time_us for part in result.phases if part.phase == phase}
    return f"{time_us['dense'] / time_us['traced']:.2f}x of {ideal_speedup(trace, result, phase):.2f}x"


def ideal_speedup(trace: Trace, result: SimulationResult, phase: str) -> float:
    """MACs of all products of a phase over those that are left, in the patterns that the machine ran and the tiles that it kept."""
    rows = [row for row in result.rows if row.scheme == "traced" and row.phase == phase and row.kind == "gemm"]
    plans = trace.tile_wise.get(trace.own_density or "", {})
    whole = left = 0.0
    for row in rows:
        macs = float(row.counters["dense_equivalent_macs"])
        density = 1.0 if row.native_pattern in ("dense", "none") else float(NMPattern.parse(row.native_pattern).density)
        if row.ran_sparse and density == 1.0:
            plan = plans[row.module]
            density = kept_macs(plan.columns, plan.rows, plan.tile_width) / (len(plan.columns) * plan.rows.shape[1])
        whole, left = whole + macs, left + density * macs
    return whole / left


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
