"""Events of one tick fire in the order of their keys, whenever and by whomever they were scheduled."""

from __future__ import annotations

from collections.abc import Generator
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simpy.events import Event

from nmsim.engine.environment import KeyedEnvironment


def fired(asked: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(tick, key) in the order in which processes that asked for them, in the order given, went on."""
    env, order = KeyedEnvironment(), []

    def process(tick: int, key: int) -> Generator[Event, None, None]:
        yield env.until(tick, key)
        assert env.tick == tick
        order.append((tick, key))

    for tick, key in asked:
        env.process(process(tick, key))
    env.run()
    return order


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1 << 60)), unique=True))
def test_events_fire_by_tick_then_by_key(asked: list[tuple[int, int]]) -> None:
    assert fired(asked) == sorted(asked)


def test_the_order_of_asking_changes_nothing() -> None:
    events = [(3, 9), (3, 0), (2, 5), (3, 4)]
    assert {tuple(fired(list(order))) for order in permutations(events)} == {tuple(sorted(events))}


def test_an_event_asked_for_in_its_own_tick_fires_in_that_tick_even_with_a_lower_key() -> None:
    env, order = KeyedEnvironment(), []

    def first() -> Generator[Event, None, None]:
        yield env.until(7, 5)
        order.append("first")
        yield env.until(7, 0)
        order.append("first again")

    def second() -> Generator[Event, None, None]:
        yield env.until(7, 6)
        order.append("second")

    env.process(second())
    env.process(first())
    env.run()
    assert order == ["first", "first again", "second"]
    assert env.tick == 7


def test_simpy_s_own_events_of_a_tick_come_before_the_keyed_ones() -> None:
    """A gate opened in a tick lets its waiters through before the next keyed event of that tick."""
    env, order = KeyedEnvironment(), []
    gate = env.event()

    def waiter() -> Generator[Event, None, None]:
        yield gate
        order.append("waiter")

    def opener() -> Generator[Event, None, None]:
        yield env.until(1, 0)
        gate.succeed()

    def later() -> Generator[Event, None, None]:
        yield env.until(1, 1)
        order.append("later")

    for process in (later, waiter, opener):
        env.process(process())
    env.run()
    assert order == ["waiter", "later"]


def test_an_event_in_the_past_is_refused() -> None:
    env = KeyedEnvironment()

    def process() -> Generator[Event, None, None]:
        yield env.until(5, 0)
        env.until(4, 0)

    env.process(process())
    with pytest.raises(ValueError, match="tick 4 lies in the past of tick 5"):
        env.run()
