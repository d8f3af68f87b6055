"""Counters times sourced costs: joules, watts, and the clock that a power limit leaves."""
