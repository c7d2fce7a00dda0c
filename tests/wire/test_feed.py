"""A feed's payloads, read and refused; fuzzed for "nothing else comes out"."""

import json
import math
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from killswitch.domain.messages import BadReading, Beat, Reading
from killswitch.wire import feed
from killswitch.wire.feed import (
    STREAM_READINGS_MAX,
    FeedShape,
    HeartShape,
    ShapeError,
    StreamHeart,
    StreamShape,
    read_stream,
)

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


# --- messages of a WebSocket ---------------------------------------------------------------------------------

DESK = StreamShape(
    name="desk",
    reading="margin",
    value="data.positions.margin",
    labels={"account": "data.positions.acct", "venue": "data.venue"},
    time="data.positions.ts",
)
FLAT = StreamShape(name="flat", reading="margin", value="margin", labels={"account": "acct"})


def stream(shape, message):
    raw = message if isinstance(message, bytes) else json.dumps(message).encode()
    return list(read_stream(shape, raw, wall=WALL))


def told(shape, message):
    """Each reading as (labels, value or reason)."""
    return [(dict(r.labels or ()), r.value if isinstance(r, Reading) else r.reason) for r in stream(shape, message)]


def desk(*rows, **more):
    return {"op": "update", "data": {"venue": "X", "positions": list(rows)} | more}


def row(account, margin, lag_s=1):
    return {"acct": account, "margin": margin, "ts": (WALL - lag_s) * 1000}


def test_a_message_without_lists_is_one_reading():
    assert stream(FLAT, {"acct": 14, "margin": "0.75", "more": 1}) == [
        Reading(wall=WALL, feed="flat", name="margin", labels=(("account", "14"),), value=0.75)
    ]


def test_each_element_of_a_list_on_the_way_is_a_reading_with_its_own_labels_and_time():
    readings = stream(DESK, desk(row(14, 0.5, 3), row(15, 0.75, 2)))
    assert [(dict(r.labels), r.value, r.lag_s, r.fresh) for r in readings] == [
        ({"account": "14", "venue": "X"}, 0.5, 3.0, True),
        ({"account": "15", "venue": "X"}, 0.75, 2.0, True),
    ]


def test_a_bad_element_is_bad_alone():
    found = told(DESK, desk(row(14, 0.5), row(15, "high"), row(16, None), {"acct": 17}, {}, row(18, 0.25)))
    assert found == [
        ({"account": "14", "venue": "X"}, 0.5),
        ({"account": "15", "venue": "X"}, "not_a_number"),
        ({"account": "16", "venue": "X"}, "not_a_number"),
        ({"account": "17", "venue": "X"}, "no_value"),
        ({}, "no_label"),
        ({"account": "18", "venue": "X"}, 0.25),
    ]


def test_an_element_that_lacks_everything_is_bad_and_a_message_that_does_is_none():
    shape = StreamShape(name="s", reading="m", value="rows.m", labels={"account": "rows.id"})
    assert told(shape, {"rows": [{}, "x", {"id": 14, "m": 1}]}) == [
        ({}, "no_label"),
        ({}, "no_label"),
        ({"account": "14"}, 1.0),
    ]
    assert told(shape, {"rows": {}}) == []


def test_lists_within_lists_and_a_list_at_the_top_are_gone_through():
    nested = StreamShape(
        name="n", reading="m", value="desks.rows.m", labels={"desk": "desks.id", "row": "desks.rows.id"}
    )
    said = [
        {"desks": [{"id": 1, "rows": [{"id": 1, "m": 1}, {"id": 2, "m": 2}]}, {"id": 2, "rows": [{"id": 1, "m": 3}]}]},
        {"desks": [{"id": 3, "rows": []}]},
    ]
    assert told(nested, said) == [
        ({"desk": "1", "row": "1"}, 1.0),
        ({"desk": "1", "row": "2"}, 2.0),
        ({"desk": "2", "row": "1"}, 3.0),
    ]
    numbers = StreamShape(name="n", reading="m", value="a")
    assert told(numbers, {"a": [1, 2, "x", [3]]}) == [({}, 1.0), ({}, 2.0), ({}, "not_a_number"), ({}, "not_a_number")]


def test_a_label_in_a_list_that_the_value_is_not_in_is_no_label():
    shape = StreamShape(name="s", reading="m", value="rows.m", labels={"account": "accts.id"})
    assert told(shape, {"rows": [{"m": 1}], "accts": [{"id": 14}]}) == [({}, "no_label")]
    assert told(shape, {"rows": [{"m": 1}], "accts": {"id": [14]}}) == [({}, "bad_label")]


@pytest.mark.parametrize(
    "message",
    [
        {"op": "subscribed", "channel": "margin"},
        {"data": {"positions": []}},
        {"data": {}},
        {"data": None},
        {"event": "heartbeat", "ts": 1},
        [],
        [1, "hb"],
        5,
        None,
        b'"pong"',
    ],
)
def test_what_holds_neither_value_nor_label_is_passed_over(message):
    assert stream(DESK, message) == []
    assert stream(FLAT, message) == []


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ({"acct": 14}, ({"account": "14"}, "no_value")),
        ({"margin": 1}, ({}, "no_label")),
        ({"acct": 14.0, "margin": 1}, ({}, "bad_label")),
        ({"acct": None, "margin": 1}, ({}, "bad_label")),
        ({"acct": [14], "margin": 1}, ({}, "bad_label")),
        ({"acct": 14, "margin": True}, ({"account": "14"}, "not_a_number")),
        ({"acct": 14, "margin": {}}, ({"account": "14"}, "not_a_number")),
        (b'{"acct":14,"margin":NaN}', ({}, "not_json")),
        (b'{"acct":14,"margin":1e999}', ({"account": "14"}, "out_of_range")),
        (b"pong", ({}, "not_json")),
        (b"", ({}, "not_json")),
        (b'{"acct":14,"margin":1}' + b" " * 2**20, ({}, "too_long")),
    ],
)
def test_what_is_meant_as_a_reading_and_is_none_is_bad(message, found):
    assert told(FLAT, message) == [found]


def test_an_element_without_its_time_is_bad():
    assert told(DESK, desk({"acct": 14, "margin": 1})) == [({"account": "14", "venue": "X"}, "bad_time")]


def test_a_message_of_too_many_readings_ends_in_a_bad_one():
    shape = StreamShape(name="s", reading="m", value="a")
    found = told(shape, {"a": [1] * (STREAM_READINGS_MAX + 5)})
    assert len(found) == STREAM_READINGS_MAX + 1
    assert found[-1] == ({}, "too_long")


def test_a_message_nested_deeper_than_anything_is_no_crash():
    deep = b'{"data":' * 900 + b"1" + b"}" * 900
    assert stream(DESK, deep) == []
    assert told(FLAT, b"[" * 100_000) == [({}, "not_json")]


@pytest.mark.parametrize("path", ["", ".", "a.", "a..b", ".".join("a" * 33)])
def test_a_path_that_can_not_be_is_refused(path):
    with pytest.raises(ShapeError):
        StreamShape(name="s", reading="m", value=path)
    with pytest.raises(ShapeError):
        StreamShape(name="s", reading="m", value="a", labels={"b": path})


@given(st.binary(max_size=300))
def test_whatever_the_bytes_of_a_message_only_readings_come_out(message):
    for shape in (DESK, FLAT):
        check(stream(shape, message))


no_numbers = st.recursive(
    st.none() | st.booleans() | st.sampled_from(["NaN", "inf", "-Infinity", "", " 1", "1 ", "0x1", "1,5", "high"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["margin", "acct", "data", "positions", "venue", "ts"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(no_numbers, st.sampled_from(["margin", "row", "positions", "data", "message"]))
def test_no_malformed_message_passes_for_a_value(value, where):
    """Wherever something that is no number takes a value's place, nothing but the good rows beside it is read."""
    said = {
        "margin": desk(row(14, 1), row(15, value)),
        "row": desk(row(14, 1), value),
        "positions": desk(positions=value),
        "data": {"data": value},
        "message": value,
    }[where]
    readings = stream(DESK, said)
    check(readings)
    good = [dict(r.labels)["account"] for r in readings if isinstance(r, Reading)]
    assert good == (["14"] if where in ("margin", "row") else [])


@given(st.sampled_from(["margin", "acct", "ts", "row", "positions", "data"]), json_values)
def test_whatever_a_part_of_a_message_says_only_readings_come_out(name, value):
    said = desk({**row(14, 1), name: value}, value if name == "row" else row(15, 1))
    if name in ("positions", "data"):
        said = desk(positions=value) if name == "positions" else {"data": value}
    check(stream(DESK, said))


# --- hearts -------------------------------------------------------------------------------------------------


@given(st.binary(max_size=100), st.booleans())
def test_every_message_of_a_heart_is_a_beat_whatever_it_says_and_says_whether_it_was_kept(payload, retained):
    shape = HeartShape(name="h", topic="traders/1/beat")
    assert shape.subscription == "traders/1/beat"
    assert (shape.matches("traders/1/beat"), shape.matches("traders/2/beat")) == (True, False)
    (beat,) = feed.read(shape, "traders/1/beat", payload, retained=retained, wall=7.0)
    assert beat == Beat(wall=7.0, feed="h", retained=retained)
    assert list(read_stream(StreamHeart(name="w"), payload, wall=7.0)) == [Beat(wall=7.0, feed="w")]


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a/{account}", "a\0"])
def test_a_heart_has_one_topic(topic):
    with pytest.raises(ShapeError):
        HeartShape(name="h", topic=topic)


def test_a_reading_says_whether_a_broker_kept_it_even_if_it_has_a_time_of_its_own():
    shape = FeedShape(name="f", topic="t", reading="x", value="v", time="ts")
    (kept,) = feed.read(shape, "t", b'{"v":1,"ts":1000}', retained=True, wall=2.0)
    (live,) = feed.read(shape, "t", b'{"v":1,"ts":1000}', retained=False, wall=2.0)
    assert (kept.retained, kept.fresh, live.retained, live.fresh) == (True, True, False, True)
