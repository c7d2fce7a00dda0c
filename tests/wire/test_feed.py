"""A feed's payloads, read and refused; fuzzed for "nothing else comes out"."""

import json
import math
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.messages import BadReading, Reading
from killswitch.wire import feed
from killswitch.wire.feed import FeedShape, ShapeError

WALL = 1795341600.0  # 2026-11-22T10:00:00Z
VAR = FeedShape(
    name="var",
    topic="risk/{account}/var",
    reading="var",
    value="var.value",
    labels={"instrument": "inst"},
    time="ts",
)
PLAIN = FeedShape(name="plain", topic="margin", reading="margin_usage")


def read(shape, payload, *, topic=None, retained=False):
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return feed.read(shape, topic or shape.topic.replace("{account}", "14"), raw, retained=retained, wall=WALL)


def only(shape, payload, **how):
    (reading,) = read(shape, payload, **how)
    return reading


def reason(shape, payload, **how):
    bad = only(shape, payload, **how)
    assert isinstance(bad, BadReading)
    assert (bad.feed, bad.name, bad.wall) == (shape.name, shape.reading, WALL)
    return bad.reason


def var(**changes):
    said = {"var": {"value": 12.5}, "inst": 25, "ts": "2026-11-22T09:59:58Z"} | changes
    return {name: value for name, value in said.items() if value is not ...}


def test_a_reading_takes_its_value_labels_and_time_from_where_the_feed_says():
    assert only(VAR, var()) == Reading(
        wall=WALL,
        feed="var",
        name="var",
        labels=(("account", "14"), ("instrument", "25")),
        value=12.5,
        lag_s=2.0,
        fresh=True,
        source_at=WALL - 2,
    )


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"51.2", 51.2),
        (b"-3", -3.0),
        (b'"51.2"', 51.2),
        (b" 5e1 ", 50.0),
        (b"0", 0.0),
        (b"-0.0", 0.0),
        (b"18446744073709551616", 2.0**64),
    ],
)
def test_a_payload_may_be_the_number_itself(payload, value):
    reading = only(PLAIN, payload)
    assert reading.value == value
    assert type(reading.value) is float
    assert (reading.labels, reading.lag_s, reading.source_at, reading.fresh) == ((), 0.0, None, True)


@pytest.mark.parametrize(
    "payload", [b"abc", b"nan", b"NaN", b"inf", b"-Infinity", b"0x10", b"01", b"1,5", b"\xff", b"{", b"["]
)
def test_what_is_no_json_is_bad(payload):
    assert reason(PLAIN, payload) == "not_json"


@pytest.mark.parametrize(
    "payload",
    [
        b"true",
        b"null",
        b'""',
        b'"NaN"',
        b'"inf"',
        b'" 5"',
        b'"5 "',
        b'"1_0"',
        b'"+5"',
        b'"05"',
        b'"5."',
        b"[5]",
        b"{}",
        '"\u0665"'.encode(),
    ],
)
def test_text_booleans_and_null_are_no_numbers(payload):
    assert reason(PLAIN, payload) == "not_a_number"


@pytest.mark.parametrize(
    "payload",
    [
        b"1e999",
        b'"1e999"',
        b"1e-999",
        b"1e99999999999999999999",
        b"9" * 65,
        b"9" * 20_000,
        b'"' + b"9" * 90 + b'"',
    ],
)
def test_a_number_beyond_any_reading_is_bad(payload):
    assert reason(PLAIN, payload) in {"out_of_range", "not_json"}


@pytest.mark.parametrize("name", ["position", "hold", "equity", "price", "open_orders", "open_notional"])
@pytest.mark.parametrize("payload", [b"50.1", b'"50.1"'])
def test_money_is_exact(name, payload):
    reading = only(FeedShape(name="f", topic="t", reading=name), payload)
    assert type(reading.value) is Decimal
    assert str(reading.value) == "50.1"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"var": ...}, "no_value"),
        ({"var": 12.5}, "no_value"),
        ({"var": {}}, "no_value"),
        ({"var": {"value": None}}, "not_a_number"),
        ({"var": {"value": True}}, "not_a_number"),
        ({"var": {"value": "high"}}, "not_a_number"),
        ({"inst": ...}, "no_label"),
        ({"inst": None}, "bad_label"),
        ({"inst": 14.0}, "bad_label"),
        ({"inst": True}, "bad_label"),
        ({"inst": ""}, "bad_label"),
        ({"inst": "x" * 201}, "bad_label"),
        ({"inst": "a\nb"}, "bad_label"),
        ({"inst": [1]}, "bad_label"),
        ({"ts": ...}, "bad_time"),
        ({"ts": None}, "bad_time"),
        ({"ts": "10:00"}, "bad_time"),
        ({"ts": "2026-11-22T10:00:00"}, "bad_time"),
        ({"ts": True}, "bad_time"),
        ({"ts": 1e300}, "bad_time"),
        ({"ts": "2026-02-30T10:00:00Z"}, "bad_time"),
    ],
)
def test_a_missing_or_wrong_field_makes_a_bad_reading(changes, why):
    assert reason(VAR, var(**changes)) == why


def test_a_bad_reading_keeps_the_labels_that_could_be_read():
    assert only(VAR, var(var={"value": None})).labels == (("account", "14"), ("instrument", "25"))
    assert only(VAR, b"garbage").labels == (("account", "14"),)
    assert only(PLAIN, b"garbage").labels is None


@pytest.mark.parametrize(("said", "label"), [(25, "25"), ("25", "25"), ("BTC", "BTC"), (-1, "-1"), (2**63, str(2**63))])
def test_whole_numbers_and_their_text_are_one_series(said, label):
    assert dict(only(VAR, var(inst=said)).labels)["instrument"] == label


def test_a_level_of_the_topic_is_text_as_it_stands():
    assert dict(only(VAR, var(), topic="risk/007/var").labels)["account"] == "007"
    assert reason(VAR, var(), topic="risk//var") == "bad_label"
    assert reason(VAR, var(), topic="risk/14/15/var") == "no_label"


@pytest.mark.parametrize(
    ("said", "lag_s"),
    [
        ("2026-11-22T09:59:50Z", 10.0),
        ("2026-11-22T10:59:50.000+01:00", 10.0),
        ((WALL - 10) * 1000, 10.0),
        (int((WALL - 10) * 1000) + 500, 9.5),
        ("2026-11-22T11:00:00Z", 0.0),
    ],
)
def test_lag_is_arrival_less_source_time_and_never_below_zero(said, lag_s):
    assert only(VAR, var(ts=said)).lag_s == pytest.approx(lag_s)


def test_a_retained_reading_without_a_time_of_its_own_is_not_fresh():
    assert only(PLAIN, b"5", retained=True).fresh is False
    assert only(PLAIN, b"5").fresh is True
    assert only(VAR, var(), retained=True).fresh is True


def test_a_cleared_retained_reading_is_nothing():
    assert read(PLAIN, b"") == ()


def test_a_payload_longer_than_any_reading_is_bad():
    assert reason(PLAIN, b" " * 70_000 + b"5") == "too_long"


def test_a_topic_is_subscribed_with_a_wildcard_for_each_label():
    shape = FeedShape(name="f", topic="a/{x}/b/{y}", reading="r")
    assert shape.subscription == "a/+/b/+"
    assert shape.matches("a/1/b/2")
    assert not shape.matches("a/1/c/2")
    assert not shape.matches("a/1/b")


@pytest.mark.parametrize(
    "shape",
    [
        {"topic": ""},
        {"topic": "a/+"},
        {"topic": "a/#"},
        {"topic": "a/x{b}"},
        {"topic": "{a}/{a}"},
        {"topic": "{a}", "value": "v", "labels": {"a": "b"}},
        {"topic": "t", "value": "a..b"},
        {"topic": "t", "labels": {"a": "b"}},
        {"topic": "t", "time": "ts"},
    ],
)
def test_a_shape_that_can_not_be_is_refused(shape):
    with pytest.raises(ShapeError):
        FeedShape(name="f", reading="r", **shape)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.from_regex(r"-?[0-9]+e[0-9]{1,25}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


def check(readings):
    for reading in readings:
        assert isinstance(reading, Reading | BadReading)
        if isinstance(reading, Reading):
            assert math.isfinite(reading.value)
            assert reading.lag_s >= 0
        else:
            assert reading.reason in get_args(feed.Reason)


@given(st.binary(max_size=300), st.text(max_size=30), st.booleans())
def test_whatever_the_bytes_only_readings_come_out(payload, topic, retained):
    for shape in (VAR, PLAIN):
        check(feed.read(shape, topic, payload, retained=retained, wall=WALL))


@given(st.sampled_from(["var", "inst", "ts"]), json_values, st.sampled_from(["var", "position"]))
def test_whatever_a_field_says_only_readings_come_out(name, value, reading):
    shape = FeedShape(
        name="f",
        topic="t/{account}",
        reading=reading,
        value="var.value",
        labels={"instrument": "inst"},
        time="ts",
    )
    said = {"value": value} if name == "var" else value
    check(read(shape, var(**{name: said}), topic="t/1"))


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_written_number_is_kept_exactly_or_refused(number):
    shape = FeedShape(name="f", topic="t", reading="position")
    for payload in (f"{number}", f'"{number}"'):
        reading = only(shape, payload.encode())
        if isinstance(reading, Reading):
            assert reading.value == number
        else:
            assert reading.reason == "out_of_range"
