"""A chart: where things lie, round ticks, and nothing from a recording that a browser would run."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.pictures.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, Mark, plain, svg, ticks
from killswitch.pictures.traces import Trace

T0 = 1_772_000_000.0


def trace(*pairs):
    held = Trace()
    for at_s, value in pairs:
        held.take(T0 + at_s, value)
    return held


def drawn(*lines, marks=(), began=0.0, ended=10.0):
    return ET.fromstring(svg("a title", lines, marks, T0 + began, T0 + ended))


def points(path):
    """(x, y) of every corner."""
    x = y = 0.0
    found = []
    for letter, first, second in re.findall(r"([MHV])([-\d.]+)(?: ([-\d.]+))?", path.get("d")):
        x = float(first) if letter in "MH" else x
        y = float(second) if letter == "M" else float(first) if letter == "V" else y
        found.append((x, y))
    return found


def test_a_value_holds_until_the_next_and_the_last_one_until_the_end():
    (path,) = drawn(Line("a", trace((0, 0.0), (5, 10.0)))).iter("path")
    middle, right = LEFT + (WIDTH - LEFT - RIGHT) / 2, WIDTH - RIGHT
    found = points(path)
    assert found[0][0] == LEFT
    assert (middle, found[0][1]) in found
    assert found[-1][0] == right
    assert found[-1][1] < found[0][1]


def test_what_lies_beyond_the_limit_is_drawn_beyond_its_line():
    value, limit = drawn(Line("v", trace((0, 0.0), (5, 60.0))), Line("l", trace((0, 50.0)), limit=True)).iter("path")
    (edge,) = {y for _, y in points(limit)}
    assert min(y for _, y in points(value)) < edge < max(y for _, y in points(value))


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.floats(allow_nan=False)), max_size=20),
    st.floats(0, 1e9),
)
def test_whatever_is_drawn_lies_within_the_picture(pairs, ended):
    at, steps = 0.0, []
    for ahead, value in pairs:
        at += ahead
        steps.append((at, value))
    for path in drawn(Line("a", trace(*steps)), ended=ended).iter("path"):
        for x, y in points(path):
            assert LEFT - 0.1 <= x <= WIDTH - RIGHT + 0.1
            assert TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 50, [0, 10, 20, 30, 40, 50]), (-52, 52, [-50, 0, 50]), (1e-3, 1.1e-3, None), (5, 5, [5])],
)
def test_ticks_are_round_and_about_five(low, high, expected):
    found = ticks(low, high)
    if expected is not None:
        assert found == expected
    assert all(low <= t <= high * (1 + 1e-9) for t in found)
    assert 1 <= len(found) <= 6


def test_numbers_at_the_axis_are_short():
    assert [plain(v) for v in (0, 0.25, 1200, 2.5e6, -3e9, 1e15, 1e-7)] == [
        "0", "0.25", "1,200", "2.5M", "-3G", "1e+15", "1e-07",
    ]  # fmt: skip


def test_texts_from_a_recording_stay_texts():
    evil = '<script>alert("x")</script>'
    text = svg(evil, [Line(evil, trace((0, 1.0)))], [Mark(T0, "trip", evil)], T0, T0 + 1)
    assert "<script" not in text
    assert evil in "".join(ET.fromstring(text).itertext())


def test_marks_that_would_hide_one_another_are_one_that_tells_how_many():
    marks = [Mark(T0 + n / 1000, "trip", f"trip {n}") for n in range(100)] + [Mark(T0 + 9, "trip", "late")]
    titles = [t.text for t in drawn(marks=marks).iter("title")]
    assert titles[-1] == "late"
    assert 2 <= len(titles) <= 30
    assert "more here" in titles[0]
