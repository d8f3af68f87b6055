"""Knees are found where a curve is half way between its plateaus."""

import math

from nmsim.validation.suites.memory import half_way


def test_a_crossing_lies_straight_between_its_points() -> None:
    assert half_way({1: 10.0, 2: 10.0, 4: 30.0, 8: 30.0}, 20.0) == 3.0
    assert half_way({1: 30.0, 3: 10.0}, 15.0) == 2.5


def test_a_curve_that_never_crosses_has_no_knee() -> None:
    assert half_way({1: 10.0, 2: 12.0}, 20.0) == math.inf
