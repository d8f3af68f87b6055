"""Remakes what lies in this folder: trains every run of the table, and keeps the traces that are committed.

    python workloads/make.py train            # resumes: a run whose result is in results.json is not trained again
    python workloads/make.py full             # the full-size networks, a step each
    python workloads/make.py readme           # simulates the committed traces and writes README.md
    python workloads/make.py accuracies       # writes the accuracies in README.md anew, and simulates nothing

Training is `nmsim train` on one thread, run as a user would run it; equal commands give equal traces on one kind of CPU.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"

FULL = {
    "resnet50_fst_2to4": "hf:ResNetConfig",
    "bert_base_fst_2to4": "hf:BertConfig --context 512",
    "bert_large_fst_2to4": "hf:BertConfig --context 512 --config hidden_size=1024 --config num_hidden_layers=24"
    " --config num_attention_heads=16 --config intermediate_size=4096",
    "gpt2_fst_2to4": "hf:GPT2Config --context 1024",
    "vit_l16_fst_2to4": "hf:ViTConfig --config hidden_size=1024 --config num_hidden_layers=24 --config num_attention_heads=16"
    " --config intermediate_size=4096",
    "llama_block_fst_2to4": "hf:LlamaConfig --context 1024 --config num_hidden_layers=1 --config vocab_size=128",
}
"""Full-size networks, one real step at batch 1 from their initialisation; FST, so that every product has its structure."""
ONE_STEP = "--recipe fst --recipe-option dense_tail=0 --steps 1 --batch 1 --threads 1 --mask-payload-limit 0 --tile-wise-density 1/2"

TASKS = {
    "digits_resnet": "resnet --data digits --steps 400",
    "digits_vit": "vit --data digits --steps 480",
    "gpt_w256": "gpt --data pydoc --width 256 --layers 2 --heads 4 --context 64 --steps 600 --batch 8",
}
COMMITTED = ("dense", "sr-ste", "transposable", "bdwp", "fst", "tile-wise")
"""Recipes whose 2:4 trace is kept."""
BESIDE = ("mvue", "mvue-greedy", "ste", "asp", "permute", "adaprune", "unstructured", "tew")
"""Trained for the table alone."""
SPARSER = (("sr-ste", "1:4"), ("sr-ste", "2:8"), ("bdwp", "1:4"), ("bdwp", "2:8"))
"""Of the digits kept in these patterns too: the recipes that Zhou and Fang report there."""
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Run:
    """One training run; `variant` is the recipe, or a recipe with an option such as mvue-greedy."""

    task: str
    variant: str
    pattern: str
    seed: int
    committed: bool

    @property
    def name(self) -> str:
        """Name of its trace."""
        words = [self.task, self.variant.replace("-", "_")]
        words += [self.pattern.replace(":", "to")] if self.variant != "dense" else []
        words += [f"seed{self.seed}"] if self.seed else []
        return "_".join(words)

    @property
    def words(self) -> list[str]:
        """Arguments of `nmsim train`, but for the trace."""
        recipe, greedy, _ = self.variant.partition("-greedy")
        options = ["--recipe-option", "estimator=greedy"] if greedy else []
        rest = ["--recipe", recipe, "--pattern", self.pattern, *options, "--seed", str(self.seed), "--threads", "1"]
        return [*TASKS[self.task].split(), *rest]


def runs() -> Iterator[Run]:
    """Every run, those of a task together: 2:4 with three seeds, and one seed of what is sparser."""
    for task in TASKS:
        for variant in (*COMMITTED, *BESIDE):
            for seed in SEEDS:
                yield Run(task, variant, "2:4", seed, committed=variant in COMMITTED and seed == 0)
        for recipe, pattern in SPARSER:
            if task.startswith("digits") or pattern == "2:8":
                yield Run(task, recipe, pattern, 0, committed=True)
        # Where 2:4 of a gradient is too mild to tell an unbiased estimate from a greedy one.
        for variant in ("mvue", "mvue-greedy"):
            for seed in SEEDS if task == "digits_vit" else SEEDS[:1]:
                yield Run(task, variant, "1:8", seed, committed=False)


def train() -> None:
    """Trains what has no result yet; a run that fails keeps what it said instead of an accuracy."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    todo = [run for run in runs() if run.name not in results]
    for number, run in enumerate(todo, 1):
        sys.stderr.write(f"{number} of {len(todo)}: {run.name}\n")
        manifest = FOLDER / f"{run.name}.nmtrace" / "manifest.json"
        with tempfile.TemporaryDirectory() as scratch:
            folder = FOLDER if run.committed else Path(scratch)
            command = [sys.executable, "-m", "nmsim", "train", *run.words, "--trace", str(folder / f"{run.name}.nmtrace"), "--json"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = None if manifest.exists() else subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done is None:
            provenance = json.loads(manifest.read_text())["provenance"]
            said = {"held_out_accuracy": provenance["accuracy"], "loss": provenance["loss"]}
        elif done.returncode:
            said = {"error": done.stderr.strip().splitlines()[-1]}
        else:
            said = json.loads(done.stdout)
        results[run.name] = {
            "task": run.task,
            "recipe": run.variant,
            "pattern": run.pattern,
            "seed": run.seed,
            "committed": run.committed,
            "command": shlex.join(["nmsim", "train", *run.words, "--trace", f"{run.name}.nmtrace"]),
            "accuracy": said.get("held_out_accuracy"),
            "loss": said.get("loss"),
            "error": said.get("error"),
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def record_full() -> None:
    """Records what is not there yet."""
    for name, words in FULL.items():
        folder = FOLDER / f"{name}.nmtrace"
        if not folder.exists():
            sys.stderr.write(f"{name}\n")
            command = [sys.executable, "-m", "nmsim", "train", *words.split(), *ONE_STEP.split(), "--trace", str(folder)]
            subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


if __name__ == "__main__":
    if sys.argv[1:] == ["train"]:
        train()
    elif sys.argv[1:] == ["full"]:
        record_full()
    elif sys.argv[1:] == ["readme"]:
        from table import write_readme

        write_readme(FOLDER, json.loads(RESULTS.read_text()), list(runs()))
    elif sys.argv[1:] == ["accuracies"]:
        from table import write_accuracies

        write_accuracies(FOLDER, json.loads(RESULTS.read_text()), list(runs()))
    else:
        sys.exit(__doc__)
