"""`nmsim train`: a real training run, its last step recorded as a trace."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmsim.errors import InputError

if TYPE_CHECKING:
    from nmsim.training.loop import StepReport
    from nmsim.training.options import TrainOptions


RECIPE_NAMES = "dense, asp, ste, sr-ste, transposable, bdwp, mvue, fst, adaprune, permute, tile-wise, tew, unstructured"
"""Written out, because the table of recipes imports torch; a test compares the two."""


def train(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="resnet or vit (images), gpt (characters), or hf:BertConfig and its like.")],
    trace: Annotated[Path, typer.Option(metavar="OUT.nmtrace", help="The folder to write the recorded step to.")],
    data: Annotated[str | None, typer.Option(help="digits, pydoc or pydoc-masked; the model's own if not given.")] = None,
    recipe: Annotated[
        str, typer.Option(help="dense, asp, ste, sr-ste, transposable, bdwp, mvue, fst, adaprune, permute, tile-wise, tew, unstructured.")
    ] = "dense",
    pattern: Annotated[str, typer.Option(metavar="N:M", help="N kept of M consecutive weights along the reduction.")] = "2:4",
    steps: Annotated[int, typer.Option(help="Training steps; the last one is recorded.")] = 200,
    batch: Annotated[int | None, typer.Option(help="Samples of a step.")] = None,
    width: Annotated[int | None, typer.Option(help="Channels of the first stage, or features of the transformer.")] = None,
    layers: Annotated[int | None, typer.Option(help="Blocks: a stage's (resnet) or all (vit, gpt).")] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads (vit, gpt).")] = None,
    context: Annotated[int | None, typer.Option(help="Characters of a sample (gpt, hf:).")] = None,
    config: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A value of an hf: configuration.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd or adamw.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate (linear warm-up, then a cosine).")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay of matrices and filters.")] = None,
    warmup: Annotated[float, typer.Option(help="Share of the steps that warm up.")] = 0.1,
    recipe_option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A recipe's own, e.g. decay=6e-5.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and sample order.")] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads; equal runs need equal threads.")] = None,
    mask_payload_limit: Annotated[int | None, typer.Option(metavar="BYTES", help="Packed masks kept in the trace, in total.")] = None,
    tile_wise_density: Annotated[
        list[str] | None, typer.Option(metavar="D", help="Plan the tile-wise baseline at this density, e.g. 1/2; may be repeated.")
    ] = None,
    tile_wise_least_share: Annotated[
        float, typer.Option(metavar="S", help="Share of its weights that the baseline leaves every layer, up to its density.")
    ] = 0.0,
    weights: Annotated[bool, typer.Option("--weights", help="Also store the float16 master weights.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Trains MODEL with an N:M recipe on data that ships with a Python package, and records the last step.

    bf16 autocast on the CPU. The trace holds every GEMM of the step with the masks that were really used.

    Examples:

      nmsim train resnet --data digits --recipe sr-ste --pattern 2:4 --steps 400 --trace digits.nmtrace

      nmsim train gpt --data pydoc --recipe dense --width 256 --context 128 --trace gpt.nmtrace

      nmsim train hf:BertConfig --config num_hidden_layers=2 --recipe fst --steps 20 --trace bert.nmtrace
    """
    from nmsim.training import require_training_packages

    require_training_packages()
    if trace.suffix != ".nmtrace":
        raise InputError("a trace is a folder NAME.nmtrace", path="--trace", value=str(trace), fix="add .nmtrace")

    from nmsim.sparsity.pattern import NMPattern
    from nmsim.training.options import DEFAULT_DENSITIES, DEFAULT_PAYLOAD_LIMIT_BYTES, TrainOptions

    sizes = {"width": width, "layers": layers, "heads": heads, "context": context}
    options = TrainOptions(
        model=model,
        recipe=recipe,
        pattern=NMPattern.parse(pattern),
        steps=steps,
        data=data,
        batch=batch,
        optimizer=optimizer,
        learning_rate=lr,
        weight_decay=weight_decay,
        warmup_share=warmup,
        seed=seed,
        threads=threads,
        sizes={size: value for size, value in sizes.items() if value is not None},
        config_values=_pairs(config or [], "--config"),
        recipe_options=_pairs(recipe_option or [], "--recipe-option"),
        payload_limit_bytes=DEFAULT_PAYLOAD_LIMIT_BYTES if mask_payload_limit is None else mask_payload_limit,
        tile_wise_densities=DEFAULT_DENSITIES if tile_wise_density is None else tuple(map(_density, tile_wise_density)),
        tile_wise_least_share=tile_wise_least_share,
    )
    _run(options, trace, weights, as_json)


def _run(options: TrainOptions, trace: Path, weights: bool, as_json: bool) -> None:
    from nmsim.training.loop import train as train_model
    from nmsim.training.recorder.flops import gemm_flops

    reports: list[StepReport] = []
    with _progress_bar(options.steps) as advance:

        def take(report: StepReport) -> None:
            reports.append(report)
            advance(report)

        recorded = train_model(options, trace, keep_weights=weights, progress=take)
    provenance, last = recorded.provenance, reports[-1]
    if as_json:
        summary = {
            "trace": str(trace),
            "gemms": len(recorded.gemms),
            "gemm_flops": gemm_flops(recorded),
            "loss": provenance.loss,
            "held_out_accuracy": provenance.accuracy,
            "flip_rate": last.flip_rate,
            "command": provenance.command,
        }
        typer.echo(json.dumps(summary, indent=2))
        return
    typer.echo(f"{trace}: step {last.step} of {options.model} on {provenance.dataset}")
    accuracy = "not measured" if provenance.accuracy is None else f"{100 * provenance.accuracy:.2f} %"
    typer.echo(
        f"loss {last.loss:.4f}, held-out accuracy {accuracy}, mask flip rate {100 * last.flip_rate:.4f} %, "
        f"{len(recorded.gemms)} GEMMs, {gemm_flops(recorded) / 1e9:.1f} GFLOP"
    )


@contextmanager
def _progress_bar(steps: int) -> Iterator[Callable[[StepReport], None]]:
    """A bar on stderr with loss, accuracy and mask churn; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.1%}  mask flips {task.fields[flip_rate]:.3%}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("training", total=steps, loss=0.0, accuracy=0.0, flip_rate=0.0)

        def advance(report: StepReport) -> None:
            progress.update(task, completed=report.step, loss=report.loss, accuracy=report.accuracy, flip_rate=report.flip_rate)

        yield advance


def _density(text: str) -> str:
    """A share in (0, 1) as the fraction in lowest terms that a trace names it by."""
    try:
        density = Fraction(text)
    except (ValueError, ZeroDivisionError):
        density = Fraction(0)
    if not 0 < density < 1:
        raise InputError("a density is a share between 0 and 1", path="--tile-wise-density", value=text, fix="for example 1/2")
    return str(density)


def _pairs(texts: list[str], option: str) -> dict[str, str]:
    """`KEY=VALUE` texts as a mapping; InputError for a text without an equals sign."""
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError("is KEY=VALUE", path=option, value=text, fix="for example decay=2e-4, or hidden_size=64")
        pairs[key] = value
    return pairs
