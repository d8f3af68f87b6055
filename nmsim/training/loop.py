"""A training run: real data, real updates, and the last step of each of its stages recorded as a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nmsim.errors import InputError
from nmsim.training.data import load_dataset
from nmsim.training.layers import SparseLayer
from nmsim.training.models import model_config, model_kind
from nmsim.training.observe import Observer
from nmsim.training.options import TrainOptions
from nmsim.training.recipes import make_recipe
from nmsim.training.recipes.recipe import Recipe
from nmsim.training.recorder.record import TraceBuilder, record
from nmsim.training.schedule import learning_rate, make_optimizer
from nmsim.training.selection import CONVENTION, sparsify
from nmsim.training.stages import MAIN, Stage, learning_rate_leg
from nmsim.workload.history import write_history
from nmsim.workload.store import SUFFIX, write_trace
from nmsim.workload.trace import Trace

COMPUTE_DTYPE = torch.bfloat16
"""The autocast type of every run."""


@dataclass(frozen=True)
class StepReport:
    """What one step showed: loss and accuracy on its own batch, and the share of mask bits that changed since the step before."""

    step: int
    loss: float
    accuracy: float
    flip_rate: float


class Run:
    """A model under a recipe with its data and optimiser, ready to take steps; equal options give equal runs."""

    def __init__(self, options: TrainOptions) -> None:
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        kind = model_kind(options.model)
        self.options, self.kind = options, kind
        self.config = model_config(options.model, dict(options.sizes), options.config_values)
        self.data = load_dataset(options.data or kind.data, kind.reads, getattr(self.config, "context", 0))
        self.recipe: Recipe = make_recipe(options.recipe, options.pattern, options.recipe_options)
        torch.manual_seed(options.seed)
        self.model: nn.Module = kind.build(self.config, self.data.classes)
        self.layers = sparsify(self.model, self.recipe, options.pattern, options.seed) if self.recipe.prunes else {}
        self.stages = self.recipe.stages(options.steps)
        self.observer = Observer(self.layers, options.steps)
        self.batch = options.batch or kind.batch
        self.peak = options.learning_rate or kind.learning_rate
        self.weight_decay = kind.weight_decay if options.weight_decay is None else options.weight_decay
        self.optimizer_name = options.optimizer or kind.optimizer
        self.optimizer = make_optimizer(self.optimizer_name, self.model, self.peak, self.weight_decay)
        self.generator = torch.Generator().manual_seed(options.seed)
        self.steps_taken = 0

    def step(self) -> StepReport:
        """One training step."""
        inputs, targets = self._begin_step()
        return self._report(*self._update(inputs, targets), targets)

    def recorded_step(self) -> tuple[StepReport, TraceBuilder]:
        """One training step, recorded: forward, loss, backward and update, without the drawing of samples and the bookkeeping."""
        inputs, targets = self._begin_step()
        options = self.options
        with record(
            self.model,
            batch=self.batch,
            payload_limit_bytes=options.payload_limit_bytes,
            tile_wise_densities=options.tile_wise_densities,
            tile_wise_least_share=options.tile_wise_least_share,
        ) as builder:
            loss, logits = self._update(inputs, targets)
        return self._report(loss, logits, targets), builder

    def _begin_step(self) -> tuple[Tensor, Tensor]:
        """Sets the learning rate, lets the recipe decide what it decides between steps, and draws the samples."""
        self.steps_taken += 1
        step, leg = learning_rate_leg(self.stages, self.steps_taken)
        if step == 1 < self.steps_taken:
            # Momentum of the network as it was before a restart would undo what the restart is for.
            self.optimizer = make_optimizer(self.optimizer_name, self.model, self.peak, self.weight_decay)
        rate = learning_rate(step, leg, self.peak, self._warmup_steps(leg))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        layers = list(self.layers.values())
        for layer in layers:
            layer.flipped = 0
        with torch.no_grad():
            self.recipe.begin_step(self.model, layers, self.steps_taken, self.options.steps)
        self.observer.before_step(self.steps_taken)
        return self.data.random_batch(self.batch, self.generator)

    def _update(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Forward, loss, backward, optimiser; the loss and the logits."""
        self.optimizer.zero_grad()
        with torch.autocast("cpu", COMPUTE_DTYPE):
            logits = self.model(inputs)
            loss = cross_entropy(logits.flatten(0, -2), targets.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach(), logits.detach()

    def _report(self, loss: Tensor, logits: Tensor, targets: Tensor) -> StepReport:
        value = loss.item()
        if value != value:
            raise InputError("the loss is not a number any more", path=f"step {self.steps_taken}", fix="lower --lr")
        accuracy, flip_rate = _right(logits, targets) / max(1, _asked(targets)), _flip_rate(self.layers.values())
        self.observer.after_step(self.steps_taken, value, accuracy, flip_rate)
        return StepReport(self.steps_taken, value, accuracy, flip_rate)

    def _warmup_steps(self, leg: int) -> int:
        """Warm-up steps of a leg of the learning-rate schedule, of `leg` steps."""
        return round(self.options.warmup_share * leg)

    @torch.no_grad()
    def held_out_accuracy(self) -> float:
        """Share of held-out targets (digits, or next characters) that the model ranks first, in [0, 1]."""
        self.model.eval()
        right = total = 0
        for inputs, targets in self.data.held_out_batches(self.batch):
            with torch.autocast("cpu", COMPUTE_DTYPE):
                right += _right(self.model(inputs), targets)
            total += _asked(targets)
        self.model.train()
        return right / total

    def hyper_parameters(self) -> dict[str, Any]:
        """All that decides the run, and which layers it pruned."""
        return {
            **asdict(self.config),
            **{key: value for key, value in asdict(self.recipe).items() if key != "pattern"},
            "pattern": str(self.recipe.pattern) if self.recipe.prunes else None,
            "batch": self.batch,
            "steps": self.options.steps,
            "optimizer": self.optimizer_name,
            "learning_rate": self.peak,
            "weight_decay": self.weight_decay,
            "warmup_steps": self._warmup_steps(learning_rate_leg(self.stages, self.options.steps)[1]),
            "schedule": "linear warm-up, cosine",
            "stages": [[stage.name or "main", stage.steps] for stage in self.stages],
            "autocast": "bf16",
            "layers_pruned": CONVENTION if self.recipe.prunes else "none",
            "pruned": list(self.layers),
        }


def train(
    options: TrainOptions, path: Path, keep_weights: bool = False, progress: Callable[[StepReport], None] = lambda report: None
) -> Trace:
    """Trains for `options.steps` steps, records the last one of each stage, measures held-out accuracy, and writes the trace.

    The trace at `path` (NAME.nmtrace) holds the step of the main stage and the accuracy that the whole run reached; a step of any
    other stage is beside it as NAME-STAGE.nmtrace, and `schedule` names them all. `keep_weights` stores the float16 master
    weights too. `progress` is told of every step. InputError for options that do not fit together, or when the loss stops
    being a number.
    """
    run = Run(options)
    name = path.name.removesuffix(SUFFIX)
    recorded: dict[str, tuple[StepReport, TraceBuilder, Trace]] = {}
    for stage in run.stages:
        for _ in range(stage.steps - 1):
            progress(run.step())
        report, builder = run.recorded_step()
        progress(report)
        recorded[stage.name] = report, builder, builder.trace(stage.trace_name(name))
    schedule = tuple({"steps": stage.steps, "trace": f"{stage.trace_name(name)}{SUFFIX}"} for stage in run.stages)
    # One step trains nothing: its trace is of the initialised network, and says so.
    is_trained = options.steps > 1
    accuracy = run.held_out_accuracy() if is_trained else None
    for stage in run.stages:
        report, builder, trace = recorded[stage.name]
        is_main = stage.name == MAIN
        provenance = replace(
            trace.provenance,
            kind="trained" if is_trained else "initialised",
            model=options.model,
            dataset=run.data.description,
            recipe=options.recipe,
            hyper_parameters=run.hyper_parameters(),
            seed=options.seed,
            step=report.step,
            loss=report.loss,
            accuracy=accuracy if is_main else None,
            command=options.command(path.name),
            notes=_notes(name, stage, is_trained),
        )
        trace = replace(trace, provenance=provenance, schedule=schedule if is_main and is_trained else ())
        recorded[stage.name] = report, builder, trace
        folder = path.with_name(f"{stage.trace_name(name)}{SUFFIX}")
        write_trace(trace, folder, builder.half_precision_weights() if keep_weights and is_main else None)
    if is_trained:
        write_history(run.observer.history(), path)
    return recorded[MAIN][2]


def _notes(run: str, stage: Stage, is_trained: bool) -> tuple[str, ...]:
    """What a reader of the trace of one stage must know."""
    if not is_trained:
        return ("one training step of the network as it was initialised: shapes, masks and structure are real, accuracy is none",)
    return () if stage.name == MAIN else (f"a step of the stage {stage.name} of the run {run}, whose trace holds its accuracy",)


def _right(logits: Tensor, targets: Tensor) -> int:
    """Targets whose logit is the largest."""
    return int(torch.count_nonzero(logits.argmax(-1) == targets))


def _asked(targets: Tensor) -> int:
    """Targets that count: all but those that the loss leaves out."""
    return int(torch.count_nonzero(targets >= 0))


def _flip_rate(layers: Iterable[SparseLayer]) -> float:
    """Changed mask bits over all mask bits of the network; 0 without masks."""
    masks = [(layer.flipped, layer.weight_mask.numel()) for layer in layers if layer.weight_mask is not None]
    return sum(flipped for flipped, _ in masks) / sum(size for _, size in masks) if masks else 0.0
