"""What no file should hold, and the guard under which it is read: refused in one line, at once, in little memory."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from nmsim.errors import InputError

HANG_S = 120
"""Far beyond what any input takes, even on a machine that is busy with other work."""
MOST_MEMORY_KB = 400_000
"""What all inputs of a test together may add to the process: an alias bomb or 10^18 dimensions would take gigabytes."""

NUMBERS = [
    "0",
    "-1",
    "1e18",
    "1000000000000000000",
    "1" * 30,
    "9" * 5000,
    "1e400",
    "-1e400",
    ".nan",
    ".inf",
    "-.inf",
    "NaN",
    "0x" + "f" * 40,
]
NUMBERS += ["2147483647", "2147483648", "9223372036854775808", "1e-300", "-0.0", "1_000", "٣", "²", "0o777", "007", "1:2", "1.5", "+3"]
WORDS = [
    "",
    "~",
    "null",
    "true",
    "yes",
    "*a",
    "&a 1",
    "!!python/object:os.system x",
    "!!binary aGk=",
    "<<",
    "- 1",
    "{",
    "}",
    "[",
    "]",
    "'",
    '"',
]
WORDS += [
    "<script>alert(1)</script>",
    "[bold red]x[/]",
    "[/]",
    "{{ 7*7 }}",
    "$x_{1}^2$",
    "../../etc/passwd",
    "/dev/zero",
    "~",
    "a\x00b",
    "\ud83d\ude00",
]
WORDS += ["%s%s%s%n", "\u202e", "\r\n", "\t", "2:4", "64:1", "0:0", "4:2", "1:1000000000000", "fp16", "dense", "x" * 3000]
STRUCTURES = [
    "[" * 3000,
    "{a: " * 500,
    "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]",
    "{a: 1, a: 2}",
    "&x [*x, *x]",
    "? [a]\n: b",
    "--- 1\n--- 2",
]
BOMB = "\n".join(f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]" if level else "l0: &l0 [x, x, x, x]" for level in range(15))

tokens = st.one_of(st.sampled_from([*NUMBERS, *WORDS, *STRUCTURES]), st.text(max_size=12), st.integers().map(str), st.floats().map(str))
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from([10**18, 10**40, -1, 0, 2**31, 2**63, float("nan"), float("inf"), "../x", "<b>", "2:4", "1/2"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)


def fuzzed(examples: int) -> settings:
    """Settings of one fuzz test."""
    checks = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)
    phases = (Phase.explicit, Phase.generate)  # a failing example is printed as it is: shrinking one that hangs would take hours
    return settings(max_examples=examples, deadline=None, database=None, print_blob=True, suppress_health_check=checks, phases=phases)


@contextmanager
def time_limit(seconds: int = HANG_S) -> Iterator[None]:
    """TimeoutError for what takes longer: a hang."""

    def stop(_number: int, _frame: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read_or_refused(read: Callable[[], object]) -> str | None:
    """None where `read` gives something back, else the one line with which it refuses. Anything else is a defect."""
    with time_limit():
        try:
            read()
        except InputError as refusal:
            said = str(refusal)
            assert said
            assert len(said) < 20_000
            return said
    return None


@contextmanager
def little_memory() -> Iterator[None]:
    """AssertionError where the largest footprint of this process grows by more than it should."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MOST_MEMORY_KB, f"{grown} kB more"


def mutated_lines(draw: Callable[[st.SearchStrategy[Any]], Any], text: str) -> str:
    """A real text file with one to three changes: a value, a key, a line lost, doubled, moved or indented, a byte."""
    lines = text.split("\n")
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(lines) - 1))
        action = draw(st.sampled_from(["value", "value", "value", "key", "delete", "double", "move", "indent", "insert", "cut"]))
        key, colon, _rest = lines[place].partition(":")
        if action == "value" and colon:
            lines[place] = f"{key}: {draw(tokens)}"
        elif action == "key":
            lines[place] = f"{' ' * draw(st.integers(0, 6))}{draw(tokens)}: {_rest}"
        elif action == "delete":
            del lines[place]
        elif action == "double":
            lines.insert(place, lines[place])
        elif action == "move":
            lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(place))
        elif action == "indent":
            lines[place] = draw(st.sampled_from([" ", "  ", "\t", "- "])) + lines[place]
        elif action == "insert":
            lines.insert(place, draw(tokens))
        else:
            lines[place] = lines[place][: draw(st.integers(0, len(lines[place])))]
        if not lines:
            lines = [""]
    return "\n".join(lines)
