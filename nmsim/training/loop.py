"""A training run: real data, real updates, and the last step recorded as a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nmsim.errors import InputError
from nmsim.training.data import load_dataset
from nmsim.training.layers import SparseLayer
from nmsim.training.models import model_config, model_kind
from nmsim.training.options import TrainOptions
from nmsim.training.recipes import make_recipe
from nmsim.training.recipes.recipe import Recipe
from nmsim.training.recorder.record import TraceBuilder, record
from nmsim.training.schedule import learning_rate, make_optimizer
from nmsim.training.selection import CONVENTION, sparsify
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
        self.config = model_config(options.model, dict(options.sizes))
        self.data = load_dataset(options.data or kind.data, kind.reads, getattr(self.config, "context", 0))
        self.recipe: Recipe = make_recipe(options.recipe, options.pattern, options.recipe_options)
        torch.manual_seed(options.seed)
        self.model: nn.Module = kind.build(self.config, self.data.classes)
        self.layers = sparsify(self.model, self.recipe, options.pattern) if self.recipe.prunes else {}
        self.batch = options.batch or kind.batch
        self.peak = options.learning_rate or kind.learning_rate
        self.weight_decay = kind.weight_decay if options.weight_decay is None else options.weight_decay
        self.optimizer_name = options.optimizer or kind.optimizer
        self.warmup_steps = round(options.warmup_share * options.steps)
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
        with record(self.model, batch=self.batch, payload_limit_bytes=self.options.payload_limit_bytes) as builder:
            loss, logits = self._update(inputs, targets)
        return self._report(loss, logits, targets), builder

    def _begin_step(self) -> tuple[Tensor, Tensor]:
        """Sets the learning rate, lets the recipe decide what it decides between steps, and draws the samples."""
        self.steps_taken += 1
        rate = learning_rate(self.steps_taken, self.options.steps, self.peak, self.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.recipe.begin_step(list(self.layers.values()), self.steps_taken)
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
        return StepReport(self.steps_taken, value, _right(logits, targets) / targets.numel(), _flip_rate(self.layers.values()))

    @torch.no_grad()
    def held_out_accuracy(self) -> float:
        """Share of held-out targets (digits, or next characters) that the model ranks first, in [0, 1]."""
        self.model.eval()
        right = total = 0
        for inputs, targets in self.data.held_out_batches(self.batch):
            with torch.autocast("cpu", COMPUTE_DTYPE):
                right += _right(self.model(inputs), targets)
            total += targets.numel()
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
            "warmup_steps": self.warmup_steps,
            "schedule": "linear warm-up, cosine",
            "autocast": "bf16",
            "layers_pruned": CONVENTION if self.recipe.prunes else "none",
            "pruned": list(self.layers),
        }


def train(
    options: TrainOptions, path: Path, keep_weights: bool = False, progress: Callable[[StepReport], None] = lambda report: None
) -> Trace:
    """Trains for `options.steps` steps, records the last one, measures held-out accuracy, and writes the trace to `path`.

    `keep_weights` stores the float16 master weights beside it. `progress` is told of every step. InputError for options that
    do not fit together, or when the loss stops being a number.
    """
    run = Run(options)
    for _ in range(options.steps - 1):
        progress(run.step())
    report, builder = run.recorded_step()
    progress(report)
    return builder.write(
        path,
        keep_weights,
        kind="trained",
        model=options.model,
        dataset=run.data.description,
        recipe=options.recipe,
        hyper_parameters=run.hyper_parameters(),
        seed=options.seed,
        step=options.steps,
        loss=report.loss,
        accuracy=run.held_out_accuracy(),
        command=options.command(path.name),
    )


def _right(logits: Tensor, targets: Tensor) -> int:
    """Targets whose logit is the largest."""
    return int(torch.count_nonzero(logits.argmax(-1) == targets))


def _flip_rate(layers: Iterable[SparseLayer]) -> float:
    """Changed mask bits over all mask bits of the network; 0 without masks."""
    masks = [(layer.flipped, layer.weight_mask.numel()) for layer in layers if layer.weight_mask is not None]
    return sum(flipped for flipped, _ in masks) / sum(size for _, size in masks) if masks else 0.0
