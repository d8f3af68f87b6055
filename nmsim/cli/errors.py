"""How a command ends: exit codes, and one line on stderr instead of a traceback.

0  done
1  a check that was asked for did not hold, or nmsim itself failed
2  a file, value or argument is wrong
130, 141  interrupted; the reader of the output went away (as a shell reports these signals)
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from io import StringIO
from pathlib import Path

import typer

from nmsim.errors import CheckFailed, NmsimError, PhysicsError

INTERRUPTED = 130
BROKEN_PIPE = 141
DEBUG_VARIABLE = "NMSIM_DEBUG"


def guarded(command: Callable[[], object], debug: Callable[[], bool]) -> int:
    """Run `command` and turn however it ends into an exit code; tracebacks only where `debug()` holds afterwards."""
    try:
        result = command()
        sys.stdout.flush()  # a reader that went away shows itself here at the latest
        return result if isinstance(result, int) else 0
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except SystemExit as ended:
        if ended.code == 1 and isinstance(ended.__context__, BrokenPipeError):  # typer's way of saying so
            _silence_stdout()
            return BROKEN_PIPE
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except typer.TyperException as error:  # a wrong option or argument
        if problem := error.format_message():  # empty where the help was printed instead
            _say(f"{problem}{'' if problem[-1] in '.?!' else '.'}{_help_hint(error)}", "error")
        return error.exit_code
    except NmsimError as error:
        if debug():
            traceback.print_exc()
        elif isinstance(error, PhysicsError):
            _say(f"{error}; {_REPORT}", "internal error")
        elif str(error):
            _say(str(error), "check failed" if isinstance(error, CheckFailed) else "error")
        return error.exit_code
    except Exception as error:  # the last line of defence: a user should never meet a traceback unasked
        if debug():
            traceback.print_exc()
        else:
            _say(f"{_where(error)}: {_first_line(error)}; {_REPORT}", "internal error")
        return 1


_REPORT = f"this is a bug in nmsim: please report it with the command you ran and what it prints under --debug (or {DEBUG_VARIABLE}=1)"


def debug_from_environment() -> bool:
    """Whether NMSIM_DEBUG asks for tracebacks."""
    return os.environ.get(DEBUG_VARIABLE, "").lower() not in ("", "0", "false", "no")


def _say(text: str, kind: str) -> None:
    prefix = f"nmsim: {kind}: " if kind else "nmsim: "
    one_line = " ".join(text.split())
    with suppress(BrokenPipeError):  # nobody is there to be told
        typer.echo(prefix + one_line, err=True)


def _help_hint(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f" Try `{context.command_path} --help`." if context is not None else ""


def _where(error: BaseException) -> str:
    """Exception type and the innermost line of nmsim's own that it passed through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "nmsim" in Path(frame.filename).parts]
    at = f" in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"unexpected {type(error).__name__}{at}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no further message"])[0]


def _silence_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not complain about the closed pipe."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = StringIO()  # not a real file but a buffer of a test
