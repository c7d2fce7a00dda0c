"""A recording's lines: what was written is what is read, to the digit, and nothing else is read at all."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from killswitch.domain.messages import (
    BadReading,
    Beat,
    FeedDown,
    FeedUp,
    Heard,
    Listed,
    Merged,
    Reading,
    RestsOn,
    SessionDown,
    SessionUp,
)
from killswitch.wire.recording import Began, Line, Missing, RecordingError, decode, encode

AT = 1_772_357_400.25
texts = st.text(min_size=1, max_size=40)
walls = st.integers(0, 4_000_000_000_000_000).map(lambda micros: micros / 1_000_000)
labels = st.dictionaries(texts, texts, max_size=4).map(lambda held: tuple(sorted(held.items())))
decimals = st.decimals(allow_nan=False, allow_infinity=False)
floats = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.one_of(decimals, floats)
whole = st.integers(0, 10**9)
ids = st.sets(st.integers(1, 10**18).map(str), max_size=4).map(lambda held: tuple(sorted(held)))
events = st.one_of(
    st.builds(
        Reading,
        wall=walls,
        feed=st.one_of(st.just(""), texts),
        name=texts,
        labels=labels,
        value=numbers,
        lag_s=st.floats(0, 1e9),
        fresh=st.booleans(),
        retained=st.booleans(),
        source_at=st.one_of(st.none(), st.floats(0, 1e10)),
        merged=st.one_of(st.none(), st.builds(Merged, count=whole, total=decimals, older=whole, repeated=whole)),
    ),
    st.builds(BadReading, wall=walls, feed=texts, name=texts, labels=st.one_of(st.none(), labels), reason=texts),
    st.builds(Beat, wall=walls, feed=texts, retained=st.booleans()),
    st.builds(FeedUp, wall=walls, feed=texts),
    st.builds(FeedDown, wall=walls, feed=texts, why=st.just("recorded")),
    st.builds(SessionUp, wall=walls, oms=texts, gateway=st.just(""), session=whole),
    st.builds(SessionDown, wall=walls, oms=texts, gateway=st.just(""), session=whole, why=st.just("recorded")),
    st.builds(Heard, wall=walls, oms=texts, session=whole),
    st.builds(Listed, wall=walls, session=whole, what=st.sampled_from(["positions", "orders", "prices"]), which=whole),
    st.builds(
        RestsOn, wall=walls, oms=texts, name=texts, labels=labels, instruments=ids, lacks=st.one_of(st.just(""), texts)
    ),
    st.builds(Began, wall=walls, daemon=texts, armed=st.lists(st.tuples(texts, texts), max_size=3).map(tuple)),
    st.builds(Missing, wall=walls, lost=whole),
)


@given(st.builds(Line, event=events, clock_s=st.one_of(st.none(), st.floats(0, 1e9))))
def test_what_is_written_is_read_again_to_the_digit(line):
    text = encode(line)
    back = decode(text)
    assert "\n" not in text
    assert isinstance(json.loads(text), dict)
    assert abs(back.event.wall - line.event.wall) < 2e-6
    assert decode(encode(back)) == back
    if isinstance(line.event, Reading):
        value = line.event.value
        assert back.event.value == (value if isinstance(value, Decimal) else Decimal(repr(value)))
        assert (back.event.labels, back.event.fresh) == (line.event.labels, line.event.fresh)
        assert back.event.retained == line.event.retained
    if isinstance(line.event, Beat | Began):
        assert dataclasses.replace(back.event, wall=line.event.wall) == line.event


def reading(value, **more):
    return Reading(wall=AT, feed="var", name="var", labels=(("account", "14"),), value=value, **more)


def test_a_line_looks_as_it_is_documented():
    assert encode(Line(reading(Decimal("50.10")), 12.5)) == (
        '{"at":"2026-03-01T09:30:00.250000Z","clock_s":12.5,"feed":"var","reading":"var",'
        '"labels":{"account":"14"},"value":50.10}'
    )


@pytest.mark.parametrize("value", [0.1, 1e-7, 123456789.125, Decimal("0.1000"), Decimal("1E+5"), Decimal("-0.0")])
def test_a_number_stays_as_it_was_written(value):
    written = encode(Line(reading(value)))
    assert written.endswith(f'"value":{value!r}}}' if isinstance(value, float) else f'"value":{value}}}')
    assert str(decode(written).event.value) == str(Decimal(str(value)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN"), Decimal("-Infinity")])
def test_what_is_no_number_is_never_written_as_one(value):
    with pytest.raises(RecordingError):
        encode(Line(reading(value)))


def test_the_shortest_line_has_no_feed_and_may_have_whole_numbers_as_labels():
    line = decode('{"at":"2026-03-01T10:30:00.25+01:00","reading":"var","labels":{"b":14,"a":"x"},"value":3}')
    assert line == Line(Reading(wall=AT, feed="", name="var", labels=(("a", "x"), ("b", "14")), value=Decimal(3)), None)


GOOD = {"at": "2026-03-01T09:30:00Z", "reading": "var", "labels": {}, "value": 1}
NONE = object()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"at": NONE}, "at is missing"),
        ({"at": "2026-03-01T09:30:00"}, "at must be a time with a zone"),
        ({"at": 1772357400}, "at must be a time with a zone"),
        ({"at": "2026-02-30T09:30:00Z"}, "no calendar"),
        ({"reading": NONE}, "reading is missing"),
        ({"reading": ""}, "reading must be text"),
        ({"reading": 5}, "reading must be text"),
        ({"value": "1"}, "value must be a number"),
        ({"value": True}, "value must be a number"),
        ({"value": None}, "value must be a number"),
        ({"value": NONE}, "exactly one of"),
        ({"bad": "x"}, "exactly one of"),
        ({"labels": []}, "labels must be an object"),
        ({"labels": {"a": 1.5}}, 'label "a" must be text or a whole number'),
        ({"labels": {"a": None}}, 'label "a" must be text or a whole number'),
        ({"labels": {"a": True}}, 'label "a" must be text or a whole number'),
        ({"vale": 1}, 'unknown key: "vale"'),
        ({"fresh": "no"}, "fresh and retained must be true or false"),
        ({"retained": "no"}, "fresh and retained must be true or false"),
        (
            {"value": NONE, "labels": NONE, "reading": NONE, "feed": "f", "beat": "dead"},
            "beat must be live or retained",
        ),
        ({"clock_s": "1"}, "clock_s must be a number"),
        ({"lag_s": 10**30}, "lag_s must be a number"),
    ],
)
def test_a_mistake_in_a_line_is_named(change, said):
    with pytest.raises(RecordingError, match=said):
        decode(json.dumps({k: v for k, v in (GOOD | change).items() if v is not NONE}))


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "1", "null", "{", "{}", "NaN", "[" * 16_000, '{"at":"x"' + "," * 9),
        json.dumps(GOOD)[:-1] + ',"value":2}',
        json.dumps(GOOD).replace("1}", "NaN}"),
        json.dumps(GOOD).replace("1}", "-Infinity}"),
        json.dumps(GOOD).replace("1}", "1" + "0" * 500 + "}"),
        json.dumps(GOOD).replace("1}", "1e99999999999999999999}"),
        json.dumps(GOOD) + " " * 20_000,
        '{"at":"2026-03-01T09:30:00Z","feed":"var","link":"sideways"}',
        '{"at":"2026-03-01T09:30:00Z","oms":"prime","session":1.5,"saw":"up"}',
        '{"at":"2026-03-01T09:30:00Z","oms":"prime","session":-1,"saw":"up"}',
        '{"at":"2026-03-01T09:30:00Z","oms":"prime","session":1,"saw":"it"}',
    ],
)
def test_what_is_no_line_is_refused(text):
    with pytest.raises(RecordingError):
        decode(text)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
KEYS = [*GOOD, "feed", "bad", "link", "saw", "oms", "session", "account", "start", "lost", "clock_s", "source_at"]


@given(st.one_of(st.text(), st.dictionaries(st.sampled_from(KEYS), json_values).map(lambda d: json.dumps(GOOD | d))))
@example('{"at":"9999-12-31T23:59:59-23:59","lost":1}')
@example('{"at":"0001-01-01T00:00:00+23:59","lost":1}')
def test_any_text_is_a_line_or_a_sentence(text):
    with contextlib.suppress(RecordingError):
        assert decode(text).event.wall < 1e12
