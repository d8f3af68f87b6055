"""The `nmsim` command: a table of sub-commands, each imported only when it runs, so that `--help` stays quick.

A sub-command is one file in this package and one row in COMMANDS.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from nmsim.cli.errors import debug_from_environment, guarded
from nmsim.version import MODEL_VERSION, __version__

COMMANDS = {
    "simulate": ("nmsim.cli.simulate", "Simulate recorded training steps beside dense and tile-wise."),
    "gemm": ("nmsim.cli.gemm", "Simulate one GEMM, dense or N:M sparse."),
    "mma": ("nmsim.cli.mma", "Measure one matrix instruction on the simulated SM."),
    "train": ("nmsim.cli.train", "Train a network with an N:M recipe and record a step as a trace."),
    "validate": ("nmsim.cli.validate", "Compare the simulator with published measurements."),
    "sweep": ("nmsim.cli.sweep", "Simulate many points: machines, networks, recipes, patterns, batches."),
    "report": ("nmsim.cli.report", "Draw the figures of stored results and write one HTML page."),
    "compare": ("nmsim.cli.compare", "Say what changed between two folders of results, and by which stall."),
    "arch": ("nmsim.cli.arch", "Check an architecture file, or show what it resolves to."),
    "trace": ("nmsim.cli.trace", "Check a recorded trace, or show what it holds."),
}
"""Name -> (module, one line of help); in the order in which `--help` lists them."""


class LazyGroup(TyperGroup):
    """A group that lists its commands from the table and imports a command when it is invoked."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # Stand-ins with the help line: all that listing, completion and "did you mean" need.
        self.commands = {name: TyperCommand(name, help=line) for name, (_, line) in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """(name, the command itself, imported now, what is left of the arguments)."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else command_of(name), rest


def command_of(name: str) -> Any:
    """Import a sub-command: its module holds a typer `app` of several, or one function of the command's name."""
    module = import_module(COMMANDS[name][0])
    group: typer.Typer | None = getattr(module, "app", None)
    if group is None:
        group = typer.Typer(add_completion=False)
        group.command(name)(getattr(module, name))
    command = typer.main.get_command(group)
    command.name = name
    return command


_ALLOCATIONS_BETWEEN_COLLECTIONS = 100_000
"""Python's own number is 700."""

app = typer.Typer(
    name="nmsim",
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"nmsim {__version__} (model {MODEL_VERSION})")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something goes wrong (also NMSIM_DEBUG=1).")] = False,
) -> None:
    """What each training GEMM costs under N:M sparsity on a given machine, in cycles and joules, and why.

    Examples:

      nmsim arch show arch_configs/ampere.yaml

      nmsim gemm arch_configs/ampere.yaml --m 4096 --n 4096 --k 4096 --pattern 2:4

      nmsim train resnet --data digits --recipe sr-ste --pattern 2:4 --trace digits.nmtrace

      nmsim simulate arch_configs/ampere.yaml digits.nmtrace

    Exit codes: 0 done, 1 a check failed, 2 bad input. NO_COLOR turns colours off.
    """
    ctx.ensure_object(dict)["debug"] |= debug


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (default: this process's arguments) and return its exit code."""
    state = {"debug": debug_from_environment()}

    def run(given: list[str]) -> int:
        return guarded(lambda: app(args=given, prog_name="nmsim", standalone_mode=False, obj=state), lambda: state["debug"])

    if arguments is not None:
        return run(list(arguments))
    # a process of our own: what start-up makes lives until the end, and searching it for garbage on the way and again at the
    # exit takes a sixth of a short command
    gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
    code = run(sys.argv[1:])
    gc.freeze()
    return code
