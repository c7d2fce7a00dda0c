"""A trace keeps each peak, in order, within a bound, however much goes into it."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from killswitch.pictures.traces import LARGEST, STEPS_MAX, Trace

VALUES = st.floats(allow_nan=True, allow_infinity=True)
STEPS = st.lists(st.tuples(st.floats(min_value=0, max_value=1e6), VALUES), max_size=300)


def walked(pairs, began=1.7e9):
    trace, at = Trace(), began
    held = []
    for ahead, value in pairs:
        at += ahead
        trace.take(at, value)
        if not math.isnan(value):
            held.append((at, max(-LARGEST, min(value, LARGEST))))
    return trace, held


@given(STEPS)
def test_the_extremes_the_first_and_the_last_are_those_of_all_values(pairs):
    trace, held = walked(pairs)
    steps = list(trace.steps())
    assert bool(trace) == bool(held)
    if held:
        assert trace.extremes() == (min(v for _, v in held), max(v for _, v in held))
        assert (steps[0].at, steps[0].first) == held[0]
        assert (steps[-1].until, steps[-1].last) == held[-1]
    assert all(one.at <= one.until < other.at for one, other in pairwise(steps))


def test_a_million_values_take_no_more_room_than_a_picture_shows_and_no_peak_is_lost():
    trace = Trace()
    for n in range(200_000):
        trace.take(n * 0.37, 1.0 if n % 1000 else float(n))
    steps = list(trace.steps())
    assert STEPS_MAX / 3 < len(steps) <= STEPS_MAX
    assert [s.high for s in steps if s.high > 1] == sorted({s.high for s in steps if s.high > 1})
    assert trace.extremes() == (0.0, 199_000.0)


def test_a_time_that_goes_back_counts_as_the_newest():
    trace = Trace()
    trace.take(10.0, 1.0)
    trace.take(5.0, 2.0)
    (step,) = trace.steps()
    assert (step.at, step.until, step.last) == (10.0, 10.0, 2.0)
